"""Errors of proxies, and the events that a proxy observes in a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import NASError

if TYPE_CHECKING:
    import keras

#: A tensor of the backend that Keras uses; there is no type that all backends share.
Tensor = Any
#: Tensors, or arrays, in nested lists, tuples and dictionaries.
Structure = Any
#: Registers a tensor under a key, so that a gradient with respect to it can be taken later.
#: Returns the tensor to use in its place.
Watch = Callable[[Hashable, Tensor], Tensor]

#: The worst score: the proxy is not defined for this network, or overflowed.
WORST = float("-inf")


class ProxyError(NASError, ValueError):
    """A proxy or one of its arguments cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Event:
    """An event in the forward pass of a network.

    Attributes:
        kind: ``linear``, the output of a layer before its own activation function, once per
            call of a layer without sublayers; ``activation``, the input of an activation
            function or layer; ``output``, the output of a layer.
        operation: The layer, or the operation of `keras.ops` in a functional model.
        tensor: Shape ``[batch, ...]``.
        inputs: Tensors that the layer was called with; only for ``output``.
        name: Name of the activation function in lower case; only for ``activation``.
        leaf: Whether the layer has no sublayers.
        graph: Whether the operation is a node of a functional or sequential model (at any
            depth), rather than called in the `call` method of another layer.
    """

    kind: str
    operation: keras.Operation
    tensor: Tensor
    inputs: tuple[Tensor, ...] = ()
    name: str = ""
    leaf: bool = True
    graph: bool = True

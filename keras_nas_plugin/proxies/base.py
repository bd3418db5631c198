"""What a proxy is, and what it sees of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import NASError

if TYPE_CHECKING:
    from keras_nas_plugin.proxies.context import Context

#: The worst score: the proxy is not defined for this network, or overflowed.
WORST = float("-inf")


class ProxyError(NASError, ValueError):
    """A proxy, or what it was given, cannot be used; the message says what is needed."""


@dataclasses.dataclass(frozen=True, eq=False)
class Event:
    """Something that happened while a network ran.

    Attributes:
        kind: ``linear``, the output of a layer before its own activation function, once per
            call of a layer without sublayers; ``activation``, what goes into an activation
            function or layer; ``output``, what a layer returned.
        operation: The layer, or the operation of `keras.ops` in a functional model.
        tensor: Shape ``[batch, ...]``.
        inputs: Tensors that the layer was called with; for ``output`` alone.
        name: Of the activation function, lower case; for ``activation`` alone.
        leaf: Whether the layer has no sublayers.
        graph: Whether it is a node of a functional or sequential model (of any depth), and not
            hidden in the `call` method of another layer.
    """

    kind: str
    operation: Any
    tensor: Any
    inputs: tuple[Any, ...] = ()
    name: str = ""
    leaf: bool = True
    graph: bool = True


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A score of an untrained network. Larger is better, for every proxy.

    Attributes:
        compute: Gives the score; `-inf` where the network is as bad as can be.
        observe: Sees the events of the pass over the batch, and returns a tensor to keep or
            None; `Context.observed` has what was kept.
        needs: Of ``labels`` (a loss and ``y``), ``inputs`` (gradients with respect to ``x``) and
            ``watch`` (gradients of the loss with respect to the observed ``linear`` tensors).
    """

    compute: Callable[[Context], float]
    observe: Callable[[Event], Any] | None = None
    needs: frozenset[str] = frozenset()

"""The linear network behind a network, run without overflow; for `synaptic_flow`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import ProxyError
from keras_nas_plugin.proxies.running import name_of, replaced
from keras_nas_plugin.proxies.state import untouched

_L = keras.layers
# Twice the inputs give twice the output: known, so not tried.
_LINEAR = (
    *(_L.Dense, _L.EinsumDense, _L.Embedding, _L.Identity, _L.Dropout, _L.SpatialDropout2D),
    *(_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.Conv1DTranspose, _L.Conv2DTranspose),
    *(_L.DepthwiseConv1D, _L.DepthwiseConv2D, _L.SeparableConv1D, _L.SeparableConv2D),
    *(_L.MaxPooling1D, _L.MaxPooling2D, _L.AveragePooling1D, _L.AveragePooling2D),
    *(_L.GlobalAveragePooling1D, _L.GlobalAveragePooling2D, _L.GlobalMaxPooling1D),
    *(_L.GlobalMaxPooling2D, _L.Flatten, _L.Reshape, _L.Permute, _L.ZeroPadding2D),
    *(_L.Add, _L.Average, _L.Maximum, _L.Minimum, _L.Concatenate),
)
# What these give for large positive inputs: 1, as a gate that is open.
_SATURATING = frozenset("sigmoid hard_sigmoid hardsigmoid tanh hard_tanh hardtanh".split())
_TOLERANCE = 1e-3


@contextlib.contextmanager
def positive(model: keras.Model) -> Iterator[None]:
    """Absolute values in place of all weights, zero in place of offsets, while this lasts."""
    with untouched(model):
        for weight in model.weights:
            if not keras.backend.is_float_dtype(weight.dtype):
                continue
            offset = weight.name in ("bias", "beta")
            value = weight.value
            weight.assign(keras.ops.zeros_like(value) if offset else keras.ops.abs(value))
        yield


class Untracked(Exception):
    """A tensor came to a layer that none gave: a constant, or one of another type."""


class Flow:
    """Calls a model as a linear network of positive numbers, each tensor with its own scale.

    Normalisations and activation functions are the identity: positive numbers pass a ReLU as
    they are. Functions that saturate are 1 (an open gate), a softmax inside of the network
    gives equal shares; at the output both are left out. `Rescaling` keeps its factor.

    A tensor t stands for ``t * exp(s)``, with s chosen so that its largest entry is 1. s is a
    constant for the gradient, so that the gradient of the final t is that of the true output
    divided by ``exp(s)``: nothing overflows on the way there or back, however deep the network
    is. Inside of a layer with sublayers, and in subclassed models, numbers are not rescaled.

    Args:
        model: Any Keras model that is built.
        operations: Its layers, see `layers.walk`; None to walk.
        rescale: Whether to do so at all.

    Attributes:
        scale: Of what the last call returned.
    """

    def __init__(
        self,
        model: keras.Model,
        operations: list[keras.Operation] | None = None,
        *,
        rescale: bool = True,
    ) -> None:
        self._model = model
        self._rescale = rescale and layers.is_transparent(model)
        self._operations = layers.walk(model) if operations is None else operations
        self._depth = 0
        self._problem = ProxyError()
        self.scale = 0.0
        self._forget()

    def _forget(self) -> None:
        # By the id of a tensor, which is kept so that its id stays taken.
        self._scales: dict[int, tuple[Any, float]] = {}
        self._before: dict[int, tuple[Any, Any]] = {}
        self._current = 0.0

    def __call__(self, x: Any) -> Any:
        """Sum of the outputs without their last activation, divided by ``exp(self.scale)``.

        Raises:
            ProxyError: A layer is not linear.
            Untracked: Tensors were changed between the layers: call it without scales.
        """
        self._forget()
        for one in keras.tree.flatten(x):
            self._scales[id(one)] = (one, 0.0)
        try:
            with replaced(self._operations, self._around, self._activate):
                outputs = keras.tree.flatten(self._model(x, training=False))
        except ProxyError:
            # Keras adds the arguments of every layer on the way to the message.
            raise self._problem from None
        outputs = [self._before.get(id(one), (one, one))[1] for one in outputs]
        outputs, self.scale = self._aligned(outputs, [self._scale(one) for one in outputs])
        self._forget()
        return sum(keras.ops.sum(one) for one in outputs)

    def _scale(self, tensor: Any) -> float:
        if not self._rescale or self._depth:
            return 0.0
        if id(tensor) not in self._scales:
            raise Untracked
        return self._scales[id(tensor)][1]

    def _put(self, tensor: Any, scale: float) -> Any:
        self._scales[id(tensor)] = (tensor, scale)
        return tensor

    @staticmethod
    def _aligned(tensors: list[Any], scales: list[float]) -> tuple[list[Any], float]:
        """The same numbers with one scale, the largest; what is far smaller vanishes."""
        largest = max(scales)
        if math.isinf(largest):
            return tensors, 0.0  # all are zero
        pairs = zip(tensors, scales, strict=True)
        return [
            one if scale == largest else one * math.exp(scale - largest) for one, scale in pairs
        ], largest

    def _around(self, operation: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if layers.is_transparent(operation) or isinstance(operation, _L.InputLayer):
            return call(*args, **kwargs)
        flat = keras.tree.flatten((args, kwargs))
        places = [i for i, one in enumerate(flat) if _is_real_tensor(one)]
        simple = self._simple(operation, [flat[i] for i in places])
        if simple is not None:
            return simple
        if self._depth:
            return call(*args, **kwargs)
        return self._rescaled(operation, call, (args, kwargs), flat, places)

    def _simple(self, operation: Any, inputs: list[Any]) -> Any:
        """What needs no call of the layer; None for the rest."""
        name = layers.activation_of(operation)
        if name:
            return self._activate(operation, name, inputs[0])
        if isinstance(operation, layers.NORMALISATIONS):
            return inputs[0]
        if isinstance(operation, _L.Rescaling):
            factor = keras.ops.abs(keras.ops.convert_to_tensor(operation.scale, inputs[0].dtype))
            return self._normalised(inputs[0] * factor, self._scale(inputs[0]))
        if isinstance(operation, _L.Multiply):
            product = inputs[0]
            for one in inputs[1:]:
                product = product * one
            return self._normalised(product, sum(map(self._scale, inputs)))
        return None

    def _rescaled(
        self, operation: Any, call: Callable, arguments: tuple, flat: list[Any], places: list[int]
    ) -> Any:
        """Call a layer on inputs of one scale, and give its output a scale of its own."""
        tensors, scale = [], 0.0
        if places:
            inputs = [flat[i] for i in places]
            tensors, scale = self._aligned(inputs, [self._scale(one) for one in inputs])
        self._current = scale

        def run(factor: float) -> Any:
            changed = list(flat)
            for i, tensor in zip(places, tensors, strict=True):
                changed[i] = tensor if factor == 1 else tensor * factor
            args, kwargs = keras.tree.pack_sequence_as(arguments, changed)
            self._depth += 1
            try:
                return call(*args, **kwargs)
            finally:
                self._depth -= 1

        output = run(1.0)
        if operation is self._model or id(output) in self._before:
            return output  # a subclassed model as a whole, or an open gate: of scale zero
        if isinstance(operation, _L.Subtract):
            output = sum(tensors)
        elif not isinstance(operation, _LINEAR) and not _is_linear(output, run):
            self._problem = ProxyError(
                f"`synflow` needs layers that are linear in what they get, apart from "
                f"activation functions; {type(operation).__name__} {operation.name!r} is not"
            )
            raise self._problem
        return keras.tree.map_structure(lambda one: self._normalised(one, scale), output)

    def _normalised(self, tensor: Any, scale: float) -> Any:
        if self._depth or not self._rescale or not _is_real_tensor(tensor):
            return tensor
        largest = _largest(tensor)
        if largest == 0:
            return self._put(tensor, -math.inf)
        return self._put(tensor / largest, scale + math.log(largest))

    def _activate(self, operation: Any, function: Any, tensor: Any) -> Any:
        """Stands in for activation functions, and for activation layers by their names."""
        name = function if isinstance(function, str) else name_of(function)
        if name in _SATURATING:
            output = keras.ops.ones_like(tensor)
        elif "softmax" in name:
            output = keras.ops.softmax(keras.ops.zeros_like(tensor))
        else:
            return tensor
        if id(tensor) not in self._scales:
            self._put(tensor, self._current if self._depth == 1 else 0.0)
        self._before[id(output)] = (output, tensor)
        return self._put(output, 0.0)


def _is_real_tensor(value: Any) -> bool:
    return keras.ops.is_tensor(value) and keras.backend.is_float_dtype(
        keras.backend.standardize_dtype(value.dtype)
    )


def _is_linear(output: Any, run: Callable[[float], Any]) -> bool:
    """Whether twice the inputs of a layer give twice its output."""
    doubled = keras.tree.flatten(run(2.0))
    for one, other in zip(keras.tree.flatten(output), doubled, strict=True):
        if _is_real_tensor(one) and _largest(other - 2 * one) > _TOLERANCE * _largest(one):
            return False
    return True


def _largest(tensor: Any) -> float:
    return float(keras.ops.stop_gradient(keras.ops.max(keras.ops.abs(tensor))))

"""A model, run with someone looking on.

Keras has no hooks: the public method ``call`` of every layer is replaced on the instance while a
run lasts, and so is the attribute ``activation``. It works for nested and subclassed models,
which a second model with more outputs would not reach into, and costs no rebuild.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import Event

# What turns logits into probabilities: proxies that speak of outputs mean the logits. (The sum
# of a softmax is 1 whatever the input, and its gradient is zero.)
_SQUASHING = frozenset(("softmax", "log_softmax", "logsoftmax", "sigmoid"))

Look = Callable[[Event], Any]


class Run:
    """Call a model, with batch norm on the statistics of the batch.

    Everything else is called as at inference: dropout, noise and augmentation would add their
    own randomness to the score.

    Args:
        model: Any Keras model that is built.
        look: Called for every `Event`; what it returns takes the place of the tensor, None
            leaves it. (What goes into an activation cannot be replaced.)
        operations: The layers, see `layers.walk`; None to walk.
    """

    def __init__(
        self,
        model: keras.Model,
        look: Look | None = None,
        operations: list[keras.Operation] | None = None,
    ) -> None:
        self._model = model
        self._look = look or (lambda event: None)
        self._operations = layers.walk(model) if operations is None else operations
        self._composite = {id(one) for one in self._operations if layers.children(one)}
        # How many layers with a `call` of their own we are in.
        self._depth = 0
        # What went into an activation, by the id of what came out (kept, so that ids stay taken).
        self._before: dict[int, tuple[Any, Any]] = {}

    def __call__(self, x: Any) -> tuple[Any, list[Any]]:
        """Outputs of the model in their structure, and a list of them without softmax."""
        with replaced(self._operations, self._around, self._activate):
            outputs = self._model(x, training=False)
        flat = keras.tree.flatten(outputs)
        logits = [self._before.get(id(one), (one, one))[1] for one in flat]
        self._before.clear()
        return outputs, logits

    def _around(self, operation: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        if isinstance(operation, keras.layers.BatchNormalization):
            kwargs = {**kwargs, "training": True}
        if layers.is_transparent(operation) or isinstance(operation, keras.layers.InputLayer):
            return call(*args, **kwargs)
        inputs = tuple(filter(keras.ops.is_tensor, keras.tree.flatten((args, kwargs))))
        before = self._before_activation(operation, inputs)
        self._depth += 1
        try:
            output = call(*args, **kwargs)
        finally:
            self._depth -= 1
        if not keras.ops.is_tensor(output):
            return output
        if before is not None and layers.activation_of(operation) in _SQUASHING:
            self._before[id(output)] = (output, before)
        return self._after(operation, inputs, output)

    def _before_activation(self, operation: Any, inputs: tuple) -> Any:
        """What goes into an activation layer; None for any other."""
        name = layers.activation_of(operation)
        if not name or not inputs:
            return None
        self._look(Event("activation", operation, inputs[0], name=name, graph=self._depth == 0))
        return inputs[0]

    def _after(self, operation: Any, inputs: tuple, output: Any) -> Any:
        leaf = id(operation) not in self._composite
        graph = self._depth == 0
        if leaf and layers.fused(operation) is None:
            output = self._replace(Event("linear", operation, output, graph=graph), output)
        event = Event("output", operation, output, inputs=inputs, leaf=leaf, graph=graph)
        return self._replace(event, output)

    def _activate(self, operation: Any, function: Callable, tensor: Any) -> Any:
        """Stands in for the activation function of a layer."""
        graph = self._depth == 1
        leaf = id(operation) not in self._composite
        if leaf:
            event = Event("linear", operation, tensor, graph=graph)
            tensor = self._replace(event, tensor)
        name = name_of(function)
        self._look(Event("activation", operation, tensor, name=name, leaf=leaf, graph=graph))
        output = function(tensor)
        if name in _SQUASHING:
            self._before[id(output)] = (output, tensor)
        return output

    def _replace(self, event: Event, tensor: Any) -> Any:
        other = self._look(event)
        if other is None or other is tensor:
            return tensor
        if id(tensor) in self._before:
            self._before[id(other)] = (other, self._before[id(tensor)][1])
        return other


@contextlib.contextmanager
def replaced(
    operations: list[keras.Operation],
    around: Callable[[Any, Callable, tuple, dict], Any],
    activate: Callable[[Any, Callable, Any], Any],
) -> Iterator[None]:
    """Put functions in place of the ``call`` and ``activation`` of all layers while this lasts.

    Args:
        operations: The layers.
        around: ``around(layer, call, args, kwargs)``, with the layer's own ``call``.
        activate: ``activate(layer, function, tensor)``, with its own activation function.
    """
    undo: list[Callable[[], None]] = []
    try:
        for operation in operations:
            undo.append(_replace(operation, "call", _call(operation, around)))
            function = layers.fused(operation)
            if function is not None:
                stand_in = functools.partial(activate, operation, function)
                undo.append(_replace(operation, "activation", stand_in))
        yield
    finally:
        for one in reversed(undo):
            one()


def _call(operation: keras.Operation, around: Callable) -> Callable:
    original = operation.call

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return around(operation, original, args, kwargs)

    return call


def _replace(operation: keras.Operation, name: str, value: Any) -> Callable[[], None]:
    """Set an attribute past Keras' tracking, which would take it for a part of the layer.

    Returns:
        A function that brings back what was there.
    """
    own = vars(operation)
    had, before = name in own, own.get(name)
    object.__setattr__(operation, name, value)
    if had:
        return lambda: object.__setattr__(operation, name, before)
    return lambda: object.__delattr__(operation, name)


def name_of(function: Any) -> str:
    """Lower-case name of an activation function, or of the layer that serves as one."""
    return getattr(function, "__name__", type(function).__name__).lower()

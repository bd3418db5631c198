"""Running a model with an observer of its layers.

Keras has no hooks for this: during a run, the public method ``call`` of every layer is replaced on
the instance, and so is the attribute ``activation``. Unlike a second model with more outputs, this
works inside nested and subclassed models, and the model need not be rebuilt.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import Event, Structure, Tensor

# Functions from logits to probabilities. Proxies use the logits as outputs: the sum of a softmax
# is 1 for every input, so its gradient is zero.
_SQUASHING = frozenset(("softmax", "log_softmax", "logsoftmax", "sigmoid"))

#: Observes an event, and returns a tensor that replaces the event's, or None.
Look = Callable[[Event], Tensor | None]
#: A layer's `call` method or its activation function.
Call = Callable[..., Any]


class Run:
    """Calls a model, with batch norm using the statistics of the batch.

    All other layers run in inference mode: dropout, noise and augmentation would add randomness
    to the score.

    Args:
        model: Any built Keras model.
        look: Called for every `Event`; its result replaces the tensor unless it is None. (The
            input of an activation cannot be replaced.)
        operations: The layers, see `layers.walk`; None to find them.
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
        self._composite = {
            id(operation) for operation in self._operations if layers.children(operation)
        }
        # Number of enclosing layers with their own `call`.
        self._depth = 0
        # Inputs of activations by the id of their output; the output is stored too, so that its
        # id is not reused.
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Structure) -> tuple[Structure, list[Tensor]]:
        """Outputs of the model in their structure, and a list of their logits."""
        with replaced(self._operations, self._around, self._activate):
            outputs = self._model(x, training=False)
        flat = keras.tree.flatten(outputs)
        logits = [self._before.get(id(output), (output, output))[1] for output in flat]
        self._before.clear()
        return outputs, logits

    def _around(
        self, operation: keras.Operation, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Structure:
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

    def _before_activation(
        self, operation: keras.Operation, inputs: tuple[Tensor, ...]
    ) -> Tensor | None:
        """The input of an activation layer; None for any other layer."""
        name = layers.activation_of(operation)
        if not name or not inputs:
            return None
        self._look(Event("activation", operation, inputs[0], name=name, graph=self._depth == 0))
        return inputs[0]

    def _after(
        self, operation: keras.Operation, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        leaf = id(operation) not in self._composite
        graph = self._depth == 0
        if leaf and layers.fused(operation) is None:
            output = self._replace(Event("linear", operation, output, graph=graph), output)
        event = Event("output", operation, output, inputs=inputs, leaf=leaf, graph=graph)
        return self._replace(event, output)

    def _activate(self, operation: keras.Operation, function: Call, tensor: Tensor) -> Tensor:
        """Called in place of the activation function of a layer."""
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

    def _replace(self, event: Event, tensor: Tensor) -> Tensor:
        replacement = self._look(event)
        if replacement is None or replacement is tensor:
            return tensor
        if id(tensor) in self._before:
            self._before[id(replacement)] = (replacement, self._before[id(tensor)][1])
        return replacement


@contextlib.contextmanager
def replaced(
    operations: list[keras.Operation],
    around: Callable[[keras.Operation, Call, tuple[Any, ...], dict[str, Any]], Structure],
    activate: Callable[[keras.Operation, Call, Tensor], Tensor],
) -> Iterator[None]:
    """Replace the ``call`` and ``activation`` of all layers within the context.

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
                replacement = functools.partial(activate, operation, function)
                undo.append(_replace(operation, "activation", replacement))
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _call(operation: keras.Operation, around: Call) -> Call:
    original = operation.call

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return around(operation, original, args, kwargs)

    return call


def _replace(operation: keras.Operation, name: str, value: Call) -> Callable[[], None]:
    """Set an attribute without Keras' tracking, which would add it to the layer.

    Returns:
        A function that restores the attribute.
    """
    own = vars(operation)
    had, before = name in own, own.get(name)
    object.__setattr__(operation, name, value)
    if had:
        return lambda: object.__setattr__(operation, name, before)
    return lambda: object.__delattr__(operation, name)


def name_of(function: Call) -> str:
    """Lower-case name of an activation function, or of a layer that serves as such."""
    return getattr(function, "__name__", type(function).__name__).lower()

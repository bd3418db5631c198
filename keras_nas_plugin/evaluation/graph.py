"""A Keras model as the list of its layer calls, with nested models expanded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import CostError

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: The layer or operation; a shared layer occurs in several calls.
        args: Positional arguments, with `keras.KerasTensor` in place of tensors.
        kwargs: Keyword arguments, likewise.
        inputs: All tensors among the arguments.
        outputs: The tensors that it returns.
        reads: The number in `Graph.tensors` of each input tensor. It identifies the tensor if
            several calls use it.
        writes: The number in `Graph.tensors` of each output tensor.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """All calls of a model; each one follows the calls whose outputs it reads.

    Attributes:
        calls: Calls in the order of a depth-first traversal from the outputs.
        inputs: Numbers of the input tensors.
        outputs: Numbers of the output tensors.
        tensors: Every tensor by number.
    """

    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: dict[int, keras.KerasTensor]


def is_functional(model: object) -> bool:
    """Whether a model is a graph of layers: functional, or a `Sequential` that is built."""
    import keras

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    # A subclass that overrides `call` may do anything with its layers.
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    return owner is keras.Sequential or issubclass(owner, keras.Function)


def graph_of(model: keras.Model) -> Graph:
    """The calls of a functional or built Sequential model.

    A nested model is expanded if it is called with the shapes that it was built with; otherwise it
    is one call.

    Args:
        model: The model.

    Raises:
        CostError: The model is neither functional nor a built Sequential model.
    """
    if not is_functional(model):
        raise CostError(
            "`model` must be functional, or a Sequential model with a known input; "
            f"got {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    traversal = _Traversal()
    inputs = [traversal.number(tensor) for tensor in model.inputs]
    outputs = traversal.visit(model, dict(zip(map(id, model.inputs), inputs, strict=True)))
    return Graph(tuple(traversal.calls), tuple(inputs), tuple(outputs), traversal.tensors)


class _Traversal:
    """Collects calls and numbers tensors."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tensors: dict[int, keras.KerasTensor] = {}

    def number(self, tensor: keras.KerasTensor) -> int:
        number = len(self.tensors)
        self.tensors[number] = tensor
        return number

    def visit(self, model: keras.Model, numbers: dict[int, int]) -> list[int]:
        """Add the calls of a model.

        Args:
            model: The model.
            numbers: Numbers of its input tensors by identity; those of other tensors are added.

        Returns:
            Numbers of its output tensors.
        """
        for node in _nodes(model.outputs, numbers):
            inputs, outputs = tuple(node.input_tensors), tuple(node.output_tensors)
            reads = tuple(numbers[id(tensor)] for tensor in inputs)
            operation = node.operation
            if is_functional(operation) and _shapes(operation.inputs) == _shapes(inputs):
                inner_numbers = dict(zip(map(id, operation.inputs), reads, strict=True))
                writes = tuple(self.visit(operation, inner_numbers))
            else:
                writes = tuple(self.number(tensor) for tensor in outputs)
                args, kwargs = tuple(node.arguments.args), dict(node.arguments.kwargs)
                call = Call(operation, args, kwargs, inputs, outputs, reads, writes)
                self.calls.append(call)
            numbers.update(zip(map(id, outputs), writes, strict=True))
        return [numbers[id(tensor)] for tensor in model.outputs]


def _nodes(outputs: Sequence[keras.KerasTensor], numbers: Mapping[int, int]) -> Iterator[Any]:
    """Keras' nodes that lead to ``outputs``, each after the nodes that it depends on.

    Keras 3.15 stores them in `KerasTensor._keras_history` and `Operation._inbound_nodes`; it has
    no public API from a tensor to the call that made it.
    """
    visited: set[int] = set()
    # A stack rather than recursion, because a deep model would exceed Python's recursion limit.
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, expanded = stack.pop()
        if id(tensor) in numbers:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in visited:
            continue
        if expanded:
            visited.add(id(node))
            yield node
        else:
            stack.append((tensor, True))
            stack += [(source, False) for source in reversed(node.input_tensors)]


def _shapes(tensors: Sequence[keras.KerasTensor]) -> list[tuple[int | None, ...]]:
    return [tuple(tensor.shape)[1:] for tensor in tensors]


def sizes_of(tensors: Sequence[keras.KerasTensor]) -> list[Shape]:
    """Shapes with a batch of one.

    Raises:
        CostError: A dimension other than the batch is unknown.
    """
    shapes = []
    for tensor in tensors:
        shape = tuple(tensor.shape)
        if None in shape[1:]:
            raise CostError(
                "all dimensions except the batch must be known to determine costs; got shape "
                f"{shape} of {getattr(tensor, 'name', 'a tensor')!r}"
            )
        shapes.append((1, *shape[1:]) if shape and shape[0] is None else shape)
    return shapes


def layer_label(layer: keras.Layer) -> str:
    """Name and class of a layer, for messages: ``layer 'dense' (Dense)``."""
    return f"layer {layer.name!r} ({type(layer).__name__})"


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """A model and all layers in it, at any depth, in the order in which they were created.

    Keras has no public method for this: `Model.layers` ends at the first level, and layers that
    are not models have nothing like it (`Layer._flatten_layers`, 3.15). A Sequential model gets
    its input layer when it is built, so input layers do not count.

    Args:
        model: Any model.
    """
    import keras

    layers = model._flatten_layers()
    return [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


def built_shapes(model: keras.Model) -> Any:
    """The shapes that a model which is no graph was built with, for a batch of one.

    Args:
        model: A subclassed model that was built or called.

    Returns:
        The shape of its input; for several inputs, a dictionary, list or tuple of shapes, nested
        as in the call.

    Raises:
        CostError: It does not know the shapes, or a dimension other than the batch is unknown.
    """
    shapes = (model.get_build_config() or {}).get("input_shape")
    if not shapes:
        raise CostError(
            f"`model` must know the shape of its input; got {type(model).__name__} "
            f"{model.name!r}, which does not"
        )
    return map_shapes(_with_batch_of_one, shapes)


def _with_batch_of_one(shape: Shape) -> Shape:
    if None in shape[1:]:
        raise CostError(
            "all dimensions except the batch must be known to determine costs; got shape "
            f"{shape} of an input"
        )
    return (1, *shape[1:])


def map_shapes(function: Callable[[Shape], Any], shapes: Any) -> Any:
    """Apply a function to each shape in a dictionary, list or tuple of shapes.

    >>> map_shapes(len, {"a": (1, 2), "b": [(1,), (1, 2, 3)]})
    {'a': 2, 'b': [1, 3]}
    """
    if isinstance(shapes, Mapping):
        return {key: map_shapes(function, value) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return function(tuple(shapes))
    return type(shapes)(map_shapes(function, value) for value in shapes)


def volume(shape: Sequence[int]) -> int:
    """Number of elements.

    >>> volume((1, 4, 4, 3)), volume(())
    (48, 1)
    """
    return math.prod(shape)

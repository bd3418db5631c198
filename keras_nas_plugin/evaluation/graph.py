"""A Keras model as the list of its layer calls, nested models taken apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from keras_nas_plugin.errors import CostError

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: The `keras.Operation`, which a shared layer has in several calls.
        args: Positional arguments, with `keras.KerasTensor` in place of tensors.
        kwargs: Keyword arguments likewise.
        inputs: All tensors among the arguments.
        outputs: What it returns.
        reads: One number per input, equal where calls share a tensor.
        writes: One number per output.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
    """All calls of a model, each after those whose results it takes.

    Attributes:
        calls: In the order of a depth-first walk back from the outputs.
        inputs: Numbers of the tensors that come in.
        outputs: Numbers of those that come out.
        tensors: Every tensor by its number.
    """

    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: dict[int, Any]


def is_functional(model: Any) -> bool:
    """Whether a model is a graph of layers: functional, or a `Sequential` that is built."""
    import keras

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    # A subclass with a `call` of its own may do anything with its layers.
    owner = next(one for one in type(model).__mro__ if "call" in vars(one))
    return owner is keras.Sequential or issubclass(owner, keras.Function)


def graph_of(model: Any) -> Graph:
    """The calls of a functional or built Sequential model.

    A nested model that was called on the shapes that it was built on is taken apart; any other
    stays one call.

    Args:
        model: The model.

    Raises:
        CostError: It is neither.
    """
    if not is_functional(model):
        raise CostError(
            "`model` needs to be functional, or a Sequential model with a known input; "
            f"received {type(model).__name__} {getattr(model, 'name', '')!r}"
        )
    walk = _Walk()
    inputs = [walk.number(tensor) for tensor in model.inputs]
    outputs = walk.follow(model, dict(zip(map(id, model.inputs), inputs, strict=True)))
    return Graph(tuple(walk.calls), tuple(inputs), tuple(outputs), walk.tensors)


class _Walk:
    """Collects calls and gives each tensor a number."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tensors: dict[int, Any] = {}

    def number(self, tensor: Any) -> int:
        number = len(self.tensors)
        self.tensors[number] = tensor
        return number

    def follow(self, model: Any, known: dict[int, int]) -> list[int]:
        """Add the calls of a model; ``known`` gives numbers of tensors by identity."""
        for node in _nodes(model.outputs, known):
            inputs, outputs = tuple(node.input_tensors), tuple(node.output_tensors)
            reads = tuple(known[id(tensor)] for tensor in inputs)
            inner = node.operation
            if is_functional(inner) and _shapes(inner.inputs) == _shapes(inputs):
                numbers = dict(zip(map(id, inner.inputs), reads, strict=True))
                writes = tuple(self.follow(inner, numbers))
            else:
                writes = tuple(self.number(tensor) for tensor in outputs)
                args, kwargs = tuple(node.arguments.args), dict(node.arguments.kwargs)
                call = Call(inner, args, kwargs, inputs, outputs, reads, writes)
                self.calls.append(call)
            known.update(zip(map(id, outputs), writes, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]


def _nodes(outputs: Sequence[Any], known: dict[int, int]) -> Iterator[Any]:
    """Calls that lead to ``outputs``, each after those before it.

    Keras 3.15 keeps them in `KerasTensor._keras_history` and `Operation._inbound_nodes`; there
    is no public way from a tensor to the call that made it.
    """
    done: set[int] = set()
    # A stack, since a deep model has more calls than Python allows to nest.
    waiting = [(tensor, False) for tensor in reversed(outputs)]
    while waiting:
        tensor, ready = waiting.pop()
        if id(tensor) in known:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
        else:
            waiting.append((tensor, True))
            waiting += [(one, False) for one in reversed(node.input_tensors)]


def _shapes(tensors: Sequence[Any]) -> list[tuple]:
    return [tuple(tensor.shape)[1:] for tensor in tensors]


def sizes_of(tensors: Sequence[Any]) -> list[Shape]:
    """Shapes with a batch of one.

    Raises:
        CostError: Another dimension is not known.
    """
    shapes = []
    for tensor in tensors:
        shape = tuple(tensor.shape)
        if None in shape[1:]:
            raise CostError(
                f"costs need known shapes beside the batch; received {shape} of "
                f"{getattr(tensor, 'name', 'a tensor')!r}"
            )
        shapes.append((1, *shape[1:]) if shape and shape[0] is None else shape)
    return shapes


def volume(shape: Sequence[int]) -> int:
    """Number of elements.

    >>> volume((1, 4, 4, 3)), volume(())
    (48, 1)
    """
    return math.prod(shape)

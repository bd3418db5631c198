"""The computations of a supernet as a graph, and which of them a mask needs."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.supernet.layout import MaskLayout


class Weights:
    """The weights of a mask while a supernet is computed.

    Args:
        layout: Layout of the mask.
        mask: A tensor of shape ``[layout.size]``.
    """

    def __init__(self, layout: MaskLayout, mask: Any) -> None:
        self._layout = layout
        self._mask = mask
        self._joint: dict[tuple[str, ...], Any] = {}
        self._active: dict[Width, Any] = {}

    def joint(self, names: Sequence[str]) -> Any:
        """Products of the weights of several decisions, for each combination of their values.

        Args:
            names: Names of the decisions.

        Returns:
            Shape ``[combinations]``, in the order of `MaskLayout.combinations`.
        """
        key = tuple(names)
        if key not in self._joint:
            product = ops.ones((1,), self._mask.dtype)
            for name in key:
                weights = self._mask[self._layout.slice(name)]
                product = ops.reshape(product[:, None] * weights[None, :], (-1,))
            self._joint[key] = product
        return self._joint[key]

    def active(self, width: Width) -> Any:
        """Weight of each channel, computed once: see `Width.active`."""
        if width not in self._active:
            self._active[width] = width.active(self)
        return self._active[width]


class Width(abc.ABC):
    """Which channels of a tensor are active; the others are zero.

    Attributes:
        total: Number of channels, the largest width.
    """

    total: int

    @abc.abstractmethod
    def active(self, weights: Weights) -> Any:
        """Weight of each channel, shape ``[total]``: 1 or 0 for a single architecture."""


@dataclasses.dataclass(frozen=True)
class SearchedWidth(Width):
    """The first channels, as many as some decisions determine.

    Attributes:
        names: The decisions.
        sizes: Width for each combination of their values.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def total(self) -> int:  # type: ignore[override]
        """See `Width`."""
        return max(self.sizes)

    def active(self, weights: Weights) -> Any:
        """See `Width.active`."""
        table = np.arange(self.total)[None, :] < np.array(self.sizes)[:, None]
        return ops.matmul(
            weights.joint(self.names), ops.convert_to_tensor(table.astype("float32"))
        )


@dataclasses.dataclass(frozen=True, eq=False)
class PaddedWidth(Width):
    """The channels of a tensor, followed by zeros.

    Attributes:
        part: Width of the tensor; None if all of its channels are active.
        size: Number of its channels.
        total: Number of channels with the zeros.
    """

    part: Width | None
    size: int
    total: int

    def active(self, weights: Weights) -> Any:
        """See `Width.active`."""
        inner = ops.ones((self.size,)) if self.part is None else weights.active(self.part)
        return ops.pad(inner, [[0, self.total - self.size]])


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedWidth(Width):
    """The channels of several tensors, one after the other.

    Attributes:
        parts: Width of each tensor, or its number of channels if all are active.
    """

    parts: tuple[Width | int, ...]

    @property
    def total(self) -> int:  # type: ignore[override]
        """See `Width`."""
        return sum(part if isinstance(part, int) else part.total for part in self.parts)

    def active(self, weights: Weights) -> Any:
        """See `Width.active`."""
        return ops.concatenate(
            [
                ops.ones((part,)) if isinstance(part, int) else weights.active(part)
                for part in self.parts
            ]
        )


@dataclasses.dataclass(frozen=True, eq=False)
class MixedWidth(Width):
    """The channels of the option that a decision selects.

    Attributes:
        gate: Weights of the options.
        parts: Width of each option, all with the same total.
    """

    gate: Gate
    parts: tuple[Width, ...]

    @property
    def total(self) -> int:  # type: ignore[override]
        """See `Width`."""
        return self.parts[0].total

    def active(self, weights: Weights) -> Any:
        """See `Width.active`."""
        rows = ops.stack([weights.active(part) for part in self.parts])
        return ops.matmul(self.gate.weights(weights), rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Gate:
    """Weights of the options of a choice.

    Attributes:
        names: The decisions that select an option.
        groups: For each option, the combinations of their values that select it.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    def weights(self, weights: Weights) -> Any:
        """Weight of each option, shape ``[options]``."""
        joint = weights.joint(self.names)
        if self.groups == tuple((index,) for index in range(len(self.groups))):
            return joint
        combinations = 1 + max(index for group in self.groups for index in group)
        table = np.zeros((combinations, len(self.groups)), "float32")
        for option, group in enumerate(self.groups):
            table[list(group), option] = 1.0
        return ops.matmul(joint[:combinations], ops.convert_to_tensor(table))


@dataclasses.dataclass(frozen=True, eq=False)
class KernelMask:
    """The part of a kernel that is active: its centre, as large as some decisions determine.

    Source: Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient
    Deployment", section 3.2 (elastic kernel size), without the transformation matrices.

    Attributes:
        variable: Attribute of the layer that has the kernel.
        names: The decisions.
        sizes: Kernel size for each combination of their values.
        largest: The size of the kernel.
    """

    variable: str
    names: tuple[str, ...]
    sizes: tuple[tuple[int, ...], ...]
    largest: tuple[int, ...]

    def active(self, weights: Weights) -> Any:
        """Weight of each position, shape ``[*largest, 1, 1]``."""
        table = np.zeros((len(self.sizes), *self.largest), "float32")
        for index, size in enumerate(self.sizes):
            table[index][centre(self.largest, size)] = 1.0
        positions = ops.convert_to_tensor(table.reshape(len(self.sizes), -1))
        return ops.reshape(ops.matmul(weights.joint(self.names), positions), (*self.largest, 1, 1))


def centre(largest: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The slices that cut the centre out of a kernel.

    >>> centre((5, 5), (3, 1))
    (slice(1, 4, None), slice(2, 3, None))
    """
    return tuple(
        slice((full - part) // 2, (full - part) // 2 + part)
        for full, part in zip(largest, size, strict=True)
    )


@dataclasses.dataclass(eq=False)
class Vertex:
    """One computation of a supernet.

    Attributes:
        key: The same for the same computation in a network of one architecture.
        spec: Symbolic output, with the largest width.
        inputs: The computations that it depends on.
        width: Which channels of the output are active; None if all are.
        index: Position in the order of creation.
    """

    key: str
    spec: Any
    inputs: tuple[Vertex, ...] = ()
    width: Width | None = None
    index: int = -1


@dataclasses.dataclass(eq=False)
class InputVertex(Vertex):
    """An input of the model.

    Attributes:
        position: Its position among the inputs.
    """

    position: int = 0


@dataclasses.dataclass(eq=False)
class ZeroVertex(Vertex):
    """Zeros in the shape of the only input."""


@dataclasses.dataclass(eq=False)
class LayerVertex(Vertex):
    """A layer, or a block as a Keras model.

    Attributes:
        layer: The layer, which is built.
        kernel: The active part of its kernel; None for all of it.
        masks_output: Whether inactive channels of the output have to be set to zero.
        path: Path of the node in the description.
    """

    layer: Any = None
    kernel: KernelMask | None = None
    masks_output: bool = False
    path: str = ""


@dataclasses.dataclass(eq=False)
class ChoiceVertex(Vertex):
    """The sum of its inputs, each multiplied by its weight.

    Attributes:
        gate: Weights of the inputs.
    """

    gate: Gate = dataclasses.field(default_factory=lambda: Gate((), ()))


#: When a computation is needed: always (True), for an option of a choice that is needed itself
#: (the choice's own need, its vertex and the option's index), or in one of several cases.
Need = Any


@dataclasses.dataclass(frozen=True, eq=False)
class OptionNeed:
    """A computation is needed where a choice is needed that gives an option a weight."""

    choice_need: Need
    choice: ChoiceVertex
    option: int


@dataclasses.dataclass(frozen=True, eq=False)
class AnyNeed:
    """A computation is needed in any of several cases."""

    cases: frozenset[Need]


class Graph:
    """The vertices that the output of a supernet depends on, in topological order.

    Args:
        output: The output of the model.

    Attributes:
        order: The vertices.
        needs: When each is needed.
        segments: Vertices that are computed together, by the first of them: chains of layers
            that are needed in the same cases.
        terms: Segments, by their last vertex, whose only consumer is a choice between several
            options.
    """

    def __init__(self, output: Vertex) -> None:
        self.output = output
        self.order = _reachable(output)
        self.needs: dict[Vertex, Need] = _needs(self.order, output)
        consumers: dict[Vertex, list[Vertex]] = {vertex: [] for vertex in self.order}
        for vertex in self.order:
            for source in vertex.inputs:
                consumers[source].append(vertex)
        self.segments = self._segments(consumers)
        self.terms = {
            segment[-1]: segment
            for segment in self.segments.values()
            if [type(consumer) for consumer in consumers[segment[-1]]] == [ChoiceVertex]
            and len(consumers[segment[-1]][0].inputs) > 1
        }

    def _segments(self, consumers: Mapping[Vertex, list[Vertex]]) -> dict[Vertex, list[Vertex]]:
        segments: dict[Vertex, list[Vertex]] = {}
        segment_of: dict[Vertex, list[Vertex]] = {}
        for vertex in self.order:
            if not isinstance(vertex, LayerVertex):
                continue
            source = vertex.inputs[0]
            segment = segment_of.get(source)
            follows = (
                segment is not None
                and len(vertex.inputs) == 1
                and consumers[source] == [vertex]
                and self.needs[source] is self.needs[vertex]
            )
            if segment is None or not follows:
                segment = segments[vertex] = []
            segment.append(vertex)
            segment_of[vertex] = segment
        return segments


def _reachable(output: Vertex) -> list[Vertex]:
    seen, waiting = {output}, [output]
    while waiting:
        for source in waiting.pop().inputs:
            if source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(seen, key=lambda vertex: vertex.index)


def _needs(order: Sequence[Vertex], output: Vertex) -> dict[Vertex, Need]:
    cases: dict[Vertex, list[Need]] = {vertex: [] for vertex in order}
    cases[output].append(True)
    needs: dict[Vertex, Need] = {}
    # Needs are compared by identity: there is one object for each set of cases.
    unique: dict[frozenset[Need], AnyNeed] = {}
    for vertex in reversed(order):
        need = needs[vertex] = _any(cases[vertex], unique)
        for option, source in enumerate(vertex.inputs):
            single = not isinstance(vertex, ChoiceVertex) or len(vertex.inputs) == 1
            if isinstance(vertex, ChoiceVertex) and not single:
                cases[source].append(OptionNeed(need, vertex, option))
            else:
                cases[source].append(need)
    return needs


def _any(cases: Sequence[Need], unique: dict[frozenset[Need], AnyNeed]) -> Need:
    if any(case is True for case in cases):
        return True
    distinct = frozenset(cases)
    if len(distinct) == 1:
        return next(iter(distinct))
    return unique.setdefault(distinct, AnyNeed(distinct))


def static_size(spec: Any) -> bool:
    """Whether only the batch dimension of a symbolic tensor is unknown."""
    shape = getattr(spec, "shape", None)
    return shape is not None and len(shape) > 0 and None not in tuple(shape)[1:]


def channels(spec: keras.KerasTensor) -> int:
    """Size of the last dimension of a symbolic tensor."""
    return int(spec.shape[-1])


def repeated(width: Width, shape: Sequence[int]) -> JoinedWidth:
    """Width of a flattened tensor of a shape, channels last and without the batch dimension."""
    return JoinedWidth((width,) * math.prod(shape[:-1]))

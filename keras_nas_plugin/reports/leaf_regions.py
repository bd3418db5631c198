"""Leaves of a regression tree over a search space as disjoint boxes with known volumes.

A space with conditions is not the product of its decisions: some of them are inactive for some
configurations. It becomes a product if a value is drawn for every decision, active or not, and
the values of inactive decisions are ignored. In that product each leaf of a tree is a union of
disjoint boxes, so integrals over leaves are sums of products, as in spaces without conditions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_nas_plugin.space.columns import Column
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.space.spec import Decision, SearchSpec

# Ordered decisions with more values than this are split into equally probable cells.
_MAX_LISTED_VALUES = 64
_CELLS = 32
# Sampled positions per cell from which the probability of the cell is counted.
_POSITIONS_PER_CELL = 64

#: For each column the set of allowed cells as a bit mask; columns without restriction are
#: omitted.
Box = dict[int, int]


class FittedTree(Protocol):
    """The arrays of a fitted scikit-learn tree, one element per node."""

    feature: np.ndarray
    threshold: np.ndarray
    children_left: np.ndarray
    children_right: np.ndarray
    value: np.ndarray


class Grid:
    """The cells of each decision, their probabilities, and where each decision is active.

    Args:
        spec: The search space.

    >>> from keras_nas_plugin.space import Categorical, Condition
    >>> grid = Grid(SearchSpec((
    ...     Decision("kind", Categorical(("a", "b"))),
    ...     Decision("size", Categorical((1, 2, 3)), (Condition("kind", ("b",)),)),
    ... )))
    >>> grid.cells([{"kind": "b", "size": 3}, {"kind": "a"}]).tolist()
    [[1, 2], [0, -1]]
    >>> grid.volume(grid.active[1])
    0.5
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        self._encoding = encoding_of(spec)
        self.columns: tuple[Column, ...] = self._encoding.columns
        self._slots = _slots(spec)
        self._regions_by_slot: dict[int, list[Box]] = {}
        #: The decision of each column.
        self.decisions = tuple(decision for decision, column in self._slots if column is not None)
        self.sizes = tuple(_number_of_cells(column) for column in self.columns)
        #: The probability of each cell, per column.
        self.probabilities = tuple(
            _probabilities(column, size)
            for column, size in zip(self.columns, self.sizes, strict=True)
        )
        #: The region in which each column is active, as disjoint boxes.
        self.active = tuple(
            self._region_of_slot(slot)
            for slot, (_, column) in enumerate(self._slots)
            if column is not None
        )
        self._features = [self._feature_table(index) for index in range(len(self.columns))]
        #: The column of each feature.
        self.owners = np.repeat(
            np.arange(len(self.columns)), [table.shape[1] for table in self._features]
        )

    # ------------------------------------------------------------------ configurations

    def cells(self, configurations: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """The cell of each decision; -1 if it is inactive or its value is unknown.

        Returns:
            Integers of shape ``[n, columns]``.
        """
        codes = self._encoding.encode_many(configurations)
        cells = np.full(codes.shape, -1, dtype=np.intp)
        for index, (column, size) in enumerate(zip(self.columns, self.sizes, strict=True)):
            active = codes[:, index] >= 0.0
            cells[active, index] = _cells(column, size, codes[active, index])
        return cells

    def features(self, cells: np.ndarray) -> np.ndarray:
        """Input of the trees: shape ``[n, features]``, see `Encoding.features`."""
        parts = [table[cells[:, index]] for index, table in enumerate(self._features)]
        return np.concatenate([np.zeros((len(cells), 0), np.float32), *parts], axis=1)

    def _feature_table(self, index: int) -> np.ndarray:
        """Features of each cell of a column; the last row stands for the inactive decision."""
        size = self.sizes[index]
        if self.columns[index].ordered:
            positions = (np.arange(size) + 0.5) / size
            table = np.append(positions, 0.5)[:, None]
        else:
            table = np.eye(size + 1, size)
        if self.columns[index].conditional:
            table = np.column_stack([table, np.arange(size + 1) < size])
        return table.astype(np.float32)

    def values(self, index: int) -> list[Any]:
        """A value for each cell of a column: its only value, or the one in the middle."""
        column, size = self.columns[index], self.sizes[index]
        if column.values is not None and size == len(column.values):
            return list(column.values)
        return [column.value((cell + 0.5) / size) for cell in range(size)]

    # ------------------------------------------------------------------ regions

    def volume(self, region: Iterable[Box]) -> float:
        """Probability of a region given as disjoint boxes."""
        return float(sum(self._box_volume(box) for box in region))

    def _box_volume(self, box: Box) -> float:
        return math.prod(
            self.row(index, bits) @ self.probabilities[index] for index, bits in box.items()
        )

    def row(self, index: int, bits: int) -> np.ndarray:
        """A bit mask over the cells of a column as an array of zeros and ones."""
        return _row(self.sizes[index], bits)

    def _all_cells(self, index: int) -> int:
        return (1 << self.sizes[index]) - 1

    def _region_of_conditions(self, slot: int) -> list[Box]:
        """Where all conditions of a slot hold."""
        region: list[Box] = [{}]
        for condition in self._slots[slot][0].conditions:
            satisfied: list[Box] = []
            for parent in range(slot):
                if self._slots[parent][0].name == condition.parent:
                    allowed = self._region_of_values(parent, condition.values)
                    satisfied += intersect(self._region_of_slot(parent), allowed)
            region = intersect(region, satisfied)
        return region

    def _region_of_slot(self, slot: int) -> list[Box]:
        """Where a slot is active and no later slot of the same name is."""
        if slot not in self._regions_by_slot:
            region = self._region_of_conditions(slot)
            for later in range(slot + 1, len(self._slots)):
                if self._slots[later][0].name == self._slots[slot][0].name:
                    region = subtract(region, self._region_of_conditions(later), self._all_cells)
            self._regions_by_slot[slot] = region
        return self._regions_by_slot[slot]

    def _region_of_values(self, slot: int, allowed: Sequence[object]) -> list[Box]:
        """Where the value of a slot is in ``allowed``."""
        decision, index = self._slots[slot]
        if index is None:
            return [{}] if next(iter(decision.domain.values())) in allowed else []
        bits = _bits(value in allowed for value in self.values(index))
        return [{index: bits}] if bits else []

    # ------------------------------------------------------------------ trees

    def leaf_regions(self, tree: FittedTree) -> tuple[list[Box], np.ndarray]:
        """Partition the space by the leaves of a fitted tree.

        Args:
            tree: The ``tree_`` of a scikit-learn regressor that was fitted to `features`.

        Returns:
            Disjoint boxes that cover the space, and the tree's value in each.
        """
        regions: list[Box] = []
        values: list[float] = []
        nodes: list[tuple[int, Box]] = [(0, {})]
        while nodes:
            node, allowed = nodes.pop()
            feature = int(tree.feature[node])
            if feature < 0:
                boxes = self._leaf_boxes(allowed)
                regions += boxes
                values += [float(tree.value[node].flat[0])] * len(boxes)
                continue
            index, below = self._split(feature, float(tree.threshold[node]))
            # The bit after the last cell stands for the inactive decision.
            unrestricted = (self._all_cells(index) << 1) | 1
            bits_at_node = allowed.get(index, unrestricted)
            for child, bits in (
                (tree.children_left[node], bits_at_node & below),
                (tree.children_right[node], bits_at_node & ~below),
            ):
                if bits:
                    nodes.append((int(child), {**allowed, index: bits}))
        return regions, np.array(values)

    def _split(self, feature: int, threshold: float) -> tuple[int, int]:
        """The column of a feature, and a mask of its cells up to a threshold."""
        index = int(self.owners[feature])
        first = int(np.searchsorted(self.owners, index))
        return index, _bits(self._features[index][:, feature - first] <= threshold)

    def _leaf_boxes(self, allowed: Mapping[int, int]) -> list[Box]:
        """A leaf as boxes; its masks have one more bit, for the inactive decision."""
        region: list[Box] = [{}]
        for index, bits in allowed.items():
            all_cells = self._all_cells(index)
            cells, inactive = bits & all_cells, bool(bits >> self.sizes[index])
            if cells == all_cells and inactive:
                continue
            inside = intersect(self.active[index], [{index: cells}]) if cells else []
            if inactive:
                inside = inside + self._inactive[index]
            region = intersect(region, inside)
        return region

    @functools.cached_property
    def _inactive(self) -> list[list[Box]]:
        return [subtract([{}], active, self._all_cells) for active in self.active]


def intersect(first: Sequence[Box], second: Sequence[Box]) -> list[Box]:
    """The intersection of two regions; disjoint boxes stay disjoint.

    >>> intersect([{0: 0b011}], [{0: 0b110, 1: 0b1}, {0: 0b100}])
    [{0: 2, 1: 1}]
    """
    region = []
    for box in first:
        for restriction in second:
            overlap = dict(box)
            for index, bits in restriction.items():
                overlap[index] = overlap.get(index, bits) & bits
            if all(overlap.values()):
                region.append(overlap)
    return region


def subtract(
    region: Sequence[Box], removed: Sequence[Box], all_cells: Callable[[int], int]
) -> list[Box]:
    """A region without another one, as disjoint boxes.

    Args:
        region: Disjoint boxes.
        removed: The boxes to remove.
        all_cells: The mask of all cells of a column.

    >>> subtract([{}], [{0: 0b01, 1: 0b10}], lambda index: 0b11)
    [{0: 2}, {0: 1, 1: 1}]
    """
    difference = list(region)
    for removed_box in removed:
        pieces: list[Box] = []
        for box in difference:
            overlap = dict(box)
            for index, bits in removed_box.items():
                cells = overlap.get(index, all_cells(index))
                if cells & ~bits:
                    pieces.append({**overlap, index: cells & ~bits})
                overlap[index] = cells & bits
                if not overlap[index]:
                    break
        difference = pieces
    return difference


def _slots(spec: SearchSpec) -> list[tuple[Decision, int | None]]:
    """All decisions, each with its column of the encoding; constants have none."""
    slots: list[tuple[Decision, int | None]] = []
    columns = 0
    for decision in spec.decisions:
        constant = decision.domain.size == 1
        slots.append((decision, None if constant else columns))
        columns += not constant
    return slots


def _number_of_cells(column: Column) -> int:
    values = column.values
    if values is not None and (not column.ordered or len(values) <= _MAX_LISTED_VALUES):
        return len(values)
    return _CELLS


def _cells(column: Column, size: int, codes: np.ndarray) -> np.ndarray:
    if column.values is not None and size == len(column.values):
        return column.indices(codes)
    return np.minimum((codes * size).astype(np.intp), size - 1)


def _probabilities(column: Column, size: int) -> np.ndarray:
    """Counted over evenly spaced positions: exact if the values are equally probable."""
    positions = (np.arange(size * _POSITIONS_PER_CELL) + 0.5) / (size * _POSITIONS_PER_CELL)
    if not column.ordered:
        return np.full(size, 1.0 / size)
    counts = np.bincount(_cells(column, size, column.at(positions)), minlength=size)
    return counts / counts.sum()


def _bits(flags: Iterable[bool | np.bool_]) -> int:
    return sum(1 << index for index, flag in enumerate(flags) if flag)


@functools.lru_cache(maxsize=1 << 14)
def _row(size: int, bits: int) -> np.ndarray:
    return np.array([bits >> cell & 1 for cell in range(size)], dtype=float)

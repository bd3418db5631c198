"""Regression trees over a search space as disjoint boxes, with the volume of each.

A space with conditions is no product of its decisions: some are inactive in places. It becomes
one when a value is drawn for every decision, active or not, and those that are inactive are
ignored. In that product each leaf of a tree is a union of disjoint boxes, so that integrals
over the leaves are sums of products, as in spaces without conditions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.space.columns import Column
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.space.spec import Decision, SearchSpec

# Ordered decisions with more values than this are cut into equally probable cells.
_LISTED = 64
_CELLS = 32
# Positions that the probability of a cell is counted on, per cell.
_FINE = 64

#: Per column the cells that it may be in, as the bits of a number; columns that may be in any
#: cell are left out.
Box = dict[int, int]


class Grid:
    """The cells of each decision, how probable they are, and where they are active.

    Args:
        spec: The space.

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
        self._known: dict[int, list[Box]] = {}
        #: The decision of each column.
        self.decisions = tuple(one for one, column in self._slots if column is not None)
        self.sizes = tuple(_size(column) for column in self.columns)
        #: How probable each cell of each column is.
        self.probabilities = tuple(
            _probabilities(column, size)
            for column, size in zip(self.columns, self.sizes, strict=True)
        )
        #: Where each column counts, as disjoint boxes.
        self.active = tuple(
            self._counts(at) for at, (_, column) in enumerate(self._slots) if column is not None
        )
        self._features = [self._table(at) for at in range(len(self.columns))]
        #: The column that each feature belongs to.
        self.owners = np.repeat(
            np.arange(len(self.columns)), [table.shape[1] for table in self._features]
        )

    # ------------------------------------------------------------------ configurations

    def cells(self, many: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """The cell of each decision; -1 where it is inactive or has a foreign value.

        Returns:
            Integers of shape ``[n, columns]``.
        """
        codes = self._encoding.encode_many(many)
        found = np.full(codes.shape, -1, dtype=np.intp)
        for at, (column, size) in enumerate(zip(self.columns, self.sizes, strict=True)):
            known = codes[:, at] >= 0.0
            found[known, at] = _cells(column, size, codes[known, at])
        return found

    def features(self, cells: np.ndarray) -> np.ndarray:
        """What trees learn from: shape ``[n, features]``, see `Encoding.features`."""
        parts = [table[cells[:, at]] for at, table in enumerate(self._features)]
        return np.concatenate([np.zeros((len(cells), 0), np.float32), *parts], axis=1)

    def _table(self, at: int) -> np.ndarray:
        """The features of a column's cells; the last row stands for an inactive one."""
        size = self.sizes[at]
        if self.columns[at].ordered:
            positions = (np.arange(size) + 0.5) / size
            table = np.append(positions, 0.5)[:, None]
        else:
            table = np.eye(size + 1, size)
        if self.columns[at].conditional:
            table = np.column_stack([table, np.arange(size + 1) < size])
        return table.astype(np.float32)

    def values(self, at: int) -> list[Any]:
        """A value for each cell of a column: its own, or the one in the middle."""
        column, size = self.columns[at], self.sizes[at]
        if column.values is not None and size == len(column.values):
            return list(column.values)
        return [column.value((cell + 0.5) / size) for cell in range(size)]

    # ------------------------------------------------------------------ regions

    def volume(self, boxes: Iterable[Box]) -> float:
        """How probable it is to be in one of several disjoint boxes."""
        return float(sum(self._share(box) for box in boxes))

    def _share(self, box: Box) -> float:
        return math.prod(self.row(at, bits) @ self.probabilities[at] for at, bits in box.items())

    def row(self, at: int, bits: int) -> np.ndarray:
        """The cells of a column as booleans."""
        return _row(self.sizes[at], bits)

    def _full(self, at: int) -> int:
        return (1 << self.sizes[at]) - 1

    def _active(self, slot: int) -> list[Box]:
        """Where all conditions of a slot hold."""
        region: list[Box] = [{}]
        for condition in self._slots[slot][0].conditions:
            holds: list[Box] = []
            for parent in range(slot):
                if self._slots[parent][0].name == condition.parent:
                    inside = self._among(parent, condition.values)
                    holds += intersect(self._counts(parent), inside)
            region = intersect(region, holds)
        return region

    def _counts(self, slot: int) -> list[Box]:
        """Where a slot is active, and no later one of its name is."""
        if slot not in self._known:
            region = self._active(slot)
            for later in range(slot + 1, len(self._slots)):
                if self._slots[later][0].name == self._slots[slot][0].name:
                    region = subtract(region, self._active(later), self._full)
            self._known[slot] = region
        return self._known[slot]

    def _among(self, slot: int, allowed: Sequence[Any]) -> list[Box]:
        """Where the value of a slot is one of ``allowed``."""
        decision, at = self._slots[slot]
        if at is None:
            return [{}] if next(iter(decision.domain.values())) in allowed else []
        bits = _bits(value in allowed for value in self.values(at))
        return [{at: bits}] if bits else []

    # ------------------------------------------------------------------ trees

    def boxes(self, tree: Any) -> tuple[list[Box], np.ndarray]:
        """A fitted tree as disjoint boxes.

        Args:
            tree: The ``tree_`` of a scikit-learn regressor over `features`.

        Returns:
            Boxes that cover the space once, and the tree's value in each.
        """
        found: list[Box] = []
        values: list[float] = []
        leaves = [(0, {})]
        while leaves:
            node, allowed = leaves.pop()
            feature = int(tree.feature[node])
            if feature < 0:
                boxes = self._latent(allowed)
                found += boxes
                values += [float(tree.value[node].flat[0])] * len(boxes)
                continue
            at, low = self._split(feature, float(tree.threshold[node]))
            whole = (self._full(at) << 1) | 1
            before = allowed.get(at, whole)
            for child, bits in (
                (tree.children_left[node], before & low),
                (tree.children_right[node], before & ~low),
            ):
                if bits:
                    leaves.append((int(child), {**allowed, at: bits}))
        return found, np.array(values)

    def _split(self, feature: int, threshold: float) -> tuple[int, int]:
        """The column of a feature, and its cells up to a threshold; the last is inactive."""
        at = int(self.owners[feature])
        first = int(np.searchsorted(self.owners, at))
        return at, _bits(self._features[at][:, feature - first] <= threshold)

    def _latent(self, allowed: Mapping[int, int]) -> list[Box]:
        """A leaf as boxes; each of its columns may have a last cell, which is inactive."""
        region: list[Box] = [{}]
        for at, bits in allowed.items():
            full = self._full(at)
            cells, inactive = bits & full, bool(bits >> self.sizes[at])
            if cells == full and inactive:
                continue
            inside = intersect(self.active[at], [{at: cells}]) if cells else []
            if inactive:
                inside = inside + self._inactive[at]
            region = intersect(region, inside)
        return region

    @functools.cached_property
    def _inactive(self) -> list[list[Box]]:
        return [subtract([{}], active, self._full) for active in self.active]


def intersect(first: Sequence[Box], second: Sequence[Box]) -> list[Box]:
    """Where two regions overlap; disjoint boxes stay disjoint.

    >>> intersect([{0: 0b011}], [{0: 0b110, 1: 0b1}, {0: 0b100}])
    [{0: 2, 1: 1}]
    """
    found = []
    for one in first:
        for other in second:
            both = dict(one)
            for at, bits in other.items():
                both[at] = both.get(at, bits) & bits
            if all(both.values()):
                found.append(both)
    return found


def subtract(first: Sequence[Box], second: Sequence[Box], full: Callable[[int], int]) -> list[Box]:
    """A region without another, as disjoint boxes.

    Args:
        first: Disjoint boxes.
        second: What to take away.
        full: All cells of a column, as bits.

    >>> subtract([{}], [{0: 0b01, 1: 0b10}], lambda at: 0b11)
    [{0: 2}, {0: 1, 1: 1}]
    """
    left = list(first)
    for taken in second:
        pieces: list[Box] = []
        for box in left:
            rest = dict(box)
            for at, bits in taken.items():
                here = rest.get(at, full(at))
                if here & ~bits:
                    pieces.append({**rest, at: here & ~bits})
                rest[at] = here & bits
                if not rest[at]:
                    break
        left = pieces
    return left


def _slots(spec: SearchSpec) -> list[tuple[Decision, int | None]]:
    """All decisions, each with its column of the encoding; constants have none."""
    slots: list[tuple[Decision, int | None]] = []
    columns = 0
    for decision in spec.decisions:
        constant = decision.domain.size == 1
        slots.append((decision, None if constant else columns))
        columns += not constant
    return slots


def _size(column: Column) -> int:
    few = column.values is not None and (not column.ordered or len(column.values) <= _LISTED)
    return len(column.values) if few else _CELLS


def _cells(column: Column, size: int, codes: np.ndarray) -> np.ndarray:
    if column.values is not None and size == len(column.values):
        return column.indices(codes)
    return np.minimum((codes * size).astype(np.intp), size - 1)


def _probabilities(column: Column, size: int) -> np.ndarray:
    """Counted over evenly spaced positions: exact where the values are equally probable."""
    positions = (np.arange(size * _FINE) + 0.5) / (size * _FINE)
    if not column.ordered:
        return np.full(size, 1.0 / size)
    counts = np.bincount(_cells(column, size, column.at(positions)), minlength=size)
    return counts / counts.sum()


def _bits(flags: Iterable[Any]) -> int:
    return sum(1 << at for at, flag in enumerate(flags) if flag)


@functools.lru_cache(maxsize=1 << 14)
def _row(size: int, bits: int) -> np.ndarray:
    return np.array([bits >> cell & 1 for cell in range(size)], dtype=float)

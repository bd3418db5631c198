"""A search space as columns of numbers, for models that learn from configurations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.columns import UNKNOWN, Column
from keras_nas_plugin.space.spec import Condition, SearchSpec, Values

# Under this name, which no field has, a spec keeps its encoding.
_CACHE = "_encoding"


@dataclasses.dataclass(frozen=True)
class _Slot:
    """A decision as `Encoding` works through it; ``column`` is None for a constant."""

    name: str
    column: int | None
    constant: Any
    default: Any
    conditions: tuple[Condition, ...]

    def active(self, values: Mapping[str, Any]) -> bool:
        """See `Decision.active`."""
        return all(condition.holds(values) for condition in self.conditions)


class Encoding:
    """Configurations of a `SearchSpec` as rows of numbers, and back.

    A row has one *code* for each decision with at least two values, in the order of
    ``spec.decisions``: an index for an unordered decision, a position in [0, 1] for an
    ordered one, `UNKNOWN` for a label that the space does not have, and NaN where the
    decision is inactive. Decisions of one name under different conditions have a column
    each. Values that are missing (the decision came late) or mean nothing to the decision
    count as its default. Foreign names are left out.

    Get it with `encoding_of`, which keeps one for each spec.

    Args:
        spec: The space.

    >>> from keras_nas_plugin.space import Categorical, Condition, Decision, Integer
    >>> spec = SearchSpec((
    ...     Decision("kind", Categorical(("a", "b"))),
    ...     Decision("size", Integer(1, 4), (Condition("kind", ("b",)),)),
    ... ))
    >>> encoding = Encoding(spec)
    >>> encoding.encode({"kind": "b", "size": 1}).tolist()
    [1.0, 0.125]
    >>> encoding.encode({"kind": "a"}).tolist()
    [0.0, nan]
    >>> encoding.decode(np.array([1.0, 0.125]))
    {'kind': 'b', 'size': 1}
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        columns: list[Column] = []
        slots: list[_Slot] = []
        for one in spec.decisions:
            constant = one.domain.size == 1
            value = next(iter(one.domain.values())) if constant else None
            column = None if constant else len(columns)
            slots.append(_Slot(one.name, column, value, one.default, one.conditions))
            if not constant:
                columns.append(Column(one.name, one.domain, bool(one.conditions)))
        #: One for each decision with at least two values.
        self.columns = tuple(columns)
        self._slots = tuple(slots)
        # Where a name stands several times, an active one may be overruled by a later one.
        self._later = [
            [after for after in range(at + 1, len(slots)) if slots[after].name == slot.name]
            for at, slot in enumerate(slots)
        ]
        self._named: dict[str, list[int]] = {}
        for at, slot in enumerate(slots):
            self._named.setdefault(slot.name, []).append(at)

    # ------------------------------------------------------------------ one configuration

    def encode(self, values: Mapping[str, Any]) -> np.ndarray:
        """The codes of a configuration, shape ``[columns]``."""
        codes = np.full(len(self.columns), np.nan)
        known: Values = {}
        last: dict[str, int | None] = {}
        for slot in self._slots:
            if not slot.active(known):
                continue
            if last.get(slot.name) is not None:
                codes[last[slot.name]] = np.nan
            last[slot.name] = slot.column
            if slot.column is None:
                known[slot.name] = slot.constant
            else:
                known[slot.name], codes[slot.column] = self._known(slot, values)
        return codes

    def _known(self, slot: _Slot, values: Mapping[str, Any]) -> tuple[Any, float]:
        """The value of an active decision that counts, and its code."""
        column = self.columns[slot.column]
        if slot.name in values:
            code = column.code(values[slot.name])
            if code is None and not column.ordered:
                return values[slot.name], UNKNOWN
            if code is not None:
                return column.value(code), code
        code = column.code(slot.default)
        if code is None:
            # As `SearchSpec.fill` has it.
            code = float(column.at(np.zeros(1))[0])
        return column.value(code), code

    def encode_many(self, many: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """The codes of several configurations, shape ``[n, columns]``."""
        rows = [self.encode(values) for values in many]
        return np.array(rows).reshape(len(rows), len(self.columns))

    def decode(self, codes: np.ndarray) -> Values:
        """The configuration of a row that `complete` made, or `encode` of valid values.

        Args:
            codes: Shape ``[columns]``.

        Returns:
            Active values.

        Raises:
            SearchSpaceError: An active decision has no code, or one of no value.
        """
        values: Values = {}
        missing: set[str] = set()
        for slot in self._slots:
            if not slot.active(values):
                continue
            missing.discard(slot.name)
            if slot.column is None:
                values[slot.name] = slot.constant
            elif math.isnan(codes[slot.column]):
                # Fine where a later decision of this name overrules it.
                missing.add(slot.name)
            else:
                values[slot.name] = self.columns[slot.column].value(float(codes[slot.column]))
        if missing:
            raise SearchSpaceError(
                f"`codes` needs a code for each active decision; received none for {missing}"
            )
        return values

    # ------------------------------------------------------------------ many at once

    def complete(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows in which just the active columns have codes: those given, else drawn ones.

        `SearchSpec.complete` for many at once.

        Args:
            codes: Shape ``[n, columns]``; NaN and `UNKNOWN` are drawn where active.
            rng: Source of randomness.

        Returns:
            Shape ``[n, columns]``.
        """
        full = codes.copy()
        for at, column in enumerate(self.columns):
            missing = ~(codes[:, at] >= 0.0)
            full[missing, at] = column.at(rng.random(int(missing.sum())))
        full[~self._activity(full)] = np.nan
        return full

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Codes of ``count`` random configurations, distributed as `SearchSpec.sample`.

        Args:
            count: How many.
            rng: Source of randomness.

        Returns:
            Shape ``[count, columns]``.
        """
        return self.complete(np.full((count, len(self.columns)), np.nan), rng)

    def _activity(self, full: np.ndarray) -> np.ndarray:
        """Which columns are active, given a known code in each; shape ``[n, columns]``."""
        count = len(full)
        active: list[np.ndarray] = []
        for slot in self._slots:
            mask = np.ones(count, bool)
            for condition in slot.conditions:
                mask &= self._holds(condition, full, active)
            active.append(mask)
        chosen = np.zeros(full.shape, bool)
        for at, slot in enumerate(self._slots):
            if slot.column is not None:
                chosen[:, slot.column] = self._counts(at, active)
        return chosen

    def _counts(self, at: int, active: list[np.ndarray]) -> np.ndarray:
        """Where a slot is active, and no later one of its name is."""
        mask = active[at]
        for later in self._later[at]:
            mask = mask & ~active[later]
        return mask

    def _holds(
        self, condition: Condition, full: np.ndarray, active: list[np.ndarray]
    ) -> np.ndarray:
        """Where a condition holds; all slots of the parent's name come before."""
        holds = np.zeros(len(full), bool)
        for at in self._named.get(condition.parent, ()):
            holds |= self._counts(at, active) & self._among(at, condition.values, full)
        return holds

    def _among(self, at: int, allowed: tuple[Any, ...], full: np.ndarray) -> np.ndarray | bool:
        """Where the value of a slot is one of ``allowed``."""
        slot = self._slots[at]
        if slot.column is None:
            return slot.constant in allowed
        column, codes = self.columns[slot.column], full[:, slot.column]
        if column.values is None:
            return np.array([column.value(float(code)) in allowed for code in codes], bool)
        table = np.array([value in allowed for value in column.values])
        return table[column.indices(codes)]

    # ------------------------------------------------------------------ for learned models

    def features(self, codes: np.ndarray) -> np.ndarray:
        """Fixed-length vectors for learned predictors: all in [0, 1], without NaN.

        An unordered column becomes one number for each value, of which one is 1 (none
        where it is inactive or unknown); an ordered one becomes its position, 0.5 where
        it is inactive. A conditional column has one more number: 1 where it is active.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, width]``; `feature_names` says what is where.
        """
        parts = [np.zeros((len(codes), 0))]
        for at, column in enumerate(self.columns):
            code = codes[:, at]
            if column.ordered:
                parts.append(np.where(np.isnan(code), 0.5, code)[:, None])
            else:
                parts.append((code[:, None] == np.arange(len(column.values))).astype(float))
            if column.conditional:
                parts.append(~np.isnan(code)[:, None])
        return np.concatenate(parts, axis=1, dtype=float)

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Codes of the configurations nearest to vectors that need not be any's features.

        Of an unordered column the value with the largest number is taken, of an ordered one
        the position, within [0, 1]. Whether a column is active follows from the others.

        Args:
            features: Shape ``[n, width]``, as `features` lays them out.

        Returns:
            Shape ``[n, columns]``, complete: ``nearest(features(codes))`` is ``codes``.
        """
        codes, place = np.zeros((len(features), len(self.columns))), 0
        for at, column in enumerate(self.columns):
            if column.ordered:
                position = np.clip(features[:, place], 0.0, np.nextafter(1.0, 0.0))
                known = column.values is None
                codes[:, at] = position if known else column.near(position)
                place += 1
            else:
                width = len(column.values)
                codes[:, at] = features[:, place : place + width].argmax(axis=1)
                place += width
            place += column.conditional
        codes[~self._activity(codes)] = np.nan
        return codes

    @property
    def feature_names(self) -> tuple[str, ...]:
        """A name for each number of a feature vector."""
        names: list[str] = []
        for column in self.columns:
            if column.ordered:
                names.append(column.name)
            else:
                names.extend(f"{column.name}={value}" for value in column.values)
            if column.conditional:
                names.append(f"{column.name} is active")
        return tuple(names)


def encoding_of(spec: SearchSpec) -> Encoding:
    """The encoding of a spec: made once, and kept as long as the spec itself.

    It is kept by identity: equal specs may differ in type (1 and True are equal).
    """
    kept = vars(spec)
    if _CACHE not in kept:
        kept[_CACHE] = Encoding(spec)
    return kept[_CACHE]

"""Numeric encoding of configurations, for models that learn from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.columns import UNKNOWN, Column
from keras_nas_plugin.space.spec import Condition, SearchSpec, Values

# Attribute under which a spec caches its encoding; no field has this name.
_CACHE = "_encoding"


@dataclasses.dataclass(frozen=True)
class _Slot:
    """A decision as `Encoding` processes it; ``column`` is None if it has a single value."""

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
    ordered one, `UNKNOWN` for a label that the space does not have, and NaN if the decision
    is inactive. Decisions of the same name under different conditions have a column each.
    Values that are missing (the decision was added later) or not in the domain count as the
    default. Names that are not in the space are ignored.

    Use `encoding_of`, which caches one for each spec.

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
        for decision in spec.decisions:
            constant = decision.domain.size == 1
            value = next(iter(decision.domain.values())) if constant else None
            index = None if constant else len(columns)
            slots.append(_Slot(decision.name, index, value, decision.default, decision.conditions))
            if not constant:
                columns.append(Column(decision.name, decision.domain, bool(decision.conditions)))
        #: One for each decision with at least two values.
        self.columns = tuple(columns)
        self._slots = tuple(slots)
        # If a name occurs several times, a later active decision overrides an earlier one.
        self._later = [
            [later for later in range(index + 1, len(slots)) if slots[later].name == slot.name]
            for index, slot in enumerate(slots)
        ]
        self._by_name: dict[str, list[int]] = {}
        for index, slot in enumerate(slots):
            self._by_name.setdefault(slot.name, []).append(index)

    # ------------------------------------------------------------------ one configuration

    def encode(self, values: Mapping[str, Any]) -> np.ndarray:
        """The codes of a configuration, shape ``[columns]``."""
        codes = np.full(len(self.columns), np.nan)
        active: Values = {}
        last: dict[str, int | None] = {}
        for slot in self._slots:
            if not slot.active(active):
                continue
            overridden = last.get(slot.name)
            if overridden is not None:
                codes[overridden] = np.nan
            last[slot.name] = slot.column
            if slot.column is None:
                active[slot.name] = slot.constant
            else:
                column = self.columns[slot.column]
                active[slot.name], codes[slot.column] = _value_and_code(column, slot, values)
        return codes

    def encode_many(self, many: Iterable[Mapping[str, Any]]) -> np.ndarray:
        """The codes of several configurations, shape ``[n, columns]``."""
        rows = [self.encode(values) for values in many]
        return np.array(rows).reshape(len(rows), len(self.columns))

    def decode(self, codes: np.ndarray) -> Values:
        """The configuration of a row from `complete`, or from `encode` of valid values.

        Args:
            codes: Shape ``[columns]``.

        Returns:
            Active values.

        Raises:
            SearchSpaceError: An active decision has no code, or an invalid one.
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
                # Valid if a later decision of this name overrides it.
                missing.add(slot.name)
            else:
                values[slot.name] = self.columns[slot.column].value(float(codes[slot.column]))
        if missing:
            raise SearchSpaceError(
                f"`codes` must have a code for each active decision; got none for {missing}"
            )
        return values

    # ------------------------------------------------------------------ many at once

    def complete(self, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows in which exactly the active columns have codes.

        `SearchSpec.complete` for many configurations at once.

        Args:
            codes: Shape ``[n, columns]``. NaN and `UNKNOWN` are replaced by random codes in
                active columns.
            rng: Source of randomness.

        Returns:
            Shape ``[n, columns]``.
        """
        full = codes.copy()
        for index, column in enumerate(self.columns):
            missing = ~(codes[:, index] >= 0.0)
            count = int(np.count_nonzero(missing))
            if count:
                full[missing, index] = column.at(rng.random(count))
        full[~self._activity(full)] = np.nan
        return full

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Codes of ``count`` random configurations, distributed as `SearchSpec.sample`.

        Args:
            count: Number of configurations.
            rng: Source of randomness.

        Returns:
            Shape ``[count, columns]``.
        """
        return self.complete(np.full((count, len(self.columns)), np.nan), rng)

    def _activity(self, full: np.ndarray) -> np.ndarray:
        """Which columns are active, given a valid code in each; shape ``[n, columns]``."""
        active: list[np.ndarray] = []
        for slot in self._slots:
            mask = np.ones(len(full), bool)
            for condition in slot.conditions:
                mask &= self._holds(condition, full, active)
            active.append(mask)
        activity = np.zeros(full.shape, bool)
        for index, slot in enumerate(self._slots):
            if slot.column is not None:
                activity[:, slot.column] = self._counts(index, active)
        return activity

    def _counts(self, index: int, active: list[np.ndarray]) -> np.ndarray:
        """Rows in which a slot is active and no later one of its name is."""
        mask = active[index]
        for later in self._later[index]:
            mask = mask & ~active[later]
        return mask

    def _holds(
        self, condition: Condition, full: np.ndarray, active: list[np.ndarray]
    ) -> np.ndarray:
        """Rows in which a condition holds; the slots of its parent have been processed before."""
        holds = np.zeros(len(full), bool)
        for index in self._by_name.get(condition.parent, ()):
            holds |= self._counts(index, active) & self._among(index, condition.values, full)
        return holds

    def _among(self, index: int, allowed: tuple[Any, ...], full: np.ndarray) -> np.ndarray | bool:
        """Rows in which the value of a slot is one of ``allowed``."""
        slot = self._slots[index]
        if slot.column is None:
            return slot.constant in allowed
        column, codes = self.columns[slot.column], full[:, slot.column]
        if column.values is None:
            return np.array([column.value(float(code)) in allowed for code in codes], bool)
        table = np.array([value in allowed for value in column.values])
        return table[column.indices(codes)]

    # ------------------------------------------------------------------ for learned models

    def features(self, codes: np.ndarray) -> np.ndarray:
        """Fixed-length vectors for learned predictors, with numbers in [0, 1] and no NaN.

        An unordered column is one-hot encoded (all zeros if it is inactive or unknown); an
        ordered one becomes its position, or 0.5 if it is inactive. A conditional column has
        one more number: 1 if it is active, else 0.

        Args:
            codes: Shape ``[n, columns]``.

        Returns:
            Shape ``[n, width]``; `feature_names` names each number.
        """
        parts = [np.zeros((len(codes), 0))]
        for index, column in enumerate(self.columns):
            code = codes[:, index]
            if column.ordered:
                parts.append(np.where(np.isnan(code), 0.5, code)[:, None])
            else:
                parts.append((code[:, None] == np.arange(len(column.listed))).astype(float))
            if column.conditional:
                parts.append(~np.isnan(code)[:, None])
        return np.concatenate(parts, axis=1, dtype=float)

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Codes of the configurations nearest to arbitrary feature vectors.

        An unordered column takes the value with the largest number, an ordered one the
        position, clipped to [0, 1]. Whether a column is active depends on its parents' values.

        Args:
            features: Shape ``[n, width]``, in the layout of `features`.

        Returns:
            Shape ``[n, columns]``, complete: ``nearest(features(codes))`` is ``codes``.
        """
        codes, offset = np.zeros((len(features), len(self.columns))), 0
        for index, column in enumerate(self.columns):
            if column.ordered:
                position = np.clip(features[:, offset], 0.0, np.nextafter(1.0, 0.0))
                codes[:, index] = position if column.values is None else column.near(position)
                offset += 1
            else:
                width = len(column.listed)
                codes[:, index] = features[:, offset : offset + width].argmax(axis=1)
                offset += width
            offset += column.conditional
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
                names.extend(f"{column.name}={value}" for value in column.listed)
            if column.conditional:
                names.append(f"{column.name} is active")
        return tuple(names)


def _value_and_code(column: Column, slot: _Slot, values: Mapping[str, Any]) -> tuple[Any, float]:
    """The value of an active decision and its code; the default if there is no valid value."""
    if slot.name in values:
        code = column.code(values[slot.name])
        if code is None and not column.ordered:
            return values[slot.name], UNKNOWN
        if code is not None:
            return column.value(code), code
    code = column.code(slot.default)
    if code is None:
        # Without a valid default, the first value, as in `SearchSpec.fill`.
        code = float(column.at(np.zeros(1))[0])
    return column.value(code), code


def encoding_of(spec: SearchSpec) -> Encoding:
    """The encoding of a spec, cached with the spec itself.

    It is cached by identity: equal specs may differ in type (1 and True are equal).
    """
    attributes = vars(spec)
    if _CACHE not in attributes:
        attributes[_CACHE] = Encoding(spec)
    return attributes[_CACHE]


def distances(encoding: Encoding, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How different configurations are: 0 for equal ones, 1 if they differ in all decisions.

    The mean over the decisions: 1 for two labels that differ, and for a decision that is active
    in one of them only; the distance of the positions for ordered values (Gower 1971, "A General
    Coefficient of Similarity and Some of Its Properties").

    Args:
        encoding: Encoding of the space.
        first: Codes, shape ``[n, columns]``.
        second: Codes, shape ``[m, columns]``.

    Returns:
        Shape ``[n, m]``.
    """
    ordered = np.array([column.ordered for column in encoding.columns], bool)
    left, right = first[:, None, :], second[None, :, :]
    differ = np.where(ordered, np.abs(left - right), left != right)
    inactive = np.isnan(left).astype(int) + np.isnan(right)
    differ = np.where(inactive == 1, 1.0, np.where(inactive == 2, 0.0, differ))
    return differ.sum(axis=2) / max(len(encoding.columns), 1)

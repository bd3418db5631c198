"""The values that one decision of a search space may take."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError

V = TypeVar("V")
P = TypeVar("P", float, np.ndarray)

SAMPLINGS = ("linear", "log", "reverse_log")

# Standard deviation of a mutation along an ordered domain, as a fraction of its length.
# A fifth of the range is the usual setting for Gaussian mutation of a bounded gene.
MUTATION_SCALE = 0.2

# In an ordered domain with at most this many values, the neighbours of a value are the two
# adjacent ones. In larger domains, adjacent values hardly differ, so four Gaussian steps are drawn
# instead, as in SMAC (Hutter, Hoos & Leyton-Brown 2011, section 4.3).
_ADJACENT = 12
_NEIGHBOURS = 4

# Bound of the rounding error of a position's value, relative to the largest value.
_CLOSE = 1e-12
# Floating-point numbers represent the integers below this one exactly.
_EXACT = 2**53


class Domain(abc.ABC, Generic[V]):
    """A set of values laid out on the unit interval.

    A value is drawn by drawing its *position* uniformly from [0, 1). On a logarithmic domain,
    equal distances between positions are equal ratios between values. A domain with a step
    assigns an interval of equal length to each value.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int | None:
        """Number of values, or None if there are uncountably many."""

    @property
    @abc.abstractmethod
    def ordered(self) -> bool:
        """Whether the order of the values is meaningful, so that close positions are similar."""

    @abc.abstractmethod
    def at(self, position: float) -> V:
        """The value at a position in [0, 1)."""

    def at_many(self, positions: np.ndarray) -> np.ndarray:
        """`at` for many positions at once.

        Args:
            positions: Shape ``[n]``, in [0, 1).

        Returns:
            Values of shape ``[n]``.
        """
        return np.array([self.at(float(position)) for position in positions])

    @abc.abstractmethod
    def position(self, value: V) -> float:
        """A position of ``value``, the inverse of `at`."""

    @abc.abstractmethod
    def contains(self, value: object) -> bool:
        """Whether the domain contains ``value``; a boolean is never equal to a number."""

    def canonical(self, value: V) -> V:
        """Convert a value to the domain's type: 1 becomes 1.0 in a domain of real numbers."""
        return value

    @abc.abstractmethod
    def values(self) -> Iterator[V]:
        """All values of a countable domain, in order; there may be too many to list."""

    @abc.abstractmethod
    def nth(self, index: int) -> V:
        """The value with this index, from 0, in a countable domain; the others are not listed."""

    def sample(self, rng: np.random.Generator) -> V:
        """Draw a value, uniform in position."""
        return self.at(float(rng.random()))

    def mutate(self, value: V, rng: np.random.Generator) -> V:
        """Draw another value: one near ``value`` in an ordered domain, any other one otherwise.

        In an ordered domain, the position takes a Gaussian step (Bäck & Schwefel 1993, section
        2.2), which is reflected at the ends. A step that is too small to change the value
        becomes a step to the adjacent value on that side.
        """
        if self.size == 1:
            return value
        if not self.ordered:
            candidates = [candidate for candidate in self.values() if candidate != value]
            return candidates[int(rng.integers(len(candidates)))]
        step = float(rng.normal(0.0, MUTATION_SCALE))
        mutated = self.at(_reflect(self.position(value) + step))
        return mutated if mutated != value else self.beside(value, up=step > 0)

    def neighbours(self, value: V, rng: np.random.Generator) -> list[V]:
        """Distinct values that are one step from ``value``, excluding ``value`` itself.

        These are all other values in an unordered domain, the adjacent value on each side in a
        small ordered domain, and up to four Gaussian steps as in `mutate` in a larger or
        continuous one.
        """
        if self.size == 1:
            return []
        if not self.ordered:
            return [candidate for candidate in self.values() if candidate != value]
        if self.size is not None and self.size <= _ADJACENT:
            nearby = [self.beside(value, up=False), self.beside(value, up=True)]
        else:
            nearby = [self.mutate(value, rng) for _ in range(_NEIGHBOURS)]
        return [near for index, near in enumerate(nearby) if near not in nearby[:index]]

    @abc.abstractmethod
    def beside(self, value: V, *, up: bool) -> V:
        """The next larger or smaller value; at an end of the domain, the one on the other side."""


def _reflect(position: float) -> float:
    """Fold a number into [0, 1) by reflection at both ends.

    >>> _reflect(-0.25), _reflect(1.25)
    (0.25, 0.75)
    """
    folded = position % 2.0
    return min(2.0 - folded if folded >= 1.0 else folded, math.nextafter(1.0, 0.0))


@dataclasses.dataclass(frozen=True)
class Categorical(Domain[Any]):
    """An explicit list of values; set ``ordered`` if their order is meaningful."""

    choices: tuple[Any, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.choices:
            raise SearchSpaceError("`choices` must have at least one value; got none")

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def at(self, position: float) -> Any:
        """See `Domain.at`."""
        return self.choices[int(position * len(self.choices))]

    def position(self, value: object) -> float:
        """See `Domain.position`."""
        return (self.choices.index(value) + 0.5) / len(self.choices)

    def contains(self, value: object) -> bool:
        """See `Domain.contains`."""
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def values(self) -> Iterator[Any]:
        """See `Domain.values`."""
        return iter(self.choices)

    def nth(self, index: int) -> Any:
        """See `Domain.nth`."""
        return self.choices[index]

    def beside(self, value: object, *, up: bool) -> Any:
        """See `Domain.beside`."""
        index = self.choices.index(value) + (1 if up else -1)
        inside = 0 <= index < len(self.choices)
        return self.choices[index if inside else index - (2 if up else -2)]


@dataclasses.dataclass(frozen=True)
class _Numeric(Domain[V]):
    """Common base of `Integer` and `Real`: a range, a step and a layout.

    Args:
        low: Smallest value.
        high: Largest value, inclusive.
        step: Distance between values (``linear``) or their ratio (``log``,
            ``reverse_log``); None for all integers or real numbers in the range.
        sampling: How positions map to values, as in `keras_tuner.HyperParameters.Int`.
    """

    low: float
    high: float
    step: float | None = None
    sampling: str = "linear"

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise SearchSpaceError(f"`sampling` must be one of {SAMPLINGS}; got {self.sampling!r}")
        if not self.low <= self.high:
            raise SearchSpaceError(
                f"`low` must not exceed `high`; got low={self.low}, high={self.high}"
            )
        if self.sampling != "linear" and self.low <= 0:
            raise SearchSpaceError(
                f"`low` must be positive for `sampling={self.sampling!r}`; got low={self.low}"
            )

    @property
    def ordered(self) -> bool:
        """Numbers are ordered."""
        return True

    def _steps(self, step: float) -> int:
        """Number of values of a stepped domain.

        The margin of 1e-8 keeps the last value, which rounding errors could lose otherwise:
        there are six values from 0.0 to 1.0 with a step of 0.2.
        """
        if self.sampling == "linear":
            return math.floor((self.high - self.low) / step + 1e-8) + 1
        return math.floor(math.log(self.high / self.low, step) + 1e-8) + 1

    def _step_value(self, index: int, step: float) -> float:
        if self.sampling == "linear":
            return min(self.low + index * step, self.high)
        grown = min(self.low * step**index, self.high)
        value = grown if self.sampling == "log" else self.high + self.low - grown
        # Rounding errors must not move the value out of the range.
        return min(max(value, self.low), self.high)

    def _step_index(self, value: float, step: float) -> int:
        if self.sampling == "linear":
            return round((value - self.low) / step)
        grown = value if self.sampling == "log" else self.high + self.low - value
        return round(math.log(grown / self.low, step))

    def _beside_step(self, value: V, index: int, last: int, *, up: bool) -> V:
        """`beside` in a domain with a step, whose values are not listed.

        Steps that are too small to change a floating-point number are doubled.

        Args:
            value: The value.
            index: Its index.
            last: Index of the last value.
            up: See `beside`.
        """
        direction = 1 if up else -1
        if not 0 <= index + direction <= last:
            direction = -direction
        distance = 1
        while True:
            target = min(max(index + direction * distance, 0), last)
            beside = self.nth(target)
            if beside != value or target in (0, last):
                return beside
            distance *= 2

    def _stretch(self, position: P, high: float) -> P:
        """Value at ``position``, a number or an array, of the unstepped range [low, high)."""
        if self.sampling == "linear":
            return self.low + position * (high - self.low)
        if self.sampling == "log":
            return self.low * (high / self.low) ** position
        return high + self.low - self.low * (high / self.low) ** (1.0 - position)

    def _shrink(self, value: float, high: float) -> float:
        """Inverse of `_stretch`."""
        if high == self.low:
            return 0.5
        if self.sampling == "linear":
            return (value - self.low) / (high - self.low)
        grown = value if self.sampling == "log" else high + self.low - value
        share = math.log(grown / self.low) / math.log(high / self.low)
        return share if self.sampling == "log" else 1.0 - share


@dataclasses.dataclass(frozen=True)
class Integer(_Numeric[int]):
    """Integers from ``low`` to ``high``, inclusive."""

    low: int
    high: int
    step: int | None = None

    @property
    def size(self) -> int:
        """Number of integers."""
        return self.high - self.low + 1 if self.step is None else self._steps(self.step)

    def at(self, position: float) -> int:
        """See `Domain.at`."""
        if self.step is not None:
            return int(self._step_value(int(position * self.size), self.step))
        # The range is [low, high + 1), so that the largest integer is drawn as well. `floor`
        # also rounds negative numbers down, where `int` would round up.
        return max(self.low, min(self.high, math.floor(self._stretch(position, self.high + 1))))

    def at_many(self, positions: np.ndarray) -> np.ndarray:
        """See `Domain.at_many`."""
        if self.step is not None or not -_EXACT < self.low <= self.high < _EXACT:
            return super().at_many(positions)
        stretched = self._stretch(positions, self.high + 1)
        values = np.clip(np.floor(stretched), self.low, self.high).astype(int)
        # NumPy and Python may round a power differently, which matters next to an integer.
        close = np.abs(stretched - np.rint(stretched)) <= _CLOSE * (self.high + 1)
        values[close] = super().at_many(positions[close])
        return values

    def position(self, value: int) -> float:
        """See `Domain.position`."""
        if self.step is not None:
            return (self._step_index(value, self.step) + 0.5) / self.size
        return min(max(self._shrink(value + 0.5, self.high + 1), 0.0), 1.0)

    def contains(self, value: object) -> bool:
        """See `Domain.contains`."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        return int(self._step_value(self._step_index(value, self.step), self.step)) == value

    def values(self) -> Iterator[int]:
        """See `Domain.values`."""
        if self.step is None:
            return iter(range(self.low, self.high + 1))
        return map(self.nth, range(self.size))

    def nth(self, index: int) -> int:
        """See `Domain.nth`."""
        return self.low + index if self.step is None else int(self._step_value(index, self.step))

    def beside(self, value: int, *, up: bool) -> int:
        """See `Domain.beside`."""
        if self.step is not None:
            index = self._step_index(value, self.step)
            return self._beside_step(value, index, self.size - 1, up=up)
        beside = value + (1 if up else -1)
        return beside if self.low <= beside <= self.high else value - (1 if up else -1)


@dataclasses.dataclass(frozen=True)
class Real(_Numeric[float]):
    """Real numbers from ``low`` to ``high``; a finite set if there is a step."""

    @property
    def size(self) -> int | None:
        """Number of values; None without a step."""
        if self.low == self.high:
            return 1
        return None if self.step is None else self._steps(self.step)

    def at(self, position: float) -> float:
        """See `Domain.at`."""
        if self.step is not None:
            return float(self._step_value(int(position * self._steps(self.step)), self.step))
        return float(min(max(self._stretch(position, self.high), self.low), self.high))

    def position(self, value: float) -> float:
        """See `Domain.position`."""
        if self.step is not None:
            return (self._step_index(value, self.step) + 0.5) / self._steps(self.step)
        return min(max(self._shrink(value, self.high), 0.0), 1.0)

    def contains(self, value: object) -> bool:
        """See `Domain.contains`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        return math.isclose(
            self._step_value(self._step_index(value, self.step), self.step), value, rel_tol=1e-6
        )

    def canonical(self, value: float) -> float:
        """See `Domain.canonical`."""
        return float(value)

    def mutate(self, value: float, rng: np.random.Generator) -> float:
        """See `Domain.mutate`; with a step, the value is rounded to the grid first."""
        on_grid = value if self.step is None else self.at(self.position(value))
        return super().mutate(on_grid, rng)

    def neighbours(self, value: float, rng: np.random.Generator) -> list[float]:
        """See `Domain.neighbours`; with a step, the value is rounded to the grid first."""
        on_grid = value if self.step is None else self.at(self.position(value))
        return super().neighbours(on_grid, rng)

    def values(self) -> Iterator[float]:
        """See `Domain.values`.

        Raises:
            SearchSpaceError: There is no step, so the values cannot be listed.
        """
        if self.size is None:
            raise SearchSpaceError(f"`step` must be set to list the values of {self}; got None")
        if self.step is None:
            return iter((float(self.low),))
        return map(self.nth, range(self._steps(self.step)))

    def nth(self, index: int) -> float:
        """See `Domain.nth`; without a step, there is at most one value."""
        return float(self.low if self.step is None else self._step_value(index, self.step))

    def beside(self, value: float, *, up: bool) -> float:
        """See `Domain.beside`; without a step, the adjacent floating-point number."""
        if self.step is not None:
            index = self._step_index(value, self.step)
            return self._beside_step(value, index, self._steps(self.step) - 1, up=up)
        beside = math.nextafter(value, math.inf if up else -math.inf)
        return beside if self.low <= beside <= self.high else math.nextafter(value, self.low)

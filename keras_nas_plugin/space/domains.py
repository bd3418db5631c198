"""The values that one decision of a search space may take."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError

SAMPLINGS = ("linear", "log", "reverse_log")

# Standard deviation of a mutation along an ordered domain, as a fraction of its length.
# A fifth of the range is the usual setting for Gaussian mutation of a bounded gene.
MUTATION_SCALE = 0.2

# Ordered domains with at most this many values have the two adjacent ones as neighbours; in
# longer ones these are too near to tell apart, and four Gaussian steps are drawn instead, as
# SMAC does (Hutter, Hoos & Leyton-Brown 2011, section 4.3).
_ADJACENT = 12
_NEIGHBOURS = 4


class Domain(abc.ABC):
    """A set of values laid out on the unit interval.

    A *position* in [0, 1) is what a value is drawn from: equal lengths are equally
    probable. Logarithmic domains are laid out by ratio, stepped ones by index.
    """

    #: Number of values, or None when there are uncountably many.
    size: int | None
    #: Whether neighbouring positions hold neighbouring values.
    ordered: bool

    @abc.abstractmethod
    def at(self, position: float) -> Any:
        """The value at a position in [0, 1)."""

    @abc.abstractmethod
    def position(self, value: Any) -> float:
        """A position that holds ``value``."""

    @abc.abstractmethod
    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the values, type included."""

    def canonical(self, value: Any) -> Any:
        """A value of the domain in its own type: 1 is 1.0 among real numbers."""
        return value

    @abc.abstractmethod
    def values(self) -> Iterator[Any]:
        """All values of a countable domain, in order."""

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw a value, uniform in position."""
        return self.at(float(rng.random()))

    def mutate(self, value: Any, rng: np.random.Generator) -> Any:
        """Another value: near ``value`` where order means something, else any.

        Ordered domains take a Gaussian step in position (Bäck & Schwefel 1993, section
        2.2), reflected at the ends; a step too small to leave ``value`` becomes a step
        to the neighbour on that side.
        """
        if self.size == 1:
            return value
        if not self.ordered:
            others = [other for other in self.values() if other != value]
            return others[int(rng.integers(len(others)))]
        step = float(rng.normal(0.0, MUTATION_SCALE))
        mutated = self.at(_reflect(self.position(value) + step))
        return mutated if mutated != value else self.beside(value, up=step > 0)

    def neighbours(self, value: Any, rng: np.random.Generator) -> list[Any]:
        """Values one step from ``value``, each once, without ``value`` itself.

        All others of an unordered domain; the next one on each side of a short ordered
        one; up to four Gaussian steps, as in `mutate`, along a long or continuous one.
        """
        if self.size == 1:
            return []
        if not self.ordered:
            return [other for other in self.values() if other != value]
        if self.size is not None and self.size <= _ADJACENT:
            near = [self.beside(value, up=False), self.beside(value, up=True)]
        else:
            near = [self.mutate(value, rng) for _ in range(_NEIGHBOURS)]
        return [other for index, other in enumerate(near) if other not in near[:index]]

    def beside(self, value: Any, *, up: bool) -> Any:
        """The neighbour of ``value`` on one side, or on the other at the end."""
        values = list(self.values())
        index = values.index(value) + (1 if up else -1)
        return values[index] if 0 <= index < len(values) else values[index - (2 if up else -2)]


def _reflect(position: float) -> float:
    """Fold a number into [0, 1) by reflection at both ends.

    >>> _reflect(-0.25), _reflect(1.25)
    (0.25, 0.75)
    """
    folded = position % 2.0
    return min(2.0 - folded if folded >= 1.0 else folded, math.nextafter(1.0, 0.0))


@dataclasses.dataclass(frozen=True)
class Categorical(Domain):
    """One of a few values; ``ordered`` when their order carries meaning."""

    choices: tuple[Any, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.choices:
            raise SearchSpaceError("`choices` needs at least one value; received none")

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def at(self, position: float) -> Any:
        """See `Domain.at`."""
        return self.choices[int(position * len(self.choices))]

    def position(self, value: Any) -> float:
        """See `Domain.position`."""
        return (self.choices.index(value) + 0.5) / len(self.choices)

    def contains(self, value: Any) -> bool:
        """See `Domain.contains`."""
        return any(type(value) is type(other) and value == other for other in self.choices)

    def values(self) -> Iterator[Any]:
        """See `Domain.values`."""
        return iter(self.choices)


@dataclasses.dataclass(frozen=True)
class _Numeric(Domain):
    """What `Integer` and `Real` share: a range, a step and a layout.

    Args:
        low: Smallest value.
        high: Largest value, inclusive.
        step: Distance between values (``linear``) or ratio (``log``, ``reverse_log``);
            None for every integer or every real number in the range.
        sampling: How positions map to values, as in `keras_tuner.HyperParameters.Int`.
    """

    low: float
    high: float
    step: float | None = None
    sampling: str = "linear"

    def __post_init__(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise SearchSpaceError(
                f"`sampling` needs one of {SAMPLINGS}; received {self.sampling!r}"
            )
        if not self.low <= self.high:
            raise SearchSpaceError(
                f"a range needs low <= high; received low={self.low}, high={self.high}"
            )
        if self.sampling != "linear" and self.low <= 0:
            raise SearchSpaceError(
                f"`sampling={self.sampling!r}` needs low > 0; received low={self.low}"
            )

    @property
    def ordered(self) -> bool:
        """Numbers are ordered."""
        return True

    def _steps(self) -> int:
        """Number of values of a stepped domain.

        The margin of 1e-8 keeps the last value where floating point loses it:
        (1.0 - 0.0) / 0.2 gives six values.
        """
        if self.sampling == "linear":
            return math.floor((self.high - self.low) / self.step + 1e-8) + 1
        return math.floor(math.log(self.high / self.low, self.step) + 1e-8) + 1

    def _step_value(self, index: int) -> float:
        if self.sampling == "linear":
            return min(self.low + index * self.step, self.high)
        grown = min(self.low * self.step**index, self.high)
        value = grown if self.sampling == "log" else self.high + self.low - grown
        # Rounding must not carry it over an end.
        return min(max(value, self.low), self.high)

    def _step_index(self, value: float) -> int:
        if self.sampling == "linear":
            return round((value - self.low) / self.step)
        grown = value if self.sampling == "log" else self.high + self.low - value
        return round(math.log(grown / self.low, self.step))

    def _stretch(self, position: float, high: float) -> float:
        """Value at ``position`` of the unstepped range [low, high)."""
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
class Integer(_Numeric):
    """Integers from ``low`` to ``high``, both included."""

    @property
    def size(self) -> int:
        """Number of integers."""
        return self.high - self.low + 1 if self.step is None else self._steps()

    def at(self, position: float) -> int:
        """See `Domain.at`."""
        if self.step is not None:
            return int(self._step_value(int(position * self.size)))
        # Equal lengths of [low, high + 1): the largest integer is drawn as well.
        # Rounded down, also below zero, where `int` rounds up.
        return max(self.low, min(self.high, math.floor(self._stretch(position, self.high + 1))))

    def position(self, value: int) -> float:
        """See `Domain.position`."""
        if self.step is not None:
            return (self._step_index(value) + 0.5) / self.size
        return min(max(self._shrink(value + 0.5, self.high + 1), 0.0), 1.0)

    def contains(self, value: Any) -> bool:
        """See `Domain.contains`."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        return int(self._step_value(self._step_index(value))) == value

    def values(self) -> Iterator[int]:
        """See `Domain.values`."""
        if self.step is None:
            return iter(range(self.low, self.high + 1))
        return (int(self._step_value(index)) for index in range(self.size))

    def beside(self, value: int, *, up: bool) -> int:
        """See `Domain.beside`; without a list of all integers."""
        if self.step is not None:
            return super().beside(value, up=up)
        other = value + (1 if up else -1)
        return other if self.low <= other <= self.high else value - (1 if up else -1)


@dataclasses.dataclass(frozen=True)
class Real(_Numeric):
    """Real numbers from ``low`` to ``high``; a finite set where a step is given."""

    @property
    def size(self) -> int | None:
        """Number of values; None without a step."""
        if self.low == self.high:
            return 1
        return None if self.step is None else self._steps()

    def at(self, position: float) -> float:
        """See `Domain.at`."""
        if self.step is not None:
            return float(self._step_value(int(position * self._steps())))
        return float(min(max(self._stretch(position, self.high), self.low), self.high))

    def position(self, value: float) -> float:
        """See `Domain.position`."""
        if self.step is not None:
            return (self._step_index(value) + 0.5) / self._steps()
        return min(max(self._shrink(value, self.high), 0.0), 1.0)

    def contains(self, value: Any) -> bool:
        """See `Domain.contains`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        return math.isclose(self._step_value(self._step_index(value)), value, rel_tol=1e-6)

    def canonical(self, value: float) -> float:
        """See `Domain.canonical`."""
        return float(value)

    def mutate(self, value: float, rng: np.random.Generator) -> float:
        """See `Domain.mutate`; 0.3 is the same as the grid's 0.30000000000000004."""
        on_grid = value if self.step is None else self.at(self.position(value))
        return super().mutate(on_grid, rng)

    def neighbours(self, value: float, rng: np.random.Generator) -> list[float]:
        """See `Domain.neighbours`; 0.3 is the same as the grid's 0.30000000000000004."""
        on_grid = value if self.step is None else self.at(self.position(value))
        return super().neighbours(on_grid, rng)

    def values(self) -> Iterator[float]:
        """See `Domain.values`.

        Raises:
            SearchSpaceError: There is no step, so the values cannot be listed.
        """
        if self.size is None:
            raise SearchSpaceError(
                f"listing values needs a `step`; received the reals of [{self.low}, {self.high}]"
            )
        if self.step is None:
            return iter((float(self.low),))
        return (float(self._step_value(index)) for index in range(self._steps()))

    def beside(self, value: float, *, up: bool) -> float:
        """See `Domain.beside`; without a step, the next number the machine knows."""
        if self.step is not None:
            return super().beside(value, up=up)
        other = math.nextafter(value, math.inf if up else -math.inf)
        return other if self.low <= other <= self.high else math.nextafter(value, self.low)

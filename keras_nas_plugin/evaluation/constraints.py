"""Limits that a trial has to keep."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.evaluation.names import lookup


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A metric's largest or smallest allowed value, or both.

    What a model costs is checked before training: ``parameters`` (or ``params``), ``flops``,
    ``peak_memory_bytes`` (or ``memory``), ``latency_ms`` (or ``latency``), ``latency_p95_ms``,
    ``energy_mj`` and ``energy_estimate_mj``. Any other metric is checked when the trial ended.

    Args:
        name: A cost, or a metric that trials report, for example ``"val_loss"``.
        max: Largest allowed value.
        min: Smallest allowed value.

    Raises:
        SearchSpaceError: There is no bound, a bound is not a finite number, or both cannot be
            kept at once.
    """

    name: str
    max: float | None = None
    min: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds or not all(map(_is_number, bounds)):
            raise SearchSpaceError(
                f"a constraint on {self.name!r} needs `max` or `min`, a finite number; "
                f"received max={self.max!r}, min={self.min!r}"
            )
        if len(bounds) == 2 and self.min > self.max:
            raise SearchSpaceError(
                f"a constraint on {self.name!r} needs min <= max; "
                f"received max={self.max}, min={self.min}"
            )

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The metric that this limits, found by its short name too; None without it."""
        return lookup(metrics, self.name)

    def violation(self, value: float) -> float:
        """By how much a value breaks the limit, relative to the bound; 0 when it keeps it.

        Relative, so that violations of several constraints can be added up (Deb 2000, "An
        efficient constraint handling method for genetic algorithms", section 3). A bound
        of 0 counts as 1. A value that is not a number breaks every limit.

        >>> Constraint("params", max=200_000).violation(300_000)
        0.5
        """
        if math.isnan(value):
            return math.inf
        over = 0.0 if self.max is None else (value - self.max) / (abs(self.max) or 1.0)
        under = 0.0 if self.min is None else (self.min - value) / (abs(self.min) or 1.0)
        return max(over, under, 0.0)


def _is_number(bound: object) -> bool:
    # To be relative to an infinite bound means nothing.
    return isinstance(bound, numbers.Real) and not isinstance(bound, bool) and math.isfinite(bound)


def broken_by(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> dict[str, float]:
    """Violation by name of each constraint that ``metrics`` break.

    Two constraints on one metric add up. One whose metric is not there counts as kept.

    >>> broken_by([Constraint("params", max=2), Constraint("loss", max=1)], {"parameters": 3})
    {'params': 0.5}
    """
    broken: dict[str, float] = {}
    for constraint in constraints:
        value = constraint.value(metrics)
        violation = 0.0 if value is None else constraint.violation(value)
        if violation > 0:
            broken[constraint.name] = broken.get(constraint.name, 0.0) + violation
    return broken


def total_violation(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> float:
    """Sum of what ``metrics`` break; 0 when they keep every constraint.

    Raises:
        KeyError: The metric of a constraint is not there.
    """
    total = 0.0
    for constraint in constraints:
        value = constraint.value(metrics)
        if value is None:
            raise KeyError(constraint.name)
        total += constraint.violation(value)
    return total

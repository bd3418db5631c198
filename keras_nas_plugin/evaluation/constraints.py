"""Limits that a trial has to satisfy, and what an unreported metric means for them.

A trial that finished without reporting the metric of a constraint violates it: the trial cannot be
shown to satisfy the limit, so it is never among the best (`violations`, `is_feasible`). Oracles of
this package reject the report of such a trial. Constraints on absent metrics are ignored only if
metrics are expected to be incomplete (`broken_by`): the costs of a candidate are determined one
after another before training, and trials of earlier searches may lack a metric that this search
constrains.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.evaluation.names import (
    EXPORT_FORMATS,
    EXPORTABLE,
    EXPORTED,
    ExportedCost,
    canonical,
    lookup,
)


@dataclasses.dataclass(frozen=True)
class Constraint:
    """The largest or smallest allowed value of a metric, or both.

    Costs of the model are checked before training: ``parameters`` (or ``params``), ``flops``,
    ``peak_memory_bytes`` (or ``memory``), ``latency_ms`` (or ``latency``), ``latency_p95_ms``,
    ``energy_mj``, ``energy_estimate_mj``, ``device_latency_ms``, and the bytes and latencies of
    exported models (``litert_int8_bytes``, ``onnx_latency_ms``, ...). Any other metric is checked
    when the trial has ended.

    Args:
        name: A cost, or a metric that trials report, for example ``"val_loss"``.
        max: Largest allowed value.
        min: Smallest allowed value.

    Raises:
        SearchSpaceError: There is no bound, a bound is not a finite number, or no value can
            satisfy both.
    """

    name: str
    max: float | None = None
    min: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds or not all(map(_is_finite_number, bounds)):
            raise SearchSpaceError(
                f"`max` or `min` of a constraint on {self.name!r} must be a finite number; "
                f"got max={self.max!r}, min={self.min!r}"
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise SearchSpaceError(
                f"`min` of a constraint on {self.name!r} must be at most `max`; "
                f"got max={self.max}, min={self.min}"
            )

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """The value of the metric, under this name or its full name; None if not reported."""
        return lookup(metrics, self.name)

    def violation(self, value: float | None) -> float:
        """By how much a value violates the limit, relative to the bound; 0 if it satisfies it.

        Because violations are relative, those of several constraints can be added up (Deb 2000,
        "An efficient constraint handling method for genetic algorithms", section 3). For a bound
        of 0, the violation is absolute. That of NaN, or of None for an unreported metric, is
        infinite.

        >>> Constraint("params", max=200_000).violation(300_000)
        0.5
        """
        if value is None or math.isnan(value):
            return math.inf
        over = 0.0 if self.max is None else (value - self.max) / (abs(self.max) or 1.0)
        under = 0.0 if self.min is None else (self.min - value) / (abs(self.min) or 1.0)
        return max(over, under, 0.0)


def _is_finite_number(bound: object) -> bool:
    # A violation relative to an infinite bound has no meaning.
    return isinstance(bound, numbers.Real) and not isinstance(bound, bool) and math.isfinite(bound)


def violations(
    constraints: Iterable[Constraint], metrics: Mapping[str, float]
) -> dict[str, float]:
    """The violation of each constraint that a finished trial violates, by name.

    Violations of two constraints on one metric are added up. An unreported metric is an infinite
    violation.

    >>> violations([Constraint("params", max=2), Constraint("loss", max=1)], {"parameters": 3})
    {'params': 0.5, 'loss': inf}

    Args:
        constraints: The limits.
        metrics: All metrics and costs of the trial.
    """
    violated: dict[str, float] = {}
    for constraint in constraints:
        violation = constraint.violation(constraint.value(metrics))
        if violation > 0:
            violated[constraint.name] = violated.get(constraint.name, 0.0) + violation
    return violated


def is_feasible(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> bool:
    """Whether a finished trial satisfies all constraints, so that it may be the best one.

    >>> limit = Constraint("val_loss", max=1.0)
    >>> is_feasible([limit], {"val_loss": 0.5}), is_feasible([limit], {})
    (True, False)

    Args:
        constraints: The limits.
        metrics: All metrics and costs of the trial.
    """
    return not violations(constraints, metrics)


def total_violation(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> float:
    """Sum of `violations`; 0 for a trial that satisfies every constraint."""
    return sum(violations(constraints, metrics).values())


def broken_by(constraints: Iterable[Constraint], metrics: Mapping[str, float]) -> dict[str, float]:
    """`violations` of the constraints whose metric was measured; the others are ignored.

    For incomplete metrics, such as those of a candidate before training or of a trial of another
    search.

    >>> broken_by([Constraint("params", max=2), Constraint("loss", max=1)], {"parameters": 3})
    {'params': 0.5}

    Args:
        constraints: The limits.
        metrics: The metrics that have been measured.
    """
    measured = [limit for limit in constraints if limit.value(metrics) is not None]
    return violations(measured, metrics)


def with_exportability(
    constraints: Sequence[Constraint],
    objectives: Iterable[str] = (),
    exportable: str | Sequence[str] = (),
) -> tuple[Constraint, ...]:
    """Add the condition that models can be exported, wherever a search depends on it.

    >>> limits = with_exportability([Constraint("litert_int8_bytes", max=50_000)])
    >>> [limit.name for limit in limits]
    ['litert_int8_bytes', 'litert_int8_exportable']

    Args:
        constraints: The limits of a search.
        objectives: Names of its objectives.
        exportable: Formats to which models must be exportable, such as ``"litert"`` or
            ``"litert_int8"``.

    Raises:
        SearchSpaceError: There is no such format.
    """
    formats = [exportable] if isinstance(exportable, str) else list(exportable)
    conditions = [f"{name}_{EXPORTABLE}".replace("-", "_") for name in formats]
    for name, condition in zip(formats, conditions, strict=True):
        if condition not in EXPORTED:
            raise SearchSpaceError(
                f"`exportable` must name formats among {', '.join(EXPORT_FORMATS)}, with a "
                f"quantization such as litert_int8; got {name!r}"
            )
    used = [canonical(name) for name in (*(limit.name for limit in constraints), *objectives)]
    for cost in filter(None, map(EXPORTED.get, used)):
        conditions.append(ExportedCost(cost.format, cost.quantize, EXPORTABLE).name)
    given = {canonical(limit.name) for limit in constraints}
    missing = [name for name in dict.fromkeys(conditions) if name not in given]
    return (*constraints, *(Constraint(name, min=1) for name in missing))

"""Absolute limits on the challenger's metrics and costs, with or without a champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from keras_nas_plugin.evaluation.constraints import Constraint, total_violation
from keras_nas_plugin.evaluation.names import COSTS, costs_among, lookup
from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.metrics import METRICS, Metric

SIZE = "size_bytes"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Limits on metrics, such as ``accuracy >= 0.9``.

    Args:
        limits: At least one.
        metric: The metric of the promotion, which may be a user's function.

    Raises:
        PromotionError: A limit names an unknown metric.
    """

    limits: tuple[Constraint, ...]
    metric: Metric | None = None

    def __post_init__(self) -> None:
        for limit in self.limits:
            if limit.name not in self._metrics:
                raise PromotionError(
                    f"`thresholds` must be on one of {', '.join(self._metrics)}, or on a cost; "
                    f"got {limit.name!r}"
                )

    @property
    def costs(self) -> tuple[str, ...]:
        """Empty: this gate needs no costs."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        y, predictions = evidence.y, evidence.challenger.predictions
        values = {
            limit.name: self._metrics[limit.name].value(y, predictions) for limit in self.limits
        }
        return _finding("thresholds", self.limits, values)

    @property
    def _metrics(self) -> dict[str, Metric]:
        return METRICS | ({self.metric.name: self.metric} if self.metric else {})


@dataclasses.dataclass(frozen=True)
class CostLimits:
    """Limits on costs, such as ``latency_ms <= 10``, measured on this machine.

    Args:
        limits: At least one. Each name is that of a cost, or ``"size"``: the number of bytes of
            the version's files.
    """

    limits: tuple[Constraint, ...]

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the limited costs."""
        return costs_among(limit.name for limit in self.limits)

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        costs = evidence.challenger.costs
        values = {
            limit.name: value
            for limit in self.limits
            if (value := lookup(costs, canonical_cost(limit.name))) is not None
        }
        missing = [limit.name for limit in self.limits if limit.name not in values]
        if missing:
            raise PromotionError(
                f"`thresholds` must be on costs that the model has; got {', '.join(missing)}"
            )
        return _finding("costs", self.limits, values)


def canonical_cost(name: str) -> str:
    """The full name of a cost; other names are returned unchanged.

    >>> canonical_cost("size"), canonical_cost("latency"), canonical_cost("accuracy")
    ('size_bytes', 'latency_ms', 'accuracy')
    """
    return SIZE if name == "size" else next(iter(costs_among([name])), name)


def is_cost(name: str) -> bool:
    """Whether ``name`` is a cost, and not a metric."""
    return canonical_cost(name) in {SIZE, *COSTS}


def gates_of(limits: Iterable[Constraint], metric: Metric) -> list[Thresholds | CostLimits]:
    """The gates for these limits: one for metrics, one for costs."""
    limits = tuple(limits)
    on_costs = tuple(limit for limit in limits if is_cost(limit.name))
    on_metrics = tuple(limit for limit in limits if not is_cost(limit.name))
    gates: list[Thresholds | CostLimits] = []
    if on_metrics:
        gates.append(Thresholds(on_metrics, metric))
    if on_costs:
        gates.append(CostLimits(on_costs))
    return gates


def _finding(name: str, limits: tuple[Constraint, ...], values: Mapping[str, float]) -> Finding:
    parts, passed, numbers = [], True, {}
    for limit in limits:
        value = values[limit.name]
        satisfied = total_violation([limit], {limit.name: value}) == 0
        passed &= satisfied
        numbers[limit.name] = {
            "value": value,
            "min": limit.min,
            "max": limit.max,
            "kept": satisfied,
        }
        bounds = [(">=", limit.min), ("<=", limit.max)]
        allowed = " and ".join(
            f"{sign} {bound:.6g}" for sign, bound in bounds if bound is not None
        )
        parts.append(f"{limit.name} {value:.6g} {'' if satisfied else 'is not '}{allowed}")
    return Finding(name, passed, "; ".join(parts), numbers)

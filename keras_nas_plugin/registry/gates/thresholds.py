"""Absolute limits on the challenger's metrics and costs, champion or not."""

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
        metric: The metric of the promotion, which need not be one of the built-in ones.

    Raises:
        PromotionError: A limit is on a metric that is not known.
    """

    limits: tuple[Constraint, ...]
    metric: Metric | None = None

    def __post_init__(self) -> None:
        for limit in self.limits:
            if limit.name not in self._known:
                raise PromotionError(
                    f"`thresholds` needs one of {', '.join(self._known)}, or a cost; received "
                    f"{limit.name!r}"
                )

    @property
    def costs(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        y, predictions = evidence.y, evidence.challenger.predictions
        values = {
            limit.name: self._known[limit.name].value(y, predictions) for limit in self.limits
        }
        return _finding("thresholds", self.limits, values)

    @property
    def _known(self) -> dict[str, Metric]:
        return METRICS | ({self.metric.name: self.metric} if self.metric else {})


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Limits on costs, such as ``latency_ms <= 10``, measured on this machine.

    Args:
        limits: At least one; names are those of costs, or ``"size"``, the bytes of the
            version's files.
    """

    limits: tuple[Constraint, ...]

    @property
    def costs(self) -> tuple[str, ...]:
        """Those that are limited."""
        return costs_among(limit.name for limit in self.limits)

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        found = evidence.challenger.costs
        values = {limit.name: lookup(found, canonical_cost(limit.name)) for limit in self.limits}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise PromotionError(
                f"`thresholds` needs costs that can be found; received {', '.join(missing)}"
            )
        return _finding("costs", self.limits, values)


def canonical_cost(name: str) -> str:
    """The cost that a name stands for; any other name as it is.

    >>> canonical_cost("size"), canonical_cost("latency"), canonical_cost("accuracy")
    ('size_bytes', 'latency_ms', 'accuracy')
    """
    return SIZE if name == "size" else next(iter(costs_among([name])), name)


def is_cost(name: str) -> bool:
    """Whether a limit on ``name`` is one on a cost."""
    return canonical_cost(name) in {SIZE, *COSTS}


def gates_of(limits: Iterable[Constraint], metric: Metric) -> list[Thresholds | Ceilings]:
    """The gates of several limits: on metrics, and on costs."""
    limits = tuple(limits)
    on_costs = tuple(limit for limit in limits if is_cost(limit.name))
    on_metrics = tuple(limit for limit in limits if not is_cost(limit.name))
    gates: list[Thresholds | Ceilings] = []
    if on_metrics:
        gates.append(Thresholds(on_metrics, metric))
    if on_costs:
        gates.append(Ceilings(on_costs))
    return gates


def _finding(name: str, limits: tuple[Constraint, ...], values: Mapping[str, float]) -> Finding:
    parts, passed, numbers = [], True, {}
    for limit in limits:
        value = values[limit.name]
        kept = total_violation([limit], {limit.name: value}) == 0
        passed &= kept
        numbers[limit.name] = {"value": value, "min": limit.min, "max": limit.max, "kept": kept}
        bounds = [(">=", limit.min), ("<=", limit.max)]
        wanted = " and ".join(f"{sign} {bound:.6g}" for sign, bound in bounds if bound is not None)
        parts.append(f"{limit.name} {value:.6g} {'' if kept else 'is not '}{wanted}")
    return Finding(name, passed, "; ".join(parts), numbers)

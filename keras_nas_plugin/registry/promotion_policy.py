"""The conditions under which a challenger becomes champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.registry.gates.base import (
    Direction,
    Evidence,
    Gate,
    Method,
    MetricName,
    PromotionError,
)

if TYPE_CHECKING:
    from keras_nas_plugin.registry.metrics import Metric, Scorer


# The command line reads its defaults from this class for `--help`, so the gates, which import
# numpy, are imported only where they are built.
@dataclasses.dataclass(frozen=True, kw_only=True)
class PromotionPolicy:
    """The conditions under which `promote` makes a challenger champion.

    ```python
    policy = PromotionPolicy(
        thresholds=[Constraint("accuracy", min=0.9), Constraint("latency", max=20)],
        max_class_drop=0.05,
    )
    promote("digits", (x_test, y_test), policy=policy)
    ```

    A challenger has to pass every gate: a fresh process can load it and predict; it satisfies
    the limits on metrics and costs; it is better than the champion by a paired test on the same
    rows; and no class loses too much.

    The test is one-sided. Its null hypothesis says that the challenger's expected score on the
    population of the rows exceeds the champion's by at most ``min_improvement``; a challenger
    for which this is true passes with a probability of at most ``alpha``. With the default of
    0, an equally good challenger therefore hardly ever replaces the champion; with -0.01, one
    that is provably less than 0.01 worse does (non-inferiority).

    Args:
        metric: ``"accuracy"``, ``"loss"`` (cross-entropy), ``"mae"``, ``"mse"``, or a function
            of ``(y, predictions)`` that returns a number, or one per row. None selects accuracy
            for classes, else ``"mse"``.
        direction: ``"max"`` or ``"min"``; required if ``metric`` is a function.
        alpha: Significance level of the test, between 0 and 1.
        min_improvement: The improvement that has to be exceeded, in units of the metric;
            negative for non-inferiority.
        method: ``"mcnemar"``, ``"bootstrap"``, or ``"auto"``: McNemar's test if the metric is 0
            or 1 for each row.
        resamples: Number of bootstrap samples, at least 99.
        seed: Seed of the bootstrap.
        thresholds: Limits on metrics and on costs (``"parameters"``, ``"size"`` for the bytes of
            the version's files, ``"latency"``, measured on this machine, and others). Without a
            champion, there has to be one on a metric.
        max_class_drop: Largest allowed decrease of the share of a class that is classified
            correctly, between 0 and 1; None does not compare classes.
        smoke_test: Whether to load the model in a fresh process.
        gates: Further gates, in the order in which they are checked.

    Raises:
        PromotionError: A value is out of range or unknown.
    """

    metric: MetricName | Scorer | None = None
    direction: Direction | None = None
    alpha: float = 0.05
    min_improvement: float = 0.0
    method: Method = "auto"
    resamples: int = 9999
    seed: int = 0
    thresholds: Sequence[Constraint] = ()
    max_class_drop: float | None = None
    smoke_test: bool = True
    gates: Sequence[Gate] = ()

    def __post_init__(self) -> None:
        for name in ("thresholds", "gates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for constraint in self.thresholds:
            if not isinstance(constraint, Constraint):
                raise PromotionError(
                    "`thresholds` must hold `Constraint(name, min=..., max=...)` only; "
                    f"got {constraint!r}"
                )
        if self.seed < 0:
            raise PromotionError(f"`seed` must be at least 0; got {self.seed}")
        # Gates validate their own settings. Building them here reports a mistake now, and not
        # after minutes of loading and predicting. The type of the labels is not known yet.
        self._build_gates(self._resolve_metric(None))

    def gates_for(self, evidence: Evidence) -> list[Gate]:
        """All gates in the order in which a verdict lists them.

        Args:
            evidence: The evidence; its labels decide the metric if the policy has none.
        """
        return self._build_gates(self._resolve_metric(evidence))

    @property
    def required_costs(self) -> tuple[str, ...]:
        """Names of the challenger's costs that the gates need."""
        from keras_nas_plugin.registry.gates.thresholds import is_cost

        limited = [limit.name for limit in self.thresholds if is_cost(limit.name)]
        return (*limited, *(cost for gate in self.gates for cost in gate.costs))

    @property
    def can_judge_first_champion(self) -> bool:
        """Whether a gate judges the quality of a challenger when there is no champion to beat."""
        from keras_nas_plugin.registry.gates.thresholds import is_cost

        return bool(self.gates) or any(not is_cost(limit.name) for limit in self.thresholds)

    def _resolve_metric(self, evidence: Evidence | None) -> Metric:
        from keras_nas_plugin.registry import metrics

        if self.metric is not None:
            return metrics.resolve_metric(self.metric, self.direction)
        if evidence is None:
            metrics.check_direction(self.direction)
            return metrics.METRICS["accuracy"]
        name = metrics.default_metric(evidence.y, evidence.challenger.predictions)
        return metrics.resolve_metric(name, self.direction)

    def _build_gates(self, metric: Metric) -> list[Gate]:
        from keras_nas_plugin.registry.gates.comparison import Comparison
        from keras_nas_plugin.registry.gates.slices import Classes
        from keras_nas_plugin.registry.gates.smoke import FreshProcess
        from keras_nas_plugin.registry.gates.thresholds import gates_of

        gates: list[Gate] = [FreshProcess()] if self.smoke_test else []
        gates += gates_of(self.thresholds, metric)
        gates.append(
            Comparison(
                metric=metric,
                alpha=self.alpha,
                min_improvement=self.min_improvement,
                method=self.method,
                resamples=self.resamples,
                seed=self.seed,
            )
        )
        if self.max_class_drop is not None:
            gates.append(Classes(self.max_class_drop))
        return [*gates, *self.gates]

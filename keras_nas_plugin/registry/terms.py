"""On which terms a challenger becomes champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.registry.gates.base import Evidence, Gate, PromotionError
from keras_nas_plugin.registry.gates.comparison import Comparison, Method
from keras_nas_plugin.registry.gates.slices import Classes
from keras_nas_plugin.registry.gates.smoke import FreshProcess
from keras_nas_plugin.registry.gates.thresholds import gates_of, is_cost
from keras_nas_plugin.registry.metrics import METRICS, Direction, Metric, resolve_metric

MetricLike = str | Callable[[np.ndarray, np.ndarray], Any] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """What `promote` was told, each under its name there.

    Raises:
        PromotionError: Something is out of its range, or not known.
    """

    metric: MetricLike = None
    direction: Direction | None = None
    alpha: float = 0.05
    min_improvement: float = 0.0
    method: Method = "auto"
    resamples: int = 9999
    seed: int = 0
    thresholds: tuple[Constraint, ...] = ()
    max_class_drop: float | None = None
    smoke_test: bool = True
    gates: tuple[Gate, ...] = ()
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise PromotionError(f"`batch_size` needs at least 1; received {self.batch_size}")
        for limit in self.thresholds:
            if not isinstance(limit, Constraint):
                raise PromotionError(
                    f"`thresholds` needs `Constraint(name, min=..., max=...)`; received {limit!r}"
                )
        # Gates say what is wrong with them when they are made: better now than after minutes.
        self._gates(METRICS["accuracy"] if self.metric is None else self._metric(None))

    def all_gates(self, evidence: Evidence) -> list[Gate]:
        """Every gate, in the order in which a reader wants to know."""
        return self._gates(self._metric(evidence))

    def costs(self) -> list[str]:
        """Costs that some gate needs."""
        limits = [limit.name for limit in self.thresholds if is_cost(limit.name)]
        return limits + [cost for gate in self.gates for cost in gate.costs]

    def judge_alone(self) -> bool:
        """Whether there is something to judge a first champion by."""
        return bool(self.gates) or any(not is_cost(limit.name) for limit in self.thresholds)

    def _metric(self, evidence: Evidence | None) -> Metric:
        y, predictions = (None, None)
        if evidence is not None:
            y, predictions = evidence.y, evidence.challenger.predictions
        return resolve_metric(self.metric, self.direction, y, predictions)

    def _gates(self, metric: Metric) -> list[Gate]:
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

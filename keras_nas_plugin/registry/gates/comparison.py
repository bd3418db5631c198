"""Whether the challenger is better than the champion, by a paired test on the same rows."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.metrics import Metric
from keras_nas_plugin.registry.paired import (
    PairedTest,
    bootstrap_mean,
    bootstrap_statistic,
    mcnemar,
    score_test,
)

Method = Literal["auto", "mcnemar", "bootstrap"]
METHODS = ("auto", "mcnemar", "bootstrap")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A one-sided paired test of ``improvement > min_improvement`` at the level ``alpha``.

    The improvement is the challenger's expected score minus the champion's, larger being
    better, over the population that the rows come from. A challenger whose true improvement
    is no more than ``min_improvement`` passes with a probability of at most ``alpha``.

    Args:
        metric: What is compared.
        alpha: The level, between 0 and 1.
        min_improvement: What has to be exceeded, in units of the metric. Negative: worse by
            less than this is good enough (non-inferiority).
        method: ``"mcnemar"`` for scores of 0 and 1 per row, ``"bootstrap"`` for any, or
            ``"auto"``: the first where it can be.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        PromotionError: A number is out of its range, or a method unknown.
    """

    metric: Metric
    alpha: float = 0.05
    min_improvement: float = 0.0
    method: Method = "auto"
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise PromotionError(f"`alpha` needs to be between 0 and 1; received {self.alpha}")
        if not math.isfinite(self.min_improvement):
            raise PromotionError(
                f"`min_improvement` needs a finite number; received {self.min_improvement}"
            )
        if self.method not in METHODS:
            raise PromotionError(
                f"`method` needs one of {', '.join(METHODS)}; received {self.method!r}"
            )
        if self.resamples < 99:
            raise PromotionError(f"`resamples` needs at least 99; received {self.resamples}")

    @property
    def costs(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        if evidence.champion is None:
            message = "no champion to compare with: the thresholds decide"
            return Finding("comparison", True, message)
        y, rng = evidence.y, np.random.default_rng(self.seed)
        challenger = self.metric.scores(y, evidence.challenger.predictions)
        champion = self.metric.scores(y, evidence.champion.predictions)
        if challenger.ndim:
            test = self._by_row(challenger, champion, rng)
        else:
            test = self._whole(evidence, rng)
        passed = test.p_value <= self.alpha  # NaN is not
        values = {"challenger": np.mean(challenger), "champion": np.mean(champion)}
        return self._finding(test, passed, {k: float(v) for k, v in values.items()}, len(y))

    def _by_row(
        self, challenger: np.ndarray, champion: np.ndarray, rng: np.random.Generator
    ) -> PairedTest:
        difference = self.metric.sign * (challenger - champion)
        binary = np.isin([challenger, champion], [0.0, 1.0]).all()
        if self.method == "mcnemar" and not binary:
            raise PromotionError(
                "`method` 'mcnemar' needs a metric that is 0 or 1 for each row, such as "
                f"accuracy; received {self.metric.name!r}. Use 'bootstrap'."
            )
        if self.method == "bootstrap" or not binary:
            options = {"alpha": self.alpha, "resamples": self.resamples, "rng": rng}
            return bootstrap_mean(difference, self.min_improvement, **options)
        wins, losses = int(np.sum(difference > 0)), int(np.sum(difference < 0))
        if self.min_improvement == 0:
            return mcnemar(wins, losses, len(difference))
        if abs(self.min_improvement) >= 1:
            raise PromotionError(
                "`min_improvement` needs to be between -1 and 1 for a metric of 0 and 1; "
                f"received {self.min_improvement}"
            )
        return score_test(wins, losses, len(difference), self.min_improvement)

    def _whole(self, evidence: Evidence, rng: np.random.Generator) -> PairedTest:
        if self.method == "mcnemar":
            raise PromotionError(
                "`method` 'mcnemar' needs a metric with a number for each row; received "
                f"{self.metric.name!r}, which gives one for all. Use 'bootstrap'."
            )
        models = (evidence.challenger.predictions, evidence.champion.predictions)

        def improvement(rows: np.ndarray) -> float:
            better, worse = (self.metric.value(evidence.y[rows], m[rows]) for m in models)
            return self.metric.sign * (better - worse)

        def exchanged(mask: np.ndarray) -> float:
            mask = mask.reshape(-1, *[1] * (np.ndim(models[0]) - 1))
            mixed = (np.where(mask, *models[::-1]), np.where(mask, *models))
            better, worse = (self.metric.value(evidence.y, m) for m in mixed)
            return self.metric.sign * (better - worse)

        return bootstrap_statistic(
            improvement,
            len(evidence.y),
            self.min_improvement,
            alpha=self.alpha,
            resamples=self.resamples,
            rng=rng,
            # Models whose predictions differ in form are not interchangeable.
            exchanged=exchanged if np.shape(models[0]) == np.shape(models[1]) else None,
        )

    def _finding(
        self, test: PairedTest, passed: bool, values: dict[str, float], rows: int
    ) -> Finding:
        numbers = {
            "metric": self.metric.name,
            "direction": self.metric.direction,
            "method": test.method,
            **values,
            "improvement": test.improvement,
            "min_improvement": test.margin,
            "p_value": test.p_value,
            "alpha": self.alpha,
            "rows": rows,
            **test.numbers,
        }
        if test.method.startswith("bootstrap"):
            numbers |= {"resamples": self.resamples, "seed": self.seed}
        verb, relation = ("exceeds", "<=") if passed else ("not shown to exceed", "is not <=")
        message = (
            f"{self.metric.name} {values['challenger']:.6g} against {values['champion']:.6g}, "
            f"improvement {test.improvement:+.6g} {verb} {test.margin:g}: p {test.p_value:.4g} "
            f"{relation} {self.alpha:g} ({test.method}, {rows} rows)"
        )
        return Finding("comparison", passed, message, numbers)

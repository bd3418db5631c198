"""Whether the challenger is better than the champion, by a paired test on the same rows."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import numpy as np

from keras_nas_plugin.registry.gates.base import (
    Candidate,
    Evidence,
    Finding,
    Method,
    PromotionError,
)
from keras_nas_plugin.registry.metrics import Metric
from keras_nas_plugin.registry.paired import (
    PairedTest,
    bootstrap_mean,
    bootstrap_statistic,
    mcnemar,
    score_test,
)

METHODS = get_args(Method)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A one-sided paired test of ``improvement > min_improvement`` at the level ``alpha``.

    The improvement is the challenger's expected score minus the champion's, larger being
    better, over the population that the rows come from. A challenger whose true improvement
    is at most ``min_improvement`` passes with a probability of at most ``alpha``.

    Args:
        metric: The metric to compare.
        alpha: Significance level, between 0 and 1.
        min_improvement: The improvement that has to be exceeded, in units of the metric.
            Negative: a challenger that is worse by less than this passes (non-inferiority).
        method: ``"mcnemar"`` for scores of 0 and 1 per row, ``"bootstrap"`` for any, or
            ``"auto"``: McNemar's where it applies.
        resamples: Number of bootstrap samples, at least 99.
        seed: Seed of the bootstrap.

    Raises:
        PromotionError: A number is out of range, or the method is unknown.
    """

    metric: Metric
    alpha: float = 0.05
    min_improvement: float = 0.0
    method: Method = "auto"
    resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise PromotionError(f"`alpha` must be between 0 and 1; got {self.alpha}")
        if not math.isfinite(self.min_improvement):
            raise PromotionError(
                f"`min_improvement` must be a finite number; got {self.min_improvement}"
            )
        if self.method not in METHODS:
            raise PromotionError(
                f"`method` must be one of {', '.join(METHODS)}; got {self.method!r}"
            )
        if self.resamples < 99:
            raise PromotionError(f"`resamples` must be at least 99; got {self.resamples}")

    @property
    def costs(self) -> tuple[str, ...]:
        """Empty: this gate needs no costs."""
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
            test = self._test_rows(challenger, champion, rng)
        else:
            test = self._test_statistic(y, evidence.challenger, evidence.champion, rng)
        passed = test.p_value <= self.alpha  # NaN does not pass
        values = {"challenger": np.mean(challenger), "champion": np.mean(champion)}
        return self._finding(test, passed, {k: float(v) for k, v in values.items()}, len(y))

    def _test_rows(
        self, challenger: np.ndarray, champion: np.ndarray, rng: np.random.Generator
    ) -> PairedTest:
        difference = self.metric.sign * (challenger - champion)
        binary = np.isin([challenger, champion], [0.0, 1.0]).all()
        if self.method == "mcnemar" and not binary:
            raise PromotionError(
                "`metric` must be 0 or 1 for each row if `method` is 'mcnemar', as accuracy is; "
                f"got {self.metric.name!r}. Use `method='bootstrap'`."
            )
        if self.method == "bootstrap" or not binary:
            return bootstrap_mean(
                difference,
                self.min_improvement,
                alpha=self.alpha,
                resamples=self.resamples,
                rng=rng,
            )
        wins, losses = int(np.sum(difference > 0)), int(np.sum(difference < 0))
        if self.min_improvement == 0:
            return mcnemar(wins, losses, len(difference))
        if abs(self.min_improvement) >= 1:
            raise PromotionError(
                "`min_improvement` must be between -1 and 1 for a metric of 0 and 1; "
                f"got {self.min_improvement}"
            )
        return score_test(wins, losses, len(difference), self.min_improvement)

    def _test_statistic(
        self,
        y: np.ndarray,
        challenger: Candidate,
        champion: Candidate,
        rng: np.random.Generator,
    ) -> PairedTest:
        if self.method == "mcnemar":
            raise PromotionError(
                "`metric` must return a number for each row if `method` is 'mcnemar'; got "
                f"{self.metric.name!r}, which returns one for all rows. Use `method='bootstrap'`."
            )
        models = (challenger.predictions, champion.predictions)

        def improvement(rows: np.ndarray) -> float:
            better, worse = (self.metric.value(y[rows], m[rows]) for m in models)
            return self.metric.sign * (better - worse)

        def exchanged(mask: np.ndarray) -> float:
            mask = mask.reshape(-1, *[1] * (np.ndim(models[0]) - 1))
            mixed = (np.where(mask, *models[::-1]), np.where(mask, *models))
            better, worse = (self.metric.value(y, m) for m in mixed)
            return self.metric.sign * (better - worse)

        return bootstrap_statistic(
            improvement,
            len(y),
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

"""Metrics that a `run_trial` reported through `oracle.update_trial` instead of returning them."""

from __future__ import annotations

import dataclasses
import math

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import InvalidResultError
from keras_nas_plugin.evaluation.results import Objective, Result
from keras_nas_plugin.training.running import RunningTrial

#: The method of a tuner that runs a trial, as error messages name it.
RUN_TRIAL = "run_trial"


def training_method(tuner: type[keras_tuner.Tuner], base: type[keras_tuner.Tuner]) -> str:
    """The method that a subclass of a tuner, or its hypermodel, overrides to train, for messages.

    Args:
        tuner: The class.
        base: The class whose methods are not overridden.
    """
    for name in (RUN_TRIAL, "_build_and_fit_model"):
        if getattr(tuner, name) is not getattr(base, name):
            return name
    return "HyperModel.fit"


@dataclasses.dataclass(frozen=True)
class ReportedMetrics:
    """What a trial reported to its oracle.

    Attributes:
        result: The metrics of the best step.
        curve: Metrics per step; empty unless several consecutive steps were reported.
        first_step: The step at which the curve begins.
    """

    result: Result
    curve: tuple[dict[str, float], ...] = ()
    first_step: int = 0

    @classmethod
    def of(cls, trial: Trial, objective: Objective) -> ReportedMetrics | None:
        """Read the metrics of the oracle's trial.

        As in KerasTuner, the score is the best value of the objective over all steps. A metric
        that was not reported at that step has its own best value.

        Args:
            trial: The trial as the oracle has it.
            objective: The objective of the search.

        Returns:
            The metrics; None if the objective was not reported.

        Raises:
            InvalidResultError: The objective is NaN or infinite at every step.
        """
        if not trial.metrics.exists(objective.name):
            return None
        steps: dict[int, dict[str, float]] = {}
        for name, history in trial.metrics.metrics.items():
            for observation in history.get_history():
                steps.setdefault(int(observation.step), {})[name] = float(observation.mean())
        best: int | None = None
        for step in sorted(steps):
            value = steps[step].get(objective.name, math.nan)
            if math.isfinite(value) and (
                best is None or objective.better_than(value, steps[best][objective.name])
            ):
                best = step
        if best is None:
            raise InvalidResultError(
                f"`{objective.name}` must be finite; `run_trial` reported "
                f"{trial.metrics.get_last_value(objective.name)}"
            )
        best_values = {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}
        metrics = {**best_values, **steps[best]}
        result = Result(metrics[objective.name], metrics, best)
        first, last = min(steps), max(steps)
        if not 0 < last - first == len(steps) - 1:
            return cls(result)
        return cls(result, tuple(steps[step] for step in range(first, last + 1)), first)

    def enter(self, running: RunningTrial) -> None:
        """Add the curve to a running trial whose epochs no callback recorded."""
        if self.curve and not any(running.curves):
            running.curves.append(list(self.curve))
            running.first_epoch = self.first_step

"""A trial while it trains, and the record it leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import (
    CostError,
    HyperModelError,
    ObjectiveError,
    SearchSpaceError,
    StateError,
)
from keras_nas_plugin.evaluation.results import Result, epochs_of
from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.tracking.records import Status, TrialRecord
from keras_nas_plugin.training.costing import CostPlan
from keras_nas_plugin.training.proxying import proxies_of

# Errors that every further trial would run into as well.
FATAL = (keras_tuner.errors.FatalError, CostError, HyperModelError, ObjectiveError)
FATAL += (SearchSpaceError, StateError)


class RunningTrial:
    """What is known of a trial while it trains.

    Args:
        trial: The trial.
        plan: Which costs it has.
        costs: Those that are known already.
        folder: Of the trial.
    """

    def __init__(
        self,
        trial: Trial,
        plan: CostPlan,
        costs: Mapping[str, float],
        folder: Path,
    ) -> None:
        self.trial = trial
        self.plan = plan
        self.known = len(trial.hyperparameters.space)
        self.curves: list[list[dict[str, float]]] = []
        #: The epoch that the curves begin with.
        self.first_epoch = 0
        self.costs = dict(costs)
        self.parents = load_parents(folder)
        self._counted = False
        self.started_ms = time.time_ns() // 1_000_000

    def values(self) -> dict[str, Any]:
        """Active hyperparameters: KerasTuner's workers receive inactive ones too."""
        hyperparameters = self.trial.hyperparameters
        return spec_of(hyperparameters).restrict(hyperparameters.values)

    def ran(self, model: Any, seconds: float) -> None:
        """Note an execution: the Keras model, if it is known, and how long it trained."""
        self.costs["train_seconds"] = self.costs.get("train_seconds", 0.0) + seconds
        if model is not None and model.built and not self._counted:
            self.costs |= self.plan.costs_of(model, self.costs)
            self._counted = True

    def record(
        self,
        status: Status,
        *,
        result: Result | None = None,
        returned: Any = None,
        error: BaseException | None = None,
    ) -> TrialRecord:
        """The trial as it ended."""
        curves = [curve for curve in self.curves if curve]
        if not curves and isinstance(returned, list):
            curves = [epochs_of(item) for item in returned if hasattr(item, "history")]
        hyperparameters = self.trial.hyperparameters
        grown = len(hyperparameters.space) > self.known
        return TrialRecord(
            trial_id=self.trial.trial_id,
            values=self.values(),
            status=status,
            score=result.score if result else None,
            metrics=result.metrics if result else {},
            best_step=result.step if result else 0,
            curves=tuple(tuple(curve) for curve in curves),
            first_epoch=self.first_epoch,
            costs=self.costs,
            proxies=proxies_of(self.trial),
            parents=self.parents,
            error=None if error is None else error_line(error),
            hyperparameters=hyperparameters.get_config() if grown else None,
            started_ms=self.started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )


def error_line(error: BaseException) -> str:
    """Type and first line of an exception, as a traceback's last line shows it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

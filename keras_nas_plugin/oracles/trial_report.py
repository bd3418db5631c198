"""Results that a worker reports, and their transfer to the oracle's trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import NewEntriesError, ObjectiveError, SearchSpaceError
from keras_nas_plugin.oracles.scoring import Scoring
from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.space.hyperparameters import spec_of


@dataclasses.dataclass(frozen=True)
class TrialReport:
    """The end of a trial, as reported by the worker that ran it.

    Attributes:
        status: ``"COMPLETED"``, ``"INVALID"`` or ``"FAILED"``.
        message: Why the trial did not complete; None otherwise.
        hyperparameters: Values of the trial, with all hyperparameters of its model.
    """

    status: str
    message: str | None
    hyperparameters: keras_tuner.HyperParameters

    @classmethod
    def of(cls, trial: Trial) -> TrialReport:
        """The report in a worker's trial, which may be the same object as the oracle's trial."""
        return cls(trial.status, trial.message, trial.hyperparameters)

    def apply(self, trial: Trial, space: SearchSpace) -> SearchSpaceError | None:
        """Copy status, message and values to the oracle's trial.

        Args:
            trial: The oracle's trial, which is changed.
            space: The search space, to which new hyperparameters of the model are added.

        Returns:
            The error to raise once the trial is saved; None if there is none.
        """
        trial.status, trial.message = self.status, self.message
        error = None
        try:
            space.extend(self.hyperparameters)
        except RuntimeError as problem:
            error = NewEntriesError(
                "`hyperparameters` must list every hyperparameter of the model when "
                f"`allow_new_entries=False`: {problem}"
            )
            trial.status, trial.message = TrialStatus.FAILED, str(error)
        self._apply_values(trial)
        return error

    def _apply_values(self, trial: Trial) -> None:
        """Copy the active values, including those of new hyperparameters.

        The chief/worker service may round floats and adds inactive values (KerasTuner 1.4.8), so
        the original values of the trial are kept.
        """
        values = dict(self.hyperparameters.values)
        for name, value in trial.hyperparameters.values.items():
            rounded = isinstance(value, float) and (
                np.float32(value) == np.float32(values.get(name))
            )
            if rounded or name not in values:
                values[name] = value
        trial.hyperparameters.merge(self.hyperparameters.space, overwrite=False)
        trial.hyperparameters.values = spec_of(trial.hyperparameters).restrict(values)


def reset_trial(trial: Trial) -> Trial:
    """Reset a trial to its state before the first run, for a retry."""
    trial.status, trial.message = TrialStatus.RUNNING, None
    trial.score, trial.best_step = None, 0
    # The metrics of the failed run must not be averaged with those of the next.
    trial.metrics = type(trial.metrics)()
    return trial


def reject_useless_score(trial: Trial, objective: str) -> None:
    """Mark a completed trial as invalid if its score is not finite.

    Args:
        trial: A scored trial, which may be changed.
        objective: Name of the objective, for the message.
    """
    if trial.score is None or not math.isfinite(trial.score):
        trial.status = TrialStatus.INVALID
        trial.message = f"`{objective}` must be finite; got {trial.score}"


def enter_metrics(trial: Trial, metrics: Mapping[str, float], step: int, scoring: Scoring) -> None:
    """Record reported metrics, and the sum of the objectives if trials are ranked by it.

    Args:
        trial: The oracle's trial, which is changed.
        metrics: Metrics that were reported or computed by the screen.
        step: The epoch of the metrics.
        scoring: Objectives and constraints, whose metrics are required.

    Raises:
        ObjectiveError: The metric of an objective or a constraint is missing; then the trial is
            unchanged.
    """
    directions = {objective.name: objective.direction for objective in scoring.objectives}
    unmet = {
        constraint.name for constraint in scoring.constraints if constraint.value(metrics) is None
    }
    for argument, missing in (
        ("objective", sorted(directions.keys() - metrics.keys())),
        ("constraints", sorted(unmet)),
    ):
        if missing:
            raise ObjectiveError(
                f"the reported metrics must include those of `{argument}`, {missing}; "
                f"got {sorted(metrics)}"
            )
    if scoring.objective.name not in directions:
        total = scoring.objective.get_value(metrics)
        metrics = {**metrics, scoring.objective.name: total}
        directions[scoring.objective.name] = scoring.objective.direction
    for name, value in metrics.items():
        if name in directions and not trial.metrics.exists(name):
            trial.metrics.register(name, direction=directions[name])
        trial.metrics.update(name, value, step=step)


def last_error(message: str | None) -> str:
    r"""The line of a traceback that names the exception; else the last line.

    Keras' messages have many lines, the last of which lists a layer's arguments.

    >>> last_error("Traceback:\n  File x\n    y\nValueError: too big\n\nArguments: none")
    'ValueError: too big'
    """
    lines = (message or "no message").strip().splitlines()
    frames = [index for index, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else []
    return next((line for line in after if line and not line.startswith(" ")), lines[-1])

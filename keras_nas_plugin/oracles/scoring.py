"""Scores of trials: for the ranking of the search, and for the strategy."""

from __future__ import annotations

import dataclasses

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.strategies.base import Observation


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How the trials of a search are scored.

    Attributes:
        objective: The objective by which trials are ranked; for several objectives, their
            signed sum or a `ParetoObjective`.
        objectives: The objectives that the user gave.
        constraints: The limits that a trial must keep to be among the best.
        multi_objective: Whether the strategy gets one score per objective.
    """

    objective: keras_tuner.Objective
    objectives: tuple[keras_tuner.Objective, ...]
    constraints: tuple[Constraint, ...]
    multi_objective: bool

    @property
    def scored_objectives(self) -> list[keras_tuner.Objective]:
        """The objectives whose scores the strategy gets: each of them, or their sum."""
        return list(self.objectives) if self.multi_objective else [self.objective]

    def violation(self, trial: Trial) -> float:
        """Violation of the constraints by a completed trial, summed; 0 if it violates none.

        Raises:
            ObjectiveError: The trial did not report the metric of a constraint.
        """
        return sum(
            constraint.violation(metric_of(trial, constraint.name))
            for constraint in self.constraints
        )

    def ranked_score(self, trial: Trial) -> float | None:
        """The score by which a trial is ranked; None if it failed or violates a constraint."""
        if trial.status != TrialStatus.COMPLETED or self.violation(trial) > 0:
            return None
        return trial.score

    def rank(self, ledger: Ledger, trial: Trial) -> None:
        """Record the end and the score of a trial in ``ledger``.

        In a multi-fidelity search, trials with more epochs rank first.

        Args:
            ledger: Changed by this call.
            trial: A trial that has ended.
        """
        fidelity = fidelity_of(trial.hyperparameters.values)
        ledger.end(
            trial.trial_id,
            self.ranked_score(trial),
            maximise=self.objective.direction == "max",
            epochs=fidelity.epochs if fidelity else 0,
        )

    def observation(self, trial: Trial) -> Observation:
        """The observation of an ended trial, from which the strategy learns."""
        values = configuration(trial.hyperparameters.values)
        if trial.status != TrialStatus.COMPLETED:
            return Observation(trial.trial_id, values, None)
        if self.multi_objective:
            scores = tuple(
                oriented(metric_of(trial, objective.name), objective.direction)
                for objective in self.objectives
            )
        else:
            scores = (oriented(trial.score, self.objective.direction),)
        return Observation(trial.trial_id, values, scores, self.violation(trial))


def metric_of(trial: Trial, name: str) -> float:
    """A metric at the best epoch of a trial, or its last value if that epoch has none.

    Args:
        trial: A completed trial.
        name: Name of the metric, or short name of a cost (``"params"``).

    Raises:
        ObjectiveError: The trial did not report the metric, because it ended before a
            constraint on it was added.
    """
    name = name if trial.metrics.exists(name) else canonical(name)
    if not trial.metrics.exists(name):
        raise ObjectiveError(
            f"`constraints` must be on metrics that every completed trial reported; got "
            f"{name!r}, which trial {trial.trial_id} did not report"
        )
    history = trial.metrics.get_history(name)
    at_best_step = [
        observation.mean() for observation in history if observation.step == trial.best_step
    ]
    return float(at_best_step[-1] if at_best_step else history[-1].mean())


def rung_of(trial: Trial) -> int:
    """Rung of a trial in a multi-fidelity search, from 0; 0 in other searches."""
    fidelity = fidelity_of(trial.hyperparameters.values)
    return fidelity.rung if fidelity else 0


def oriented(value: float, direction: str) -> float:
    """A metric as a score, the larger the better: negated if ``direction`` is ``"min"``."""
    return float(value) if direction == "max" else -float(value)

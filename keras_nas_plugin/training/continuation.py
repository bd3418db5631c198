"""Trials that continue the training of another trial: from which state and epoch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.evaluation.results import usable
from keras_nas_plugin.project import ProjectLayout, TrialLayout
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.training.fit_arguments import FitArguments

logger = logging.getLogger("keras_nas_plugin")

#: Epochs with their numbers, from 0, and the metrics that Keras logged.
Epochs = list[tuple[int, Mapping[str, float]]]


def from_scratch(trial: Trial) -> Trial:
    """A copy of a trial that starts at its first epoch, even if the trial is a promotion."""
    hyperparameters = trial.hyperparameters.copy()
    hyperparameters.values = configuration(hyperparameters.values)
    return Trial(hyperparameters, trial_id=trial.trial_id)


def agree_on_epochs(oracle: keras_tuner.Oracle, fit: FitArguments) -> int | None:
    """Tell a multi-fidelity oracle of this package that the tuner follows its epochs.

    Args:
        oracle: The oracle of a search.
        fit: What `search` was called with.

    Returns:
        Epochs of a full training; None for any other oracle.
    """
    train_in_rungs = getattr(oracle, "train_in_rungs", None)
    return None if train_in_rungs is None else train_in_rungs(fit.epochs)


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The training that a promoted trial continues.

    Attributes:
        states: Per execution, the file with the state after its last epoch.
        epochs: Per execution, all epochs so far.
        checkpoint: The weights of the best epoch so far.
    """

    states: tuple[Path, ...]
    epochs: tuple[Epochs, ...]
    checkpoint: Path

    def best(self, objective: keras_tuner.Objective | None) -> tuple[float, Path] | None:
        """The best value of the objective over all executions, and its weights.

        Args:
            objective: The part of the objective that training reports; None for nothing.

        Returns:
            None where no epoch has a value.
        """
        if objective is None:
            return None
        values = [
            float(objective.get_value(logs))
            for execution in self.epochs
            for _, logs in execution
            if usable(logs, objective)
        ]
        pick = max if objective.direction == "max" else min
        return (pick(values), self.checkpoint) if values else None

    def prepend_epochs(self, result: object, execution: int) -> object:
        """Prepend the earlier epochs to a Keras `History`; other results are returned unchanged.

        The best epoch is then that of the full training, as if it had not been interrupted.

        Args:
            result: What `fit` returned.
            execution: Which execution of the trial it was.
        """
        history = getattr(result, "history", None)
        if not isinstance(history, Mapping):
            return result
        full_history = cast(keras.callbacks.History, result)
        previous = self.epochs[execution]
        names = dict.fromkeys([*(name for _, logs in previous for name in logs), *history])
        missing = [math.nan] * len(full_history.epoch)
        full_history.history = {
            name: [logs.get(name, math.nan) for _, logs in previous] + history.get(name, missing)
            for name in names
        }
        full_history.epoch = [number for number, _ in previous] + list(full_history.epoch)
        return full_history


def continuation_of(
    parent: str | None, layout: ProjectLayout, checkpoint: Path | None, executions: int
) -> Continuation | None:
    """The training that a trial continues.

    A promoted trial also starts at its first epoch if a file that it needs is missing, for example
    because the search had ended and is extended now. This takes longer, but changes nothing else.

    Args:
        parent: The trial that was promoted; None for a trial that is not a promotion.
        layout: Files of the search.
        checkpoint: The weights of the parent's best epoch; None without a parent.
        executions: Number of trainings per trial.

    Returns:
        The training to continue; None for a trial that starts at its first epoch.
    """
    if parent is None or checkpoint is None:
        return None
    trial = layout.trial(parent)
    states = tuple(trial.last_epoch(execution) for execution in range(executions))
    missing = [path for path in (*states, checkpoint) if not path.exists()]
    epochs = _epochs(trial, layout, executions)
    if missing or epochs is None:
        logger.warning(
            "Trial %s cannot be trained further, because %s is missing: its configuration is "
            "trained from the first epoch on.",
            parent,
            missing[0] if missing else f"the record of its epochs in {trial.folder}",
        )
        return None
    return Continuation(states, epochs, checkpoint)


def _epochs(
    trial: TrialLayout, layout: ProjectLayout, executions: int
) -> tuple[Epochs, ...] | None:
    """All epochs up to the end of a trial, including those of the trials that it continues."""
    record = TrialRecord.load(trial.folder)
    if record is None or len(record.curves) != executions:
        return None
    own = [list(enumerate(curve, start=record.first_epoch)) for curve in record.curves]
    fidelity = fidelity_of(record.values)
    if fidelity is None or fidelity.parent is None or record.first_epoch == 0:
        return tuple(own)
    previous = _epochs(layout.trial(fidelity.parent), layout, executions)
    if previous is None:
        return None
    return tuple([*before, *after] for before, after in zip(previous, own, strict=True))

"""Checks of a tuner's arguments, of its search space and of records from earlier processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.objectives import check_direction
from keras_nas_plugin.records.program import check_not_importing
from keras_nas_plugin.records.trial import FINISHED, TrialRecord
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.tracking.base import Tracker

logger = logging.getLogger("keras_nas_plugin")


def hypermodel_and_oracle(
    positional: Sequence[Any], hypermodel: object, oracle: object
) -> tuple[Any, Any]:
    """The hypermodel and the oracle of a tuner, from its arguments.

    Args:
        positional: The first two positional arguments, in either order; None where not given.
        hypermodel: The argument of that name.
        oracle: The argument of that name.

    Returns:
        The hypermodel and the oracle, unchecked.

    Raises:
        ArgumentError: One of them is given twice.
    """
    first, second = positional
    if isinstance(first, keras_tuner.Oracle) and not isinstance(second, keras_tuner.Oracle):
        first, second = second, first
    for name, by_position, by_name in (
        ("hypermodel", first, hypermodel),
        ("oracle", second, oracle),
    ):
        if by_position is not None and by_name is not None:
            raise ArgumentError(f"`{name}` must be given once; got it by position and by name")
    return (
        hypermodel if first is None else first,
        oracle if second is None else second,
    )


def check_arguments(
    hypermodel: object, oracle: object, tracker: object, executions: int, *, custom_run: bool
) -> None:
    """Reject arguments with which no search can run.

    Args:
        hypermodel: The argument of `NASTuner`.
        oracle: The argument of `NASTuner`.
        tracker: The argument of `NASTuner`.
        executions: `executions_per_trial`.
        custom_run: Whether the tuner overrides `run_trial`, which may build its own models.

    Raises:
        ArgumentError: An argument is invalid; the message names it.
        ObjectiveError: KerasTuner would search in the wrong direction.
        RecipeError: A command imports this program for its models.
    """
    check_not_importing()
    if not isinstance(oracle, keras_tuner.Oracle):
        hint = " `hypermodel` is one." if isinstance(hypermodel, keras_tuner.Oracle) else ""
        raise ArgumentError(
            "`oracle` must be a keras_tuner.Oracle, for example "
            "RegularizedEvolutionOracle('val_accuracy', max_trials=50); "
            f"got {type(oracle).__name__}.{hint}"
        )
    if tracker is not None and not isinstance(tracker, Tracker):
        raise ArgumentError(
            "`tracker` must be a Tracker, for example MLflowTracker(experiment='name'), or None; "
            f"got {type(tracker).__name__}"
        )
    if hypermodel is None and not custom_run:
        raise ArgumentError(
            "`hypermodel` must be a function build(hp) or a HyperModel unless `run_trial` is "
            "overridden; got None"
        )
    if executions < 1:
        raise ArgumentError(f"`executions_per_trial` must be at least 1; got {executions}")
    if not isinstance(oracle, NASOracle):  # which rejects bare names and trusts an Objective
        check_direction(oracle.objective)


def warn_if_constant(hyperparameters: keras_tuner.HyperParameters) -> None:
    """Warn about a search space that has one configuration, of which the search is one trial.

    Args:
        hyperparameters: The search space.
    """
    if spec_of(hyperparameters).constant:
        logger.warning(
            "The search is one trial: `hypermodel` has no hyperparameter with several values, "
            "such as hp.Choice or hp.Int."
        )


def is_result_of(record: TrialRecord, trial: Trial) -> bool:
    """Whether a record is a result of this trial that its oracle has not received.

    Args:
        record: The record in the trial's folder.
        trial: The trial as the oracle hands it out.
    """
    hyperparameters = trial.hyperparameters
    # Over KerasTuner's service a trial has inactive values too.
    values = spec_of(hyperparameters).restrict(hyperparameters.values)
    same_values = all(record.values.get(name) == value for name, value in values.items())
    return record.status == FINISHED and same_values

"""What a tuner's arguments, spaces and leftovers have to be."""

from __future__ import annotations

from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import NASError, SearchSpaceError
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.objectives import check_direction
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.records import FINISHED, TrialRecord


def check_arguments(
    hypermodel: Any, oracle: Any, tracker: Any, executions: int, *, custom_run: bool
) -> None:
    """Refuse what no search can be run with.

    Args:
        hypermodel: As the user gave it.
        oracle: As the user gave it.
        tracker: As the user gave it.
        executions: `executions_per_trial`.
        custom_run: Whether the tuner has a `run_trial` of its own, which may build its models.

    Raises:
        NASError: Naming the argument.
        ObjectiveError: KerasTuner would search in the wrong direction.
    """
    if not isinstance(oracle, keras_tuner.Oracle):
        hint = " The hypermodel comes first." if isinstance(hypermodel, keras_tuner.Oracle) else ""
        raise NASError(
            "`oracle` needs a keras_tuner.Oracle, for example "
            "RegularizedEvolutionOracle('val_accuracy', max_trials=50); "
            f"received {type(oracle).__name__}.{hint}"
        )
    if tracker is not None and not isinstance(tracker, Tracker):
        raise NASError(
            "`tracker` needs a Tracker, for example MLflowTracker(experiment='name'), or None; "
            f"received {type(tracker).__name__}"
        )
    if hypermodel is None and not custom_run:
        raise NASError("`hypermodel` needs a function build(hp) or a HyperModel; received None")
    if executions < 1:
        raise NASError(f"`executions_per_trial` needs at least 1; received {executions}")
    if not isinstance(oracle, NASOracle):  # which refuses bare names and trusts an Objective
        check_direction(oracle.objective)


def check_space(hyperparameters: keras_tuner.HyperParameters) -> None:
    """Refuse a space in which every trial would be the same.

    Raises:
        SearchSpaceError: Nothing varies.
    """
    if spec_of(hyperparameters).constant:
        raise SearchSpaceError(
            "`hypermodel` needs a hyperparameter with at least two values, such as "
            "hp.Choice or hp.Int; received a space in which nothing varies"
        )


def belongs_to(record: TrialRecord, trial: Trial) -> bool:
    """Whether a record says how this trial finished, before the oracle was told."""
    hyperparameters = trial.hyperparameters
    # Over KerasTuner's service a trial comes with inactive values too.
    values = spec_of(hyperparameters).restrict(hyperparameters.values)
    known = all(record.values.get(name) == value for name, value in values.items())
    return record.status == FINISHED and known

"""Taking over what a worker reports of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import ObjectiveError, SearchSpaceError
from keras_nas_plugin.space.hyperparameters import spec_of

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle


def run_again(trial: Trial) -> Trial:
    """The same trial as it was before it ran."""
    trial.status, trial.message = TrialStatus.RUNNING, None
    trial.score, trial.best_step = None, 0
    # What an attempt reported that came to nothing must not be averaged in.
    trial.metrics = type(trial.metrics)()
    return trial


def take_metrics(oracle: NASOracle, trial: Trial, metrics: Mapping[str, float], step: int) -> None:
    """Enter a trial's metrics, with the sum of its objectives where that is what counts.

    Args:
        oracle: Whose trial it is.
        trial: The oracle's own trial.
        metrics: What was reported, and what screening found.
        step: The epoch that they belong to.

    Raises:
        ObjectiveError: An objective or the metric of a constraint is missing.
    """
    objectives = {o.name: o.direction for o in oracle.objectives}
    limits = {one.name for one in oracle.constraints if one.value(metrics) is None}
    for name, missing in (
        ("objective", sorted(objectives.keys() - metrics.keys())),
        ("constraints", sorted(limits)),
    ):
        if missing:
            raise ObjectiveError(
                f"`{name}` needs {missing} among the reported metrics; received {sorted(metrics)}"
            )
    if oracle.objective.name not in objectives:
        total = oracle.objective.get_value(metrics)
        metrics = {**metrics, oracle.objective.name: total}
        objectives[oracle.objective.name] = oracle.objective.direction
    for name, value in metrics.items():
        if name in objectives and not trial.metrics.exists(name):
            trial.metrics.register(name, direction=objectives[name])
        trial.metrics.update(name, value, step=step)


def take_report(oracle: NASOracle, known: Trial, reported: Trial) -> SearchSpaceError | None:
    """Copy status, message, values and new hyperparameters, and score the trial.

    Args:
        oracle: Whose trial it is.
        known: The oracle's own trial.
        reported: The worker's, which may be the same object.

    Returns:
        The error that has to end the search, or None.
    """
    known.status, known.message = reported.status, reported.message
    problem = None
    try:
        oracle.update_space(reported.hyperparameters)
    except RuntimeError as error:
        problem = SearchSpaceError(
            f"`allow_new_entries=False` needs all hyperparameters in `hyperparameters=`: {error}"
        )
        known.status, known.message = TrialStatus.FAILED, str(problem)
    _take_values(oracle, known, reported.hyperparameters)
    if known.status == TrialStatus.COMPLETED:
        oracle.score_trial(known)
        if known.score is None or not math.isfinite(known.score):
            known.status = TrialStatus.INVALID
            known.message = (
                f"`{oracle.objective.name}` needs a finite value; received {known.score}"
            )
    return problem


def _take_values(oracle: NASOracle, known: Trial, reported: keras_tuner.HyperParameters) -> None:
    """Active values of a trial, new hyperparameters included.

    The chief/worker service may round floats and adds inactive values (KerasTuner 1.4.8),
    so values that are known stay what they were.
    """
    values = dict(reported.values)
    for name, value in known.hyperparameters.values.items():
        same = isinstance(value, float) and np.float32(value) == np.float32(values.get(name))
        if same or name not in values:
            values[name] = value
    known.hyperparameters.merge(reported.space, overwrite=False)
    known.hyperparameters.values = spec_of(known.hyperparameters).restrict(values)
    oracle.ledger.record_key(known.trial_id, oracle.spec.key(known.hyperparameters.values))


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

"""Trials that pass from one worker to another."""

from __future__ import annotations

from collections.abc import Mapping

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.trial_report import reset_trial


def holder(oracle: keras_tuner.Oracle, trial_id: str) -> str | None:
    """The worker that a trial is assigned to, or None."""
    running: Mapping[str, Trial] = oracle.ongoing_trials
    return next((worker for worker, trial in running.items() if trial.trial_id == trial_id), None)


def requeue(oracle: keras_tuner.Oracle, worker: str) -> Trial | None:
    """Queue the trial of a worker for the next worker that asks.

    Args:
        oracle: The oracle.
        worker: A worker that does not train any more.

    Returns:
        The trial; None if the worker had none.
    """
    oracle.tuner_ids.discard(worker)
    trial: Trial | None = oracle.ongoing_trials.pop(worker, None)
    if trial is not None:
        _queue(oracle).append(reset_trial(trial).trial_id)
    return trial


def assign(oracle: keras_tuner.Oracle, trial_id: str, worker: str) -> bool:
    """Assign a queued trial to a worker that trains it already.

    Args:
        oracle: The oracle.
        trial_id: The trial.
        worker: The worker.

    Returns:
        False if the trial is not queued.
    """
    queue = _queue(oracle)
    if trial_id not in queue:
        return False
    queue.remove(trial_id)
    oracle.ongoing_trials[worker] = oracle.trials[trial_id]
    return True


def _queue(oracle: keras_tuner.Oracle) -> list[str]:
    queue: list[str] = (
        oracle._state.retries if isinstance(oracle, NASOracle) else oracle._retry_queue
    )
    return queue

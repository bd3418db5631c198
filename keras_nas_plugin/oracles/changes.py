"""Resuming a search whose program was changed, or whose failed trials are run again.

Trials that do not count any more stay on record. They are not among the best, do not use up
``max_trials``, and are unknown to the strategy, which starts again from the other trials.

An oracle of KerasTuner derives ids and ``max_trials`` from its number of trials, and cannot read
values that are outside its space. In it, such a trial is replaced by an invalid trial with default
values, in memory only, and ``max_trials`` is raised by one.
"""

from __future__ import annotations

import functools

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.trial_report import reset_trial
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.space.changes import SpaceChange
from keras_nas_plugin.space.hyperparameters import completed

# Attributes that this module adds to an oracle of KerasTuner: the trials that do not count, and
# the trials that were replaced for this reason.
_EXCLUSIONS, _REPLACED = "exclusions", "replaced_trials"


def exclusions_of(oracle: keras_tuner.Oracle) -> Exclusions:
    """The trials of an oracle that do not count."""
    exclusions: Exclusions | None = getattr(oracle, _EXCLUSIONS, None)
    return Exclusions() if exclusions is None else exclusions


def max_trials_of(oracle: keras_tuner.Oracle) -> int | None:
    """The ``max_trials`` that the user gave to an oracle; None for no limit."""
    limit: int | None = oracle.max_trials
    if limit is None or isinstance(oracle, NASOracle):
        return limit
    return limit - len(exclusions_of(oracle))


def all_trials(oracle: keras_tuner.Oracle) -> dict[str, Trial]:
    """All trials of an oracle as they were recorded, by id."""
    return {**oracle.trials, **getattr(oracle, _REPLACED, {})}


def exclude(
    oracle: keras_tuner.Oracle, exclusions: Exclusions, change: SpaceChange | None = None
) -> None:
    """Continue a resumed search with other trials that count, or in another space.

    Nothing is written before the oracle is saved.

    Args:
        oracle: The oracle, after its reload.
        exclusions: The trials that do not count from now on.
        change: How the space has changed; None for the same space.
    """
    if change is not None and not change.differences:
        change = None
    if isinstance(oracle, NASOracle):
        history = oracle._state.change(
            oracle.hyperparameters if change is None else change.space,
            exclusions,
            None if change is None else change.fits,
            oracle._scoring,
        )
        oracle._restart_strategy(history)
        return
    if change is not None:
        oracle.hyperparameters = change.space
    changed = set(exclusions.reasons) != set(exclusions_of(oracle).reasons)
    replace_excluded(oracle, exclusions)
    if change is not None or changed:
        _restart(oracle)


def release_running(oracle: keras_tuner.Oracle) -> None:
    """Let the running trials of an oracle be run again, as after a restart.

    Args:
        oracle: The oracle; no process runs a trial of it any more.
    """
    if isinstance(oracle, NASOracle):
        oracle._state.running = {}  # all trials that have not ended are queued by `exclude`
        return
    for trial in oracle.ongoing_trials.values():
        oracle._retry_queue.append(trial.trial_id)
    oracle.ongoing_trials.clear()


def replace_excluded(oracle: keras_tuner.Oracle, exclusions: Exclusions) -> None:
    """Replace the trials that do not count in an oracle of KerasTuner; others are put back.

    Args:
        oracle: The oracle.
        exclusions: The trials that do not count.
    """
    trials = all_trials(oracle)
    excluded = {trial_id for trial_id in exclusions.reasons if trial_id in trials}
    before = getattr(oracle, _REPLACED, {})
    if oracle.max_trials is not None:
        oracle.max_trials += len(excluded) - len(before)
    setattr(oracle, _EXCLUSIONS, exclusions)
    setattr(oracle, _REPLACED, {trial_id: trials[trial_id] for trial_id in excluded})
    for trial_id, trial in trials.items():
        waiting = trial_id in oracle._retry_queue
        if trial_id in excluded:
            oracle.trials[trial_id] = _placeholder(oracle, trial_id)
            oracle._tried_so_far.discard(oracle._id_to_hash.pop(trial_id, None))
            oracle._retry_queue = [item for item in oracle._retry_queue if item != trial_id]
            continue
        if trial_id in before:
            oracle.trials[trial_id] = trial
            oracle._record_values(trial)
            waiting = trial_id not in oracle.end_order
            oracle._retry_queue += [trial_id] if waiting else []
        if waiting:
            space = oracle.get_space()
            trial.hyperparameters = completed(space, trial.hyperparameters.values)


def _placeholder(oracle: keras_tuner.Oracle, trial_id: str) -> Trial:
    return Trial(completed(oracle.get_space(), {}), trial_id=trial_id, status=TrialStatus.INVALID)


@functools.singledispatch
def _restart(oracle: keras_tuner.Oracle) -> None:
    """Let the algorithm of an oracle start again from the trials that count."""
    restart = getattr(oracle, "restart", None)
    if restart is not None:
        restart()


@_restart.register
def _(oracle: keras_tuner.oracles.HyperbandOracle) -> None:
    # The trials of an unfinished bracket do not all exist any more.
    oracle._brackets = []
    oracle._current_iteration = 0
    oracle._current_bracket = oracle._get_num_brackets() - 1
    oracle._start_new_bracket()


def retry_failed(oracle: keras_tuner.Oracle) -> int:
    """Queue all failed trials that count for another run, with the same values.

    Args:
        oracle: The oracle, while it runs no trial.

    Returns:
        Their number.
    """
    if isinstance(oracle, NASOracle):
        failed, history = oracle._state.reopen_failed(oracle._scoring)
        if failed:
            oracle._restart_strategy(history)
            for trial_id in failed:
                oracle._save_trial_file(oracle.trials[trial_id])
            oracle.save()
        return len(failed)
    failed = [
        trial_id
        for trial_id in oracle.end_order
        if oracle.trials[trial_id].status == TrialStatus.FAILED
    ]
    for trial_id in failed:
        oracle.end_order.remove(trial_id)
        oracle._run_times[trial_id] = 0
        # KerasTuner takes the last one first.
        oracle._retry_queue.insert(0, trial_id)
        oracle._save_trial(reset_trial(oracle.trials[trial_id]))
    if failed:
        oracle.save()
    return len(failed)

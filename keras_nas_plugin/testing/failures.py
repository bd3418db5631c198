"""Contracts about what goes wrong: exceptions, failed trials and useless scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.testing.driving import (
    SCORE,
    InjectedError,
    MakeOracle,
    Search,
    broken,
    hashed_score,
    in_another_thread,
    is_new,
)

# Number of trials before the fault: enough for a small population to have children.
_BEFORE_FAULT = 12


def ask_may_raise(make_oracle: MakeOracle, folder: Path) -> None:
    """An exception while proposing reaches the caller, frees the lock, changes nothing."""
    straight = Search(make_oracle, folder / "straight", max_trials=20).run(20)
    # A promotion is no proposal of the strategy.
    fault = next(n for n in range(_BEFORE_FAULT, 20) if is_new(straight[n]))
    search = Search(make_oracle, folder / "faulty", max_trials=20)
    proposals = search.run(fault)
    with broken(search.oracle.strategy, "ask") as error:
        for _ in range(2):
            _expect(error, search.start)
    trial = in_another_thread(lambda: search.start("tuner1"))
    values = dict(trial.hyperparameters.values)
    assert values == straight[fault], (
        f"after the fault is fixed, the proposal must be {straight[fault]}; got {values}"
    )
    reloaded = search.reopened().start().hyperparameters.values
    assert reloaded == values, f"after a reload, the proposal must be {values}; got {reloaded}"
    assert proposals == straight[:fault]


def tell_may_raise(make_oracle: MakeOracle, folder: Path) -> None:
    """An exception while learning loses neither the trial's result nor its observation."""
    straight = Search(make_oracle, folder / "straight", max_trials=20)
    expected = straight.run(_BEFORE_FAULT + 4, hashed_score)
    search = Search(make_oracle, folder / "faulty", max_trials=20)
    search.run(_BEFORE_FAULT, hashed_score)
    trial = search.start()
    score = hashed_score(trial.hyperparameters.values)
    with broken(search.oracle.strategy, "tell") as error:
        _expect(error, lambda: search.finish(trial, score))
    recorded = search.oracle.get_trial(trial.trial_id)
    assert recorded.status == TrialStatus.COMPLETED, "the result of the trial was lost"
    assert trial.trial_id in search.best_ids(), "the result of the trial does not count"
    following = in_another_thread(lambda: search.start("tuner1"))
    values = dict(following.hyperparameters.values)
    assert values == expected[_BEFORE_FAULT + 1], (
        f"after the fault is fixed, the proposal must be {expected[_BEFORE_FAULT + 1]}; "
        f"got {values}"
    )
    search = search.reopened()
    proposals = search.run(3, hashed_score)
    assert proposals == expected[_BEFORE_FAULT + 1 :], (
        f"after a reload, proposals must be {expected[_BEFORE_FAULT + 1 :]}; got {proposals}"
    )


def _expect(error: InjectedError, call: Callable[[], object]) -> None:
    try:
        call()
    except InjectedError as raised:
        assert raised is error, f"the strategy's own exception must be raised; got {raised!r}"
        return
    raise AssertionError("the strategy's exception did not reach the caller")


def useless_scores_fail(make_oracle: MakeOracle, folder: Path) -> None:
    """A trial whose score is NaN or infinite fails, and is never best."""
    for direction in ("min", "max"):
        objective = keras_tuner.Objective(SCORE, direction)
        search = Search(make_oracle, folder / direction, objective=objective)
        good = []
        for score in (0.25, math.nan, math.inf, -math.inf, 0.75, None):
            trial = search.start()
            search.finish(trial, score)
            ended = search.oracle.get_trial(trial.trial_id)
            finite = score is not None and math.isfinite(score)
            status = TrialStatus.COMPLETED if finite else TrialStatus.FAILED
            assert ended.status == status, f"score {score} must give {status}; got {ended.status}"
            assert finite or ended.message, f"score {score} must give a message that says why"
            if finite:
                good.append(trial.trial_id)
        expected = good if direction == "min" else good[::-1]
        for session in (search, search.reopened()):
            assert session.best_ids() == expected, (
                f"best trials ({direction}) must be {expected}; got {session.best_ids()}"
            )


def failed_trials_run_again(make_oracle: MakeOracle, folder: Path) -> None:
    """A crash is retried ``max_retries_per_trial`` times, and the retry's result counts."""
    search = Search(make_oracle, folder, max_retries_per_trial=2)
    first = search.start()
    values = dict(first.hyperparameters.values)
    for attempt, score in enumerate((None, math.nan, 0.5)):
        trial = search.start()
        assert trial.trial_id == first.trial_id, f"attempt {attempt} must be the same trial"
        assert trial.status == TrialStatus.RUNNING, f"attempt {attempt} must be running"
        assert trial.hyperparameters.values == values, (
            f"attempt {attempt} must have the same values"
        )
        search.finish(trial, score)
    ended = search.oracle.get_trial(first.trial_id)
    assert ended.status == TrialStatus.COMPLETED, f"the retry must count; got {ended.status}"
    assert ended.score == 0.5, f"the score must be the retry's alone, 0.5; got {ended.score}"
    assert search.best_ids() == [first.trial_id], "the retried trial must be the best"
    second = search.start()
    assert second.trial_id != first.trial_id, "a trial that ended was handed out again"
    search.finish(second, None)
    search = search.reopened()
    for _ in range(2):
        trial = search.start()
        assert trial.trial_id == second.trial_id, "a reload lost a trial that waits for a retry"
        search.finish(trial, None)
    assert search.oracle.get_trial(second.trial_id).status == TrialStatus.FAILED
    third = search.start()
    assert third.trial_id not in (first.trial_id, second.trial_id), "retried too often"
    third.status = TrialStatus.FAILED
    search.oracle.end_trial(third)
    assert search.start().trial_id != third.trial_id, "a FAILED trial must not be retried; it was"


def too_many_failures_end_the_search(make_oracle: MakeOracle, folder: Path) -> None:
    """``max_consecutive_failed_trials`` in a row raise a RuntimeError; 0 never does."""
    search = Search(make_oracle, folder / "limit", max_consecutive_failed_trials=3)
    for score in (None, None, 0.5, None, math.nan):
        search.finish(search.start(), score)
    # A process that dies in between forgets nothing.
    search = search.reopened()
    last = search.start()
    try:
        search.finish(last, None)
    except RuntimeError as error:
        assert "3" in str(error), f"the message must say how many failed: {error}"
    else:
        raise AssertionError("three failed trials in a row did not end the search")
    assert search.oracle.get_trial(last.trial_id).status == TrialStatus.FAILED
    assert in_another_thread(lambda: search.start("tuner1")).status == TrialStatus.RUNNING
    endless = Search(make_oracle, folder / "endless", max_consecutive_failed_trials=0)
    endless.run(12, lambda values: None)
    assert not endless.best_ids(), "a failed trial was among the best"

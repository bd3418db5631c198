"""Contracts about what goes wrong: exceptions, failed trials and useless scores."""

from __future__ import annotations

import math
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

# The fault comes when a small population breeds already.
_BEFORE_FAULT = 12


def ask_may_raise(make_oracle: MakeOracle, folder: Path) -> None:
    """An exception while proposing reaches the caller, frees the lock, changes nothing."""
    straight = Search(make_oracle, folder / "straight", max_trials=20).run(20)
    # One that is trained further is no proposal of the strategy.
    fault = next(n for n in range(_BEFORE_FAULT, 20) if is_new(straight[n]))
    search = Search(make_oracle, folder / "faulty", max_trials=20)
    received = search.run(fault)
    with broken(search.oracle.strategy, "ask") as error:
        for _ in range(2):
            _expect(error, search.start)
    trial = in_another_thread(lambda: search.start("tuner1"))
    values = dict(trial.hyperparameters.values)
    assert values == straight[fault], (
        f"after the fault was mended, needs {straight[fault]}; received {values}"
    )
    reloaded = search.reopened().start().hyperparameters.values
    assert reloaded == values, f"after a reload, needs {values}; received {reloaded}"
    assert received == straight[:fault]


def tell_may_raise(make_oracle: MakeOracle, folder: Path) -> None:
    """An exception while learning loses neither the trial's result nor its lesson."""
    straight = Search(make_oracle, folder / "straight", max_trials=20)
    expected = straight.run(_BEFORE_FAULT + 4, hashed_score)
    search = Search(make_oracle, folder / "faulty", max_trials=20)
    search.run(_BEFORE_FAULT, hashed_score)
    trial = search.start()
    score = hashed_score(trial.hyperparameters.values)
    with broken(search.oracle.strategy, "tell") as error:
        _expect(error, lambda: search.finish(trial, score))
    known = search.oracle.get_trial(trial.trial_id)
    assert known.status == TrialStatus.COMPLETED, "the result of the trial was lost"
    assert trial.trial_id in search.best_ids(), "the result of the trial does not count"
    following = in_another_thread(lambda: search.start("tuner1"))
    values = dict(following.hyperparameters.values)
    assert values == expected[_BEFORE_FAULT + 1], (
        f"after the fault was mended, needs {expected[_BEFORE_FAULT + 1]}; received {values}"
    )
    search = search.reopened()
    received = search.run(3, hashed_score)
    assert received == expected[_BEFORE_FAULT + 1 :], (
        f"after a reload, needs {expected[_BEFORE_FAULT + 1 :]}; received {received}"
    )


def _expect(error: InjectedError, call) -> None:
    try:
        call()
    except InjectedError as received:
        assert received is error, f"needs the strategy's own exception; received {received!r}"
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
            known = search.oracle.get_trial(trial.trial_id)
            finite = score is not None and math.isfinite(score)
            wanted = TrialStatus.COMPLETED if finite else TrialStatus.FAILED
            assert known.status == wanted, f"score {score} needs {wanted}; received {known.status}"
            assert finite or known.message, f"score {score} needs a message that says why"
            if finite:
                good.append(trial.trial_id)
        expected = good if direction == "min" else good[::-1]
        for one in (search, search.reopened()):
            assert one.best_ids() == expected, (
                f"best trials ({direction}) need to be {expected}; received {one.best_ids()}"
            )


def failed_trials_run_again(make_oracle: MakeOracle, folder: Path) -> None:
    """A crash is retried ``max_retries_per_trial`` times, and the retry's result counts."""
    search = Search(make_oracle, folder, max_retries_per_trial=2)
    first = search.start()
    values = dict(first.hyperparameters.values)
    for attempt, score in enumerate((None, math.nan, 0.5)):
        trial = search.start()
        assert trial.trial_id == first.trial_id, f"attempt {attempt} needs the same trial"
        assert trial.status == TrialStatus.RUNNING, f"attempt {attempt} needs to be running"
        assert trial.hyperparameters.values == values, f"attempt {attempt} needs the same values"
        search.finish(trial, score)
    known = search.oracle.get_trial(first.trial_id)
    assert known.status == TrialStatus.COMPLETED, f"needs the retry to count: {known.status}"
    assert known.score == 0.5, f"needs the retry's score alone, 0.5; received {known.score}"
    assert search.best_ids() == [first.trial_id], "the retried trial needs to be best"
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
    assert search.start().trial_id != third.trial_id, "FAILED needs no retry; it was retried"


def too_many_failures_end_the_search(make_oracle: MakeOracle, folder: Path) -> None:
    """``max_consecutive_failed_trials`` in a row raise a RuntimeError; 0 never does."""
    search = Search(make_oracle, folder / "limit", max_consecutive_failed_trials=3)
    for score in (None, None, 0.5, None, math.nan):
        search.finish(search.start(), score)
    # A process that died in between forgets nothing.
    search = search.reopened()
    last = search.start()
    try:
        search.finish(last, None)
    except RuntimeError as error:
        assert "3" in str(error), f"the message needs to say how many failed: {error}"
    else:
        raise AssertionError("three failed trials in a row did not end the search")
    assert search.oracle.get_trial(last.trial_id).status == TrialStatus.FAILED
    assert in_another_thread(lambda: search.start("tuner1")).status == TrialStatus.RUNNING
    endless = Search(make_oracle, folder / "endless", max_consecutive_failed_trials=0)
    endless.run(12, lambda values: None)
    assert not endless.best_ids(), "a failed trial was among the best"

"""The states of a trial whose run has not been written yet."""

from __future__ import annotations

import pytest

from keras_nas_plugin.tracking.mlflow.search_runs import TrialRun
from keras_nas_plugin.tracking.mlflow.trial_sync import SyncState, TrialSync


@pytest.fixture
def trial():
    return TrialSync("00")


def test_a_record_is_unsent_from_the_end_of_the_trial_until_another_attempt(trial, make_record):
    trial.begin()
    assert trial.state is SyncState.TRAINING and trial.unsent is None
    trial.end(make_record(0), saved=True)
    assert trial.state is SyncState.WAITING and trial.unsent == make_record(0)
    trial.reject()
    assert trial.state is SyncState.REJECTED and trial.unsent == make_record(0)
    trial.begin()
    assert trial.unsent is None


def test_another_attempt_clears_the_rejection_and_the_failures(trial, make_record):
    trial.end(make_record(0), saved=True)
    trial.fail(0, limit=3)
    trial.reject()
    trial.end(make_record(0, status="FAILED"), saved=False)
    assert trial.state is SyncState.WAITING
    assert trial.failures == [] and not trial.saved


def test_failures_during_an_outage_do_not_count_against_a_trial(trial):
    assert not any(trial.fail(7, limit=3) for _ in range(5))  # no other trial was sent meanwhile


def test_a_trial_that_fails_while_others_are_sent_reaches_the_limit(trial):
    assert [trial.fail(sent, limit=3) for sent in (0, 1, 2)] == [False, False, True]


def test_an_open_run_is_used_for_one_attempt_to_send(trial):
    trial.begin()
    trial.run = TrialRun("run", "artifacts")
    assert trial.take_run() == TrialRun("run", "artifacts")
    assert trial.take_run() is None


def test_an_abandoned_trial_has_nothing_to_send_and_no_open_run(trial):
    trial.begin()
    trial.run = TrialRun("run", "artifacts")
    trial.abandon()
    assert trial.state is SyncState.ABANDONED
    assert trial.run is None and trial.unsent is None

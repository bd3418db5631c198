"""A search that is interrupted at any request resumes in another process."""

from __future__ import annotations

import dataclasses
import json
import os
import time

import pytest

from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from keras_nas_plugin.tracking.mlflow.search_runs import SearchRuns


class Killed(BaseException):
    """Stands in for a kill of the process."""


# The method and the number of its call. The first call is for the run of the search, the next
# ones are for runs of trials; the last of `log_batch` and `update_run_info` is for the search.
CALLS = [
    *(("create_run", count) for count in (1, 2)),
    *(("log_inputs", count) for count in (1, 2)),
    *(("log_batch", count) for count in (1, 2, 3, 4, 5)),
    *(("update_run_info", count) for count in (1, 4)),
]


@pytest.fixture
def die(monkeypatch):
    """Lets the process die at the n-th call of a method of the store, before or after its work."""

    def kill_at(method, count, *, after):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        original = getattr(SqlAlchemyStore, method)
        calls = []

        def dying(self, *args, **kwargs):
            calls.append(method)
            if len(calls) == count and not after:
                raise Killed
            result = original(self, *args, **kwargs)
            if len(calls) == count and after:
                raise Killed
            return result

        monkeypatch.setattr(SqlAlchemyStore, method, dying)

    return kill_at


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("method", "count"), CALLS)
def test_every_trial_is_logged_once_after_a_kill_at_any_request(
    database, track, store, make_search, make_record, die, monkeypatch, method, count, after
):
    records = [make_record(0), make_record(1, status="FAILED"), make_record(2)]
    ended = []
    die(method, count, after=after)
    with pytest.raises(Killed):
        tracker = MLflowTracker("digits", tracking_uri=database)
        tracker.search_started(make_search(), [])
        for record in records:
            tracker.trial_started(record.trial_id, record.values)
            tracker.flush()
            ended.append(record)
            tracker.trial_ended(record)
            tracker.flush()
        tracker.search_ended("FINISHED")
        tracker.flush()
    monkeypatch.undo()
    monkeypatch.chdir(os.path.dirname(make_search().directory))

    track(database, records[len(ended) :], earlier=ended)

    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == ["00", "01", "02"]
    assert [run.info.status for run in read.runs()] == ["FINISHED", "FAILED", "FINISHED"]
    for record in records:
        run = read.trial(record.trial_id)
        assert [step for step, _ in read.points(run, "by_epoch/loss")] == [0, 1, 2]
        assert run.data.params == {name: str(value) for name, value in record.values.items()}
        assert run.data.tags["mlflow.parentRunId"] == read.parent().info.run_id
    assert read.parent().info.status == "FINISHED"
    assert read.points(read.parent(), "best_objective") == [(1, 0.5), (3, 0.52)]
    assert Outbox(make_search().directory).records() == []


def test_a_resumed_search_continues_in_the_same_run(
    database, track, store, make_search, make_record
):
    first = track(database, [make_record(0)], status="KILLED")
    assert store(database).parent().info.status == "KILLED"
    search = make_search(max_trials=24, settings={"epochs": 3, "seed": 0, "batch": 32})
    second = track(
        database, [make_record(1)], earlier=[make_record(0)], search=search, status=None
    )
    parent = store(database).parent()
    assert first.parent_run_id == second.parent_run_id == parent.info.run_id
    assert first.run_id("00") == second.run_id("00")
    assert parent.info.status == "RUNNING"
    assert parent.data.params["batch"] == "32"
    assert parent.data.tags["nas.changed"] == "max_trials: 12 -> 24"
    assert "2 of 24 trials ended" in parent.data.tags["mlflow.note.content"]


def test_a_setting_that_the_search_has_compared_is_named_once(database, track, store, make_search):
    first = make_search(settings={"epochs": 3, "seed": 0})
    track(database, [], search=first, status="KILLED")
    changed = make_search(settings={"epochs": 5, "seed": 1}, changes=("epochs (3 -> 5)",))
    track(database, [], search=changed)
    assert store(database).parent().data.tags["nas.changed"] == "seed: 0 -> 1; epochs (3 -> 5)"


def test_an_interrupted_trial_continues_in_its_run(database, track, store, make_record):
    tracker = track(database, [make_record(0)], status=None)
    tracker.trial_started("01", make_record(1).values)
    interrupted_run = tracker.run_id("01")
    started = int(time.time() * 1e3)
    retried = make_record(1, started_ms=started, ended_ms=started + 5)
    resumed = track(database, [retried], earlier=[make_record(0)])
    assert resumed.run_id("01") == interrupted_run
    assert store(database).trial("01").info.status == "FINISHED"


def test_an_abandoned_trial_is_closed_as_killed(database, track, store, make_record):
    tracker = track(database, [make_record(0)], status=None)
    tracker.trial_started("01", {"depth": 1})
    tracker.flush()
    resumed = track(database, [make_record(2)], earlier=[make_record(0)], status=None)
    assert store(database).trial("01").info.status == "RUNNING"
    resumed.search_ended("FINISHED")
    assert store(database).trial("01").info.status == "KILLED"
    assert {run.info.status for run in store(database).runs()} == {"FINISHED", "KILLED"}


def test_the_end_of_a_search_closes_a_trial_that_did_not_end(database, store, make_search):
    tracker = MLflowTracker("digits", tracking_uri=database)
    tracker.search_started(make_search(), [])
    tracker.trial_started("00", {"depth": 1})
    tracker.search_ended("KILLED")
    assert store(database).trial("00").info.status == "KILLED"


def test_records_of_trials_without_a_run_are_logged(database, track, store, make_record):
    track(database, [], earlier=[make_record(0), make_record(1, status="FAILED")])
    assert [run.info.status for run in store(database).runs()] == ["FINISHED", "FAILED"]


def test_a_killed_trial_that_trains_again_has_one_new_run(database, track, store, make_record):
    killed = make_record(0, status="KILLED")
    first = track(database, [killed], status="KILLED")
    now = int(time.time() * 1e3)
    retried = dataclasses.replace(
        make_record(0, curves=(({"loss": 9.0},),)), started_ms=now, ended_ms=now + 9
    )
    second = track(database, [retried], earlier=[killed])
    read = store(database)
    run = read.trial("00")
    assert read.points(run, "by_epoch/loss") == [(0, 9.0)]
    assert run.info.run_id == second.run_id("00") != first.run_id("00")
    trash = read.client.get_run(first.run_id("00"))
    assert trash.info.lifecycle_stage == "deleted"
    assert trash.data.tags["nas.superseded_by"] == run.info.run_id
    assert "1 finished, 0 failed, 0 killed" in read.parent().data.tags["mlflow.note.content"]


def test_a_trial_that_failed_before_it_trained_keeps_its_run(
    database, store, make_search, make_record
):
    tracker = MLflowTracker("digits", tracking_uri=database)
    tracker.search_started(make_search(), [])
    failed = make_record(0, status="FAILED", curves=(), costs={})
    tracker.trial_started("00", failed.values)
    tracker.trial_ended(failed)
    first = tracker.run_id("00")
    tracker.trial_started("00", failed.values)
    tracker.flush()
    assert store(database).trial("00").info.status == "RUNNING"
    tracker.trial_ended(make_record(0))
    tracker.flush()
    run = store(database).trial("00")
    assert run.info.run_id == first
    assert run.info.status == "FINISHED" and run.info.run_name == "t00 0.5"
    assert "nas.error" not in run.data.tags


def test_the_number_of_requests_per_trial_is_constant(database, track, make_record, monkeypatch):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    tracker = track(database, [], status=None)
    calls = []
    for name in ("search_runs", "create_run", "log_inputs", "log_batch", "update_run_info"):
        original = getattr(SqlAlchemyStore, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            calls.append((_name, len(json.dumps([args, kwargs], default=str))))
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(SqlAlchemyStore, name, counted)
    per_trial = []
    for number in range(12):
        calls.clear()
        tracker.trial_started(f"{number:02d}", make_record(number).values)
        tracker.flush()
        tracker.trial_ended(make_record(number))
        tracker.flush()
        per_trial.append([name for name, _ in calls])
    expected = [
        "create_run",
        "log_inputs",
        "log_batch",
        "log_batch",
        "update_run_info",
        "log_batch",
    ]
    assert per_trial == [expected] * 12


def test_the_final_note_includes_trials_of_other_workers(
    database, track, store, make_search, make_record
):
    search = make_search()
    tracker = track(database, [make_record(0)], status=None, search=search)
    folder = f"{search.directory}/trial_01"
    os.makedirs(folder)
    make_record(1).save(folder)
    tracker.search_ended("FINISHED")
    assert "2 finished" in store(database).parent().data.tags["mlflow.note.content"]


def test_workers_that_start_at_the_same_time_share_one_parent(
    database, track, store, make_search, make_record
):
    first = MLflowTracker("digits", tracking_uri=database)
    second = MLflowTracker("digits", tracking_uri=database)
    for tracker, number in ((first, 0), (second, 1)):
        tracker.search_started(make_search(), [])
        tracker.trial_started(f"{number:02d}", make_record(number).values)
    first.trial_ended(make_record(0))
    first.search_ended("FINISHED")
    second.trial_ended(make_record(1))
    second.search_ended("FINISHED")
    assert first.parent_run_id == second.parent_run_id
    assert [run.info.status for run in store(database).runs()] == ["FINISHED", "FINISHED"]


@pytest.mark.parametrize("measured", [False, True], ids=["empty", "with metrics"])
def test_a_run_that_is_closed_while_the_next_attempt_starts_belongs_to_the_earlier_attempt(
    database, track, store, make_search, make_record, measured
):
    """The background thread closes a dead process's run while the trial starts again."""
    track(database, [])
    client, values = store(database).client, make_record(0).values
    runs = SearchRuns(client, store(database).parent().info.experiment_id, make_search(), {})
    runs.open_parent("search")
    now = time.time_ns() // 1_000_000
    first = runs.start_trial("00", values, now - 2_000, new=True)
    if measured:
        client.log_metric(first.run_id, "loss", 1.0)
    runs.kill(first.run_id)
    second = runs.start_trial("00", values, now - 1_000)
    assert client.get_run(second.run_id).info.status == "RUNNING"
    assert (second.run_id == first.run_id) is not measured

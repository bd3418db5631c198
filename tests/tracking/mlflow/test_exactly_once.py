"""There is one run per trial, whichever request is lost and whichever process sends it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from keras_nas_plugin.project import exclusive_search_lock
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from keras_nas_plugin.tracking.mlflow.sync import sync


@pytest.fixture
def copy_of():
    """Creates the run of a request that the server carries out after its sender gave up."""

    def copy(client, run, **changes):
        created = client.create_run(
            run.info.experiment_id,
            start_time=run.info.start_time,
            tags={**run.data.tags, **changes},
            run_name=run.info.run_name,
        )
        return created.info.run_id

    return copy


@pytest.fixture
def project(make_search):
    search = make_search()
    Path(search.directory).mkdir()
    search.save()
    return search


def test_training_continues_while_the_store_hangs(
    database, store, make_search, make_record, monkeypatch
):
    from mlflow import MlflowClient

    create_run, answers = MlflowClient.create_run, threading.Event()

    def stuck(self, *args, **kwargs):
        answers.wait()
        return create_run(self, *args, **kwargs)

    tracker = MLflowTracker("digits", tracking_uri=database)
    tracker.search_started(make_search(), [])
    monkeypatch.setattr(MlflowClient, "create_run", stuck)
    for number in range(3):  # would hang if training waited for the store
        tracker.trial_started(f"{number:02d}", make_record(number).values)
        tracker.trial_ended(make_record(number))
    assert store(database).runs() == []
    waiting = Outbox(make_search().directory).records()
    assert waiting == [make_record(number) for number in range(3)]
    answers.set()
    tracker.search_ended("FINISHED")
    assert [run.info.status for run in store(database).runs()] == ["FINISHED"] * 3
    assert Outbox(make_search().directory).records() == []


def test_a_trial_that_ends_before_its_start_was_sent_is_sent_in_one_sequence_of_requests(
    database, track, make_record, monkeypatch
):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    tracker = track(database, [], status=None)
    parent = tracker.parent_run_id
    calls, sending, proceed = [], threading.Event(), threading.Event()
    for name in ("search_runs", "create_run", "log_inputs", "log_batch", "update_run_info"):
        original = getattr(SqlAlchemyStore, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            sending.set()
            proceed.wait()
            # The search's run is updated once a second, so its requests are not counted.
            if parent not in (*args, *kwargs.values()):
                calls.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(SqlAlchemyStore, name, counted)
    tracker.trial_started("00", make_record(0).values)
    assert sending.wait(60)  # the start of the first trial, or the update of the search's run
    for number in range(1, 4):
        tracker.trial_started(f"{number:02d}", make_record(number).values)
    for number in range(4):
        tracker.trial_ended(make_record(number))
    proceed.set()
    tracker.flush()
    expected = ["create_run", "log_inputs", "log_batch", "update_run_info"]
    assert calls[-12:] == expected * 3
    assert calls.count("create_run") == calls.count("update_run_info") == 4


@pytest.mark.parametrize("same_process", [False, True], ids=["in another process", "in this one"])
def test_a_duplicate_run_from_a_lost_request_moves_to_the_trash(
    database, project, track, store, make_record, copy_of, same_process
):
    client = store(database).client
    with exclusive_search_lock(project.directory):
        tracker = track(database, [make_record(0)], search=project, status=None)
        if same_process:
            tracker.trial_started("01", make_record(1).values)
            tracker.flush()
    original = store(database).trial("00")
    extra = [copy_of(client, original)]
    if same_process:
        extra.append(copy_of(client, store(database).trial("01")))
    parent = store(database).parent()
    extra.append(copy_of(client, parent))
    records = [make_record(0)]
    with exclusive_search_lock(project.directory):
        if same_process:  # the same tracker, after a request whose answer was lost
            synchronizer = tracker._followed.synchronizer
            synchronizer._store.uncertain = True
            synchronizer._exclusive = synchronizer._runs._exclusive = True
            tracker.trial_ended(make_record(1))
            tracker.search_ended("FINISHED")
        else:
            track(database, [make_record(1)], earlier=records, search=project)
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == ["00", "01"]
    assert read.trial("00").info.run_id == original.info.run_id
    assert read.parent().info.run_id == parent.info.run_id
    for run_id in extra:
        trash = client.get_run(run_id)
        assert trash.info.lifecycle_stage == "deleted" and trash.info.status == "KILLED"
        assert trash.data.tags["nas.superseded_by"] in {
            run.info.run_id for run in [*read.runs(), parent]
        }


def test_a_worker_moves_no_run_to_the_trash(database, project, track, store, make_record, copy_of):
    track(database, [make_record(0)], search=project, status=None)
    copy_of(store(database).client, store(database).trial("00"))
    track(database, [make_record(1)], search=project, earlier=[make_record(0)], status=None)
    assert len(store(database).runs()) == 3


def test_a_resume_closes_runs_that_a_dead_process_left_running(
    database, project, track, store, make_record
):
    tracker = track(database, [make_record(0)], search=project, status=None)
    tracker.trial_started("01", make_record(1).values)
    first = tracker.run_id("01")
    with exclusive_search_lock(project.directory):
        resumed = track(database, [], earlier=[make_record(0)], search=project, status=None)
        assert store(database).trial("01").info.status == "KILLED"
        assert store(database).parent().info.status == "RUNNING"
        resumed.trial_started("01", make_record(1).values)
        resumed.flush()
        assert store(database).trial("01").info.status == "RUNNING"
        now = int(time.time() * 1e3)
        resumed.trial_ended(make_record(1, started_ms=now, ended_ms=now + 9))
        resumed.search_ended("FINISHED")
    assert store(database).trial("01").info.run_id == first
    assert store(database).trial("01").info.status == "FINISHED"


def test_a_worker_does_not_close_runs_of_other_workers(
    database, project, track, store, make_record
):
    tracker = track(database, [], search=project, status=None)
    tracker.trial_started("01", make_record(1).values)
    tracker.flush()
    track(database, [make_record(0)], search=project, status=None)
    assert store(database).trial("01").info.status == "RUNNING"


def test_trials_that_two_processes_send_at_the_same_time_are_logged_once(
    database, project, track, store, make_record, monkeypatch
):
    """`keras-nas sync` during a search: both processes find the same files in the outbox."""
    from mlflow import MlflowClient

    tracker = track(database, [make_record(0)], search=project, status=None)
    for number in (1, 2, 3):
        folder = Path(project.directory) / f"trial_{number:02d}"
        folder.mkdir()
        make_record(number).save(folder)
    create_run, entered, proceed = MlflowClient.create_run, threading.Event(), threading.Event()

    def slow(self, *args, **kwargs):
        entered.set()
        proceed.wait()
        return create_run(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    for number in (1, 2, 3):
        tracker.trial_ended(make_record(number))
    entered.wait()
    syncing = threading.Thread(target=sync, args=[project.directory])
    with exclusive_search_lock(project.directory):
        syncing.start()
        proceed.set()
        syncing.join()
        tracker.search_ended("FINISHED")
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == ["00", "01", "02", "03"]
    assert {run.info.status for run in read.runs()} == {"FINISHED"}
    assert Outbox(project.directory).records() == []


def test_a_trial_is_sent_when_the_outbox_cannot_be_written(
    database, project, track, store, make_record, caplog
):
    outbox = Path(project.directory) / "outbox"
    outbox.write_text("in the way of the folder")
    track(database, [make_record(0)], search=project)
    assert "Trial 00 cannot be saved to the outbox" in caplog.text
    assert store(database).trial("00").info.status == "FINISHED"
    os.remove(outbox)


def test_a_trial_that_is_sent_again_uses_the_run_with_its_metrics(
    database, project, track, store, make_record, copy_of
):
    """A worker died before it ended the run, and a repeated request created a second run."""
    first = track(database, [make_record(0)], search=project, status=None)
    client = store(database).client
    original = store(database).trial("00")
    client.update_run(original.info.run_id, status="RUNNING")
    duplicate = copy_of(client, original)
    resumed = track(database, [], search=project, earlier=[make_record(0)], status=None)
    read = store(database)
    assert read.trial("00").info.run_id == first.run_id("00") == resumed.run_id("00")
    assert read.trial("00").info.status == "FINISHED"
    assert [step for step, _ in read.points(read.trial("00"), "by_epoch/loss")] == [0, 1, 2]
    assert client.get_run(duplicate).info.lifecycle_stage == "deleted"


def test_a_trial_that_mlflow_rejects_with_an_internal_error_does_not_block_others(
    database, project, track, store, make_record, monkeypatch, caplog
):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    create_run = MlflowClient.create_run

    def failing(self, *args, **kwargs):
        if kwargs.get("tags", {}).get("nas.trial_id") == "01":
            raise MlflowException("a bug of the server's")  # INTERNAL_ERROR, as in an outage
        return create_run(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", failing)
    tracker = track(database, [make_record(0)], search=project, status=None)
    for number in range(1, 6):
        tracker.trial_ended(make_record(number))
        tracker.flush()
    assert "MLflow rejected trial 01 but accepted others" in caplog.text
    tracker.search_ended("FINISHED")
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == [
        "00",
        *(f"{number:02d}" for number in range(2, 6)),
    ]
    assert read.parent().info.status == "FINISHED"
    assert [record.trial_id for record in Outbox(project.directory).records()] == ["01"]
    monkeypatch.undo()
    monkeypatch.chdir(Path(project.directory).parent)
    assert (sync(project.directory).sent, len(store(database).runs())) == (1, 6)

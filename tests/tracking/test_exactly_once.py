"""One run per trial, whatever was lost on the way and whoever sends."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from keras_nas_plugin.project import driven
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.outbox import Outbox
from keras_nas_plugin.tracking.sync import sync


@pytest.fixture
def copy_of():
    """What a request leaves that a server carries out after its sender gave it up."""

    def copy(client, run, **changes):
        made = client.create_run(
            run.info.experiment_id,
            start_time=run.info.start_time,
            tags={**run.data.tags, **changes},
            run_name=run.info.run_name,
        )
        return made.info.run_id

    return copy


@pytest.fixture
def project(make_search):
    search = make_search()
    Path(search.directory).mkdir()
    search.save()
    return search


def test_training_goes_on_while_a_store_is_stuck(
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
    for number in range(3):  # would not return if it waited
        tracker.trial_started(f"{number:02d}", make_record(number).values)
        tracker.trial_ended(make_record(number))
    assert store(database).runs() == []
    waiting = Outbox(make_search().directory).records()
    assert waiting == [make_record(number) for number in range(3)]
    answers.set()
    tracker.search_ended("FINISHED")
    assert [run.info.status for run in store(database).runs()] == ["FINISHED"] * 3
    assert Outbox(make_search().directory).records() == []


def test_what_has_ended_before_it_was_told_is_told_in_one_go(
    database, track, make_record, monkeypatch
):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    tracker = track(database, [], status=None)
    parent = tracker.parent_run_id
    calls, go_on = [], threading.Event()
    for name in ("search_runs", "create_run", "log_inputs", "log_batch", "update_run_info"):
        original = getattr(SqlAlchemyStore, name)

        def counted(self, *args, _name=name, _original=original, **kwargs):
            go_on.wait()
            # The search's run has its turn when a second has passed.
            if parent not in (*args, *kwargs.values()):
                calls.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(SqlAlchemyStore, name, counted)
    for number in range(4):
        tracker.trial_started(f"{number:02d}", make_record(number).values)
    for number in range(4):
        tracker.trial_ended(make_record(number))
    go_on.set()
    tracker.flush()
    in_one_go = ["create_run", "log_inputs", "log_batch", "update_run_info"]
    assert calls[-12:] == in_one_go * 3  # the start of the first one may have begun
    assert calls.count("create_run") == calls.count("update_run_info") == 4


@pytest.mark.parametrize("noted", [False, True], ids=["in another process", "in this one"])
def test_a_run_that_a_lost_request_made_is_found_and_thrown_away(
    database, project, track, store, make_record, copy_of, noted
):
    client = store(database).client
    with driven(project.directory):
        tracker = track(database, [make_record(0)], search=project, status=None)
        if noted:
            tracker.trial_started("01", make_record(1).values)
            tracker.flush()
    original = store(database).trial("00")
    extra = [copy_of(client, original)]
    if noted:
        extra.append(copy_of(client, store(database).trial("01")))
    parent = store(database).parent()
    extra.append(copy_of(client, parent))
    records = [make_record(0)]
    with driven(project.directory):
        if noted:  # the same tracker, that has lost a request
            tracker._delivery._link.unsure = True
            tracker._delivery._alone = tracker._delivery._runs._alone = True
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


def test_a_worker_throws_no_run_away(database, project, track, store, make_record, copy_of):
    track(database, [make_record(0)], search=project, status=None)
    copy_of(store(database).client, store(database).trial("00"))
    track(database, [make_record(1)], search=project, earlier=[make_record(0)], status=None)
    assert len(store(database).runs()) == 3


def test_on_resume_nothing_is_running_that_does_not_run(
    database, project, track, store, make_record
):
    tracker = track(database, [make_record(0)], search=project, status=None)
    tracker.trial_started("01", make_record(1).values)
    first = tracker.run_id("01")
    with driven(project.directory):
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


def test_a_worker_leaves_what_others_run_alone(database, project, track, store, make_record):
    tracker = track(database, [], search=project, status=None)
    tracker.trial_started("01", make_record(1).values)
    tracker.flush()
    track(database, [make_record(0)], search=project, status=None)
    assert store(database).trial("01").info.status == "RUNNING"


def test_two_that_send_the_same_trials_send_them_once(
    database, project, track, store, make_record, monkeypatch
):
    """`keras-nas sync` while the search goes on: both find the same files in the outbox."""
    from mlflow import MlflowClient

    tracker = track(database, [make_record(0)], search=project, status=None)
    for number in (1, 2, 3):
        folder = Path(project.directory) / f"trial_{number:02d}"
        folder.mkdir()
        make_record(number).save(folder)
    create_run, entered, go_on = MlflowClient.create_run, threading.Event(), threading.Event()

    def slow(self, *args, **kwargs):
        entered.set()
        go_on.wait()
        return create_run(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    for number in (1, 2, 3):
        tracker.trial_ended(make_record(number))
    entered.wait()
    other = threading.Thread(target=sync, args=[project.directory])
    with driven(project.directory):
        other.start()
        go_on.set()
        other.join()
        tracker.search_ended("FINISHED")
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == ["00", "01", "02", "03"]
    assert {run.info.status for run in read.runs()} == {"FINISHED"}
    assert Outbox(project.directory).records() == []


def test_a_full_disk_costs_the_place_to_wait_in_and_nothing_else(
    database, project, track, store, make_record, caplog
):
    outbox = Path(project.directory) / "outbox"
    outbox.write_text("in the way of the folder")
    track(database, [make_record(0)], search=project)
    assert "Trial 00 cannot wait on disk" in caplog.text
    assert store(database).trial("00").info.status == "FINISHED"
    os.remove(outbox)


def test_a_trial_that_is_sent_again_goes_to_the_run_that_has_its_metrics(
    database, project, track, store, make_record, copy_of
):
    """A worker died before the end of the run, after its first request was made again."""
    first = track(database, [make_record(0)], search=project, status=None)
    client = store(database).client
    original = store(database).trial("00")
    client.update_run(original.info.run_id, status="RUNNING")
    late = copy_of(client, original)
    resumed = track(database, [], search=project, earlier=[make_record(0)], status=None)
    read = store(database)
    assert read.trial("00").info.run_id == first.run_id("00") == resumed.run_id("00")
    assert read.trial("00").info.status == "FINISHED"
    assert [step for step, _ in read.points(read.trial("00"), "loss")] == [0, 1, 2]
    assert client.get_run(late).info.lifecycle_stage == "deleted"


def test_a_trial_that_mlflow_fails_over_does_not_hold_up_the_others(
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
    assert "fails over trial 01, and takes others" in caplog.text
    tracker.search_ended("FINISHED")
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == [
        "00",
        *(f"{number:02d}" for number in range(2, 6)),
    ]
    assert read.parent().info.status == "FINISHED"
    assert [one.trial_id for one in Outbox(project.directory).records()] == ["01"]
    monkeypatch.undo()
    monkeypatch.chdir(Path(project.directory).parent)
    assert (sync(project.directory).sent, len(store(database).runs())) == (1, 6)

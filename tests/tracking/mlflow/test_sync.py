"""`sync` sends the trials in the outbox and closes runs that a killed search left open."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.project import exclusive_search_lock
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow.client import absolute_uri
from keras_nas_plugin.tracking.mlflow.sync import sync


@pytest.fixture
def dead_uri():
    """An address at which no server listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def project(make_search, make_record):
    """A search with two trials on disk, as a tuner leaves them."""
    search = make_search()
    Path(search.directory).mkdir()
    search.save()
    records = [make_record(0), make_record(1, status="FAILED")]
    for record in records:
        folder = Path(search.directory) / f"trial_{record.trial_id}"
        folder.mkdir(parents=True)
        record.save(folder)
    return search, records


def test_trials_in_the_outbox_are_sent_once(database, dead_uri, project, track, store):
    search, records = project
    track(dead_uri, records, search=search)
    result = sync(search.directory, tracking_uri=database)
    assert (result.sent, result.waiting, result.trials, result.status) == (2, 0, 2, "FINISHED")
    read = store(database)
    assert [read.trial(record.trial_id).info.status for record in records] == [
        "FINISHED",
        "FAILED",
    ]
    assert read.parent().info.status == "FINISHED"
    points = read.points(read.trial("00"), "by_epoch/val_accuracy")
    # The folder now holds the address.
    assert sync(search.directory).sent == 0
    assert read.points(read.trial("00"), "by_epoch/val_accuracy") == points
    assert len(read.runs()) == 2


def test_runs_of_a_search_that_was_killed_are_closed(database, project, track, store):
    search, records = project
    tracker = track(database, records, search=search, status=None)
    tracker.trial_started("02", {"depth": 1})
    tracker.flush()
    assert MLflowTracker.last_status(search.directory) is None
    result = sync(search.directory)
    assert (result.sent, result.status) == (0, "KILLED")
    read = store(database)
    assert read.parent().info.status == read.trial("02").info.status == "KILLED"
    assert read.trial("00").info.status == "FINISHED"


def test_a_running_search_is_left_running(database, project, track, store):
    search, records = project
    tracker = track(database, records, search=search, status=None)
    tracker.trial_started("02", {"depth": 1})
    tracker.flush()
    with exclusive_search_lock(search.directory), ThreadPoolExecutor() as pool:
        assert pool.submit(sync, search.directory).result().status is None
    read = store(database)
    assert read.parent().info.status == read.trial("02").info.status == "RUNNING"


def test_a_search_that_ended_keeps_its_status(database, project, track, store):
    search, records = project
    track(database, records, search=search, status="FAILED")
    assert sync(search.directory).status == "FAILED"
    assert store(database).parent().info.status == "FAILED"


def test_a_search_that_cannot_be_synced_raises(database, dead_uri, project, track, tmp_path):
    search, records = project
    with pytest.raises(StateError, match="must be the folder of a search that MLflow tracked"):
        sync(search.directory)
    with pytest.raises(StateError, match="must be the folder of a search.*nowhere"):
        sync(tmp_path / "nowhere", tracking_uri=database)
    track(dead_uri, records, search=search)
    with pytest.raises(TrackingError, match="must be a store that answers.* 2 trials are kept in"):
        sync(search.directory)
    with pytest.raises(TrackingError, match="must be a store that answers"):
        sync(search.directory, tracking_uri="http://127.0.0.1:9")
    # The status of the search and its address are still saved.
    assert MLflowTracker.last_status(search.directory) == "FINISHED"
    assert MLflowTracker.settings_of(search.directory)["tracking_uri"] == dead_uri


def test_no_password_is_saved(project, track, monkeypatch):
    search, _ = project
    track("http://somebody:secret@127.0.0.1:9", [], search=search)
    text = (Path(search.directory) / "tracking.json").read_text("utf-8")
    assert json.loads(text)["settings"]["tracking_uri"] is None
    assert "secret" not in text
    # Nor are the trials sent to MLflow's default store instead.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="must be the address.*was not saved"):
        sync(search.directory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match="a store that answers; got 'http://127.0.0.1:9'"):
        sync(search.directory)


def test_a_relative_address_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/b.db?timeout=3") == f"sqlite:///{tmp_path}/a/b.db?timeout=3"
    assert absolute_uri("postgresql://host/db") == "postgresql://host/db"
    assert absolute_uri("sqlite:///:memory:") == "sqlite:///:memory:"

"""What a search could not send is sent by hand, and what nobody goes on with is closed."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.project import driven
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.connection import absolute_uri
from keras_nas_plugin.tracking.sync import sync


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


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


def test_what_waits_is_sent_and_once(database, nobody, project, track, store):
    search, records = project
    track(nobody, records, search=search)
    done = sync(search.directory, tracking_uri=database)
    assert (done.sent, done.waiting, done.trials, done.status) == (2, 0, 2, "FINISHED")
    read = store(database)
    assert [read.trial(one.trial_id).info.status for one in records] == ["FINISHED", "FAILED"]
    assert read.parent().info.status == "FINISHED"
    points = read.points(read.trial("00"), "val_accuracy")
    # The folder knows by now where to.
    assert sync(search.directory).sent == 0
    assert read.points(read.trial("00"), "val_accuracy") == points
    assert len(read.runs()) == 2


def test_runs_of_a_search_that_was_killed_are_closed(database, project, track, store):
    search, records = project
    tracker = track(database, records, search=search, status=None)
    tracker.trial_started("02", {"depth": 1})
    tracker.flush()
    assert MLflowTracker.last_status(search.directory) is None
    done = sync(search.directory)
    assert (done.sent, done.status) == (0, "KILLED")
    read = store(database)
    assert read.parent().info.status == read.trial("02").info.status == "KILLED"
    assert read.trial("00").info.status == "FINISHED"


def test_a_search_that_goes_on_is_left_alone(database, project, track, store):
    search, records = project
    tracker = track(database, records, search=search, status=None)
    tracker.trial_started("02", {"depth": 1})
    tracker.flush()
    with driven(search.directory), ThreadPoolExecutor() as elsewhere:
        assert elsewhere.submit(sync, search.directory).result().status is None
    read = store(database)
    assert read.parent().info.status == read.trial("02").info.status == "RUNNING"


def test_a_search_that_ended_keeps_its_status(database, project, track, store):
    search, records = project
    track(database, records, search=search, status="FAILED")
    assert sync(search.directory).status == "FAILED"
    assert store(database).parent().info.status == "FAILED"


def test_what_cannot_be_synced_says_so(database, nobody, project, track, tmp_path):
    search, records = project
    with pytest.raises(StateError, match="needs the folder of a search that MLflow tracked"):
        sync(search.directory)
    with pytest.raises(StateError, match="needs the folder of a search.*nowhere"):
        sync(tmp_path / "nowhere", tracking_uri=database)
    track(nobody, records, search=search)
    with pytest.raises(TrackingError, match="needs a store that answers.* 2 trials wait in"):
        sync(search.directory)
    with pytest.raises(TrackingError, match="needs a store that answers"):
        sync(search.directory, tracking_uri="http://127.0.0.1:9")
    # How the search ended and where it logs is not forgotten over that.
    assert MLflowTracker.last_status(search.directory) == "FINISHED"
    assert MLflowTracker.settings_of(search.directory)["tracking_uri"] == nobody


def test_no_password_is_written_down(project, track, monkeypatch):
    search, _ = project
    track("http://somebody:secret@127.0.0.1:9", [], search=search)
    text = (Path(search.directory) / "tracking.json").read_text("utf-8")
    assert json.loads(text)["settings"]["tracking_uri"] is None
    assert "secret" not in text
    # Nor does what waits go to MLflow's default in its place.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="needs the address.*not written down"):
        sync(search.directory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match="a store that answers; received 'http://127.0.0.1:9'"):
        sync(search.directory)


def test_a_relative_address_is_one_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///a/b.db?timeout=3") == f"sqlite:///{tmp_path}/a/b.db?timeout=3"
    assert absolute_uri("postgresql://host/db") == "postgresql://host/db"
    assert absolute_uri("sqlite:///:memory:") == "sqlite:///:memory:"

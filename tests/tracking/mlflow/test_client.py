"""Stores that are missing, invalid, or opened by many processes at once."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3

import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow import client as connection
from keras_nas_plugin.tracking.mlflow import schema_lock as opening
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from tests.integration import forkserver


@pytest.fixture
def dead_uri():
    """A port that refuses every connection: it is bound, but no server listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent_uri():
    """A server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://ann:secret@127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_does_not_answer_causes_one_warning_and_loses_no_trial(
    dead_uri, track, make_search, make_record, caplog, capsys
):
    records = [make_record(i) for i in range(3)]
    with caplog.at_level(logging.WARNING, logger="keras_nas_plugin"):
        tracker = track(dead_uri, records, status=None)
        assert len(caplog.records) == 1
        tracker.search_ended("FINISHED")
    first, summary = (record.getMessage() for record in caplog.records)
    assert dead_uri in first and "Start the server, or check `tracking_uri`" in first
    assert "3 trials are kept in" in summary and "keras-nas search recipe.py --resume" in summary
    assert Outbox(make_search().directory).records() == records
    assert tracker.parent_run_id is None and tracker.run_id("00") is None
    assert capsys.readouterr().out == ""


def test_a_server_that_listens_but_never_answers_is_sent_no_request(
    silent_uri, track, make_search, make_record, caplog, monkeypatch
):
    from mlflow.utils import rest_utils

    requests = []
    monkeypatch.setattr(rest_utils, "http_request", lambda *a, **k: requests.append(a))
    with caplog.at_level(logging.WARNING, logger="keras_nas_plugin"):
        track(silent_uri, [make_record(0)])
    assert requests == []
    assert "secret" not in caplog.text
    assert len(Outbox(make_search().directory).records()) == 1


def test_trials_in_the_outbox_are_sent_when_the_search_resumes_with_another_store(
    dead_uri, database, track, store, make_search, make_record
):
    track(dead_uri, [make_record(0), make_record(1)], status="KILLED")
    track(database, [make_record(2)])
    read = store(database)
    assert [run.data.tags["nas.trial_id"] for run in read.runs()] == ["00", "01", "02"]
    assert {run.info.status for run in read.runs()} == {"FINISHED"}
    assert Outbox(make_search().directory).records() == []


@pytest.mark.parametrize("uri", ["nonsense://host/path", "uc:catalog"])
def test_an_unknown_scheme_raises(uri, make_search):
    with pytest.raises(TrackingError, match="`tracking_uri` must be .* got '" + uri):
        MLflowTracker(tracking_uri=uri).search_started(make_search(), [])


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_file_store_that_mlflow_no_longer_supports_raises(scheme, tmp_path, make_search):
    with pytest.raises(TrackingError, match="`tracking_uri`.*mlruns"):
        tracker = MLflowTracker(tracking_uri=f"{scheme}{tmp_path}/mlruns")
        tracker.search_started(make_search(), [])


def test_a_database_that_cannot_be_created_raises(make_search):
    with pytest.raises(TrackingError, match="`tracking_uri`.*'sqlite:////proc/x/mlflow.db'"):
        MLflowTracker(tracking_uri="sqlite:////proc/x/mlflow.db").search_started(make_search(), [])


def test_a_folder_in_place_of_a_database_raises(tmp_path, make_search):
    with pytest.raises(TrackingError, match="`tracking_uri`.*unable to open"):
        MLflowTracker(tracking_uri=f"sqlite:///{tmp_path}").search_started(make_search(), [])


def test_a_file_that_is_no_database_raises(tmp_path, make_search):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at " * 9)
    with pytest.raises(TrackingError, match="`tracking_uri`.*not a database"):
        uri = f"sqlite:///{tmp_path / 'notes.txt'}"
        MLflowTracker(tracking_uri=uri).search_started(make_search(), [])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_database_raises(database, tmp_path, make_search):
    (tmp_path / "mlflow.db").chmod(0o400)
    with pytest.raises(TrackingError, match="`tracking_uri`.*readonly"):
        MLflowTracker(tracking_uri=database).search_started(make_search(), [])


def test_a_database_that_another_process_writes_to_is_usable(database, tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as other_connection:
        other_connection.execute("BEGIN IMMEDIATE")
        opening._check_writable(tmp_path / "mlflow.db")
        other_connection.rollback()


def test_a_deleted_experiment_is_named(database, track, make_record, make_search, store):
    tracker = track(database, [make_record(0)])
    store(database).client.delete_experiment(tracker.experiment_id)
    with pytest.raises(TrackingError, match="`experiment` .*'digits'.*mlflow experiments restore"):
        tracker.search_started(make_search(), [])


def test_a_trial_stays_in_the_outbox_when_the_store_fails_while_it_is_logged(
    database, track, store, make_search, make_record, monkeypatch, caplog
):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    tracker = track(database, [make_record(0)], status=None)

    def locked(self, *args, **kwargs):
        raise MlflowException("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", locked)
        tracker.trial_started("01", make_record(1).values)
        tracker.trial_ended(make_record(1))
        tracker.flush()
    assert [r.trial_id for r in Outbox(make_search().directory).records()] == ["01"]
    assert "database is locked" in caplog.text
    tracker.trial_ended(make_record(2))
    tracker.search_ended("FINISHED")
    assert [run.info.status for run in store(database).runs()] == ["FINISHED"] * 3
    read = store(database)
    assert read.points(read.parent(), "best_objective") == [(1, 0.5), (2, 0.51), (3, 0.52)]


def test_a_rejected_trial_does_not_block_other_trials(
    database, track, store, make_search, make_record, monkeypatch, caplog
):
    from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    original = SqlAlchemyStore.update_run_info
    rejected_runs = []

    def refuse(self, run_id, *args, **kwargs):
        if self.get_run(run_id).data.tags.get("nas.trial_id") == "00":
            rejected_runs.append(run_id)
            raise MlflowException("no", error_code=INVALID_PARAMETER_VALUE)
        return original(self, run_id, *args, **kwargs)

    with monkeypatch.context() as broken:
        broken.setattr(SqlAlchemyStore, "update_run_info", refuse)
        tracker = track(database, [make_record(i) for i in range(4)], status=None)
    assert len(rejected_runs) == 1
    assert "MLflow rejected trial 00: " in caplog.text
    tracker.search_ended("FINISHED")
    assert [r.trial_id for r in Outbox(make_search().directory).records()] == ["00"]
    track(database, [])
    assert [run.info.status for run in store(database).runs()] == ["FINISHED"] * 4


def test_a_full_disk_loses_no_trial(database, track, store, make_record, monkeypatch, caplog):
    def full(self, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outbox, "put", full)
    track(database, [make_record(0)])
    assert store(database).trial("00").info.status == "FINISHED"
    assert "No space left on device" in caplog.text


def test_runs_are_logged_when_artifacts_cannot_be_stored(
    database, track, store, make_record, monkeypatch, caplog
):
    from mlflow import MlflowClient

    def refuse(self, *args, **kwargs):
        raise PermissionError("no credentials")

    monkeypatch.setattr(MlflowClient, "log_text", refuse)
    track(database, [make_record(0)])
    assert store(database).trial("00").info.status == "FINISHED"
    assert "`search_space.json`: no credentials" in caplog.text


# Forked, so that all six processes open the store at the same time.
_OPEN_BY_SIX = """
import multiprocessing, sys
import mlflow.store.tracking.sqlalchemy_store
from keras_nas_plugin.tracking import MLflowTracker, SearchInfo

def open_store(barrier, number):
    search = SearchInfo(search_id=f"search-{number % 3}", name="n", objective="loss",
                        direction="min", strategy="s", max_trials=1,
                        directory=f"{sys.argv[2]}/p{number % 3}")
    tracker = MLflowTracker("digits", tracking_uri=sys.argv[1])
    barrier.wait()
    tracker.search_started(search, [])
    assert tracker.parent_run_id

context = multiprocessing.get_context("fork")
barrier = context.Barrier(6)
processes = [context.Process(target=open_store, args=(barrier, i)) for i in range(6)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


def open_by_six(uri, folder):
    """Open a store by six processes at the same time; artifacts are written to the folder."""
    script = folder / "open_by_six.py"
    script.write_text(_OPEN_BY_SIX, encoding="utf-8")
    return forkserver.fork_server().run(
        forkserver.SCRIPT, cwd=folder, file=str(script), arguments=[uri, str(folder)]
    )


def test_six_processes_open_a_database_that_does_not_exist_yet(tmp_path, store):
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    process = open_by_six(uri, tmp_path)
    assert process.out.strip() == str([0] * 6), process.err
    assert "alembic" not in process.err
    # Two processes each belong to one of three searches.
    searches = [run.data.tags["nas.search_id"] for run in store(uri).runs("search")]
    assert sorted(searches) == ["search-0", "search-1", "search-2"]


@pytest.mark.parametrize(
    "uri", ["sqlite:///a/b.db", "sqlite:////a/b c.db", "sqlite+pysqlite:///x"]
)
def test_the_path_of_an_sqlite_uri(uri):
    from sqlalchemy.engine import make_url

    assert str(opening.sqlite_path(uri)) == make_url(uri).database


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///:memory:", "http://host", "postgresql://h/d"]
)
def test_the_sqlite_path_of_other_uris_is_none(uri):
    assert opening.sqlite_path(uri) is None


def test_requests_are_bounded_inside_the_block_unless_the_user_has_set_limits(monkeypatch):
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ) | {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(MLFLOW_HTTP_REQUEST_MAX_RETRIES.default),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "false",
    }
    with pytest.raises(KeyError), connection.bounded_requests():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
        raise KeyError
    assert dict(os.environ) == before


def test_public_uris_have_no_credentials():
    assert connection.public_uri("https://ann:secret@host:5/x") == "https://host:5/x"
    assert connection.public_uri("sqlite:///a@b.db") == "sqlite:///a@b.db"

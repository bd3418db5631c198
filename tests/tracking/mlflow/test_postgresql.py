"""PostgreSQL as MLflow's store: opened at the same time, killed, or behind a server."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow import client as connection
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from keras_nas_plugin.tracking.mlflow.sync import sync
from tests import databases
from tests.servers import mlflow_server
from tests.tracking.mlflow.test_client import open_by_six


@pytest.fixture(scope="module")
def cluster():
    """A running PostgreSQL server; skips if it, or its driver, is not installed."""
    programs = databases.find_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs psycopg: pip install -e '.[postgres]'")
    cluster = databases.PostgreSQL(programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def filled(cluster):
    """Name of a database with MLflow's tables, which take seconds to create."""
    connection.connect(cluster.create("filled")).search_experiments()
    return "filled"


@pytest.fixture
def uri(cluster, filled, request, tmp_path, monkeypatch):
    """Address of the test's own database with MLflow's tables."""
    monkeypatch.chdir(tmp_path)  # where artifacts are written
    # A database that is copied must have no connections.
    cluster.disconnect(filled)
    return cluster.create(request.node.name, template=filled)


def ids(runs):
    return [run.data.tags["nas.trial_id"] for run in runs]


def test_six_processes_open_a_database_that_has_no_tables_yet(cluster, tmp_path, store):
    """Without a lock, MLflow 3.17 fails in some of them: relations exist already."""
    uri = cluster.create("new")
    process = open_by_six(uri, tmp_path)
    assert process.out.strip() == str([0] * 6), process.err
    assert "alembic" not in process.err
    searches = [run.data.tags["nas.search_id"] for run in store(uri).runs("search")]
    assert sorted(searches) == ["search-0", "search-1", "search-2"]


def test_a_search_is_logged_once(uri, track, store, make_record, capfd):
    records = [
        make_record(0, values={"e": "", "u": "ü", "long": "v" * 7_000}),
        make_record(1, curves=(({"loss": float("nan")}, {"loss": float("inf")}, {"loss": 1.0}),)),
        make_record(2, status="FAILED"),
    ]
    track(uri, records)
    read = store(uri)
    assert ids(read.runs()) == ["00", "01", "02"]
    assert [run.info.status for run in read.runs()] == ["FINISHED", "FINISHED", "FAILED"]
    assert read.trial("00").data.params["u"] == "ü"
    assert [str(value) for _, value in read.points(read.trial("01"), "by_epoch/loss")] == [
        "nan",
        "nan",
        "1.0",
    ]
    points = read.points(read.trial("00"), "by_epoch/val_accuracy")
    # Resuming the search adds its new trial and nothing else.
    track(uri, [make_record(3)], earlier=records)
    assert ids(read.runs()) == ["00", "01", "02", "03"]
    assert read.points(read.trial("00"), "by_epoch/val_accuracy") == points
    assert read.points(read.parent(), "best_objective") == [
        (1, 0.5),
        (2, 0.51),
        (4, 0.53),
    ]
    assert capfd.readouterr().out == ""


def test_a_database_that_was_killed_has_every_trial_after_a_sync(
    cluster, uri, track, store, make_search, make_record, caplog, capfd
):
    search = make_search()
    Path(search.directory).mkdir()
    search.save()
    records = [make_record(number) for number in range(5)]
    tracker = track(uri, records[:1], status=None)
    try:
        with caplog.at_level(logging.WARNING, logger="keras_nas_plugin"):
            tracker.trial_started("01", records[1].values)
            cluster.kill()  # between a trial's start and its end
            tracker.trial_ended(records[1])
            for record in records[2:]:
                tracker.trial_started(record.trial_id, record.values)
                tracker.trial_ended(record)
            tracker.search_ended("FINISHED")
            waiting = [record.trial_id for record in Outbox(search.directory).records()]
    finally:
        cluster.start()
    assert waiting == ["01", "02", "03", "04"]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in message for message in messages) == 1
    assert databases.PASSWORD not in "".join(messages)
    # MLflow and SQLAlchemy log nothing in addition to that warning.
    assert "Traceback" not in capfd.readouterr().err
    for record in records:
        folder = Path(search.directory) / f"trial_{record.trial_id}"
        folder.mkdir(exist_ok=True)
        record.save(folder)
    result = sync(search.directory, tracking_uri=uri)
    assert (result.sent, result.waiting, result.status) == (4, 0, "FINISHED")
    assert sync(search.directory, tracking_uri=uri).sent == 0
    read = store(uri)
    assert ids(read.runs()) == ["00", "01", "02", "03", "04"]
    assert {run.info.status for run in read.runs()} == {"FINISHED"}
    assert all(len(read.points(run, "by_epoch/loss")) == 3 for run in read.runs())
    assert [step for step, _ in read.points(read.parent(), "best_objective")] == [1, 2, 3, 4, 5]
    assert read.parent().info.status == "FINISHED"


def test_logging_continues_when_the_database_is_back(cluster, uri, track, store, make_record):
    tracker = track(uri, [make_record(0)], status=None)
    cluster.kill()
    try:
        tracker.trial_started("01", make_record(1).values)
        tracker.trial_ended(make_record(1))
    finally:
        cluster.start()
    tracker.trial_started("02", make_record(2).values)
    tracker.trial_ended(make_record(2))
    tracker.search_ended("FINISHED")
    read = store(uri)
    assert ids(read.runs()) == ["00", "01", "02"]
    assert {run.info.status for run in [read.parent(), *read.runs()]} == {"FINISHED"}


_TWO_WRITE = """
import multiprocessing, sys
import mlflow.store.tracking.sqlalchemy_store
from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord

def search(barrier, name):
    info = SearchInfo(search_id=name, name=name, objective="loss", direction="min",
                      strategy="s", max_trials=9, directory=f"{sys.argv[2]}/{name}")
    tracker = MLflowTracker("digits", tracking_uri=sys.argv[1])
    barrier.wait()
    tracker.search_started(info, [])
    for number in range(4):
        values = {"units": number}
        tracker.trial_started(f"{name}{number}", values)
        curves = (tuple({"loss": 1.0 / (step + 1)} for step in range(20)),)
        tracker.trial_ended(TrialRecord(trial_id=f"{name}{number}", values=values, score=0.05,
            status="FINISHED", metrics={"loss": 0.05}, best_step=19, curves=curves,
            started_ms=1_700_000_000_000 + number, ended_ms=1_700_000_000_100 + number))
    tracker.search_ended("FINISHED")

context = multiprocessing.get_context("fork")
barrier = context.Barrier(2)
processes = [context.Process(target=search, args=(barrier, name)) for name in "ab"]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


def test_trials_of_two_processes_that_write_at_the_same_time_are_logged(uri, tmp_path, store):
    process = subprocess.run(
        [sys.executable, "-c", _TWO_WRITE, uri, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == "[0, 0]", process.stderr
    assert "are kept in" not in process.stderr
    read = store(uri)
    assert ids(read.runs()) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    assert all(len(read.points(run, "by_epoch/loss")) == 20 for run in read.runs())
    assert {run.info.status for run in [*read.runs(), *read.runs("search")]} == {"FINISHED"}


def test_a_server_whose_database_was_killed_and_restarted_loses_no_trial(
    cluster, uri, tmp_path, track, store, make_record, caplog
):
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, uri).running() as server:
        tracker = track(server.uri, [make_record(0)], status=None)
        tracker.trial_started("01", make_record(1).values)
        cluster.kill()
        try:
            tracker.trial_ended(make_record(1))
            tracker.trial_started("02", make_record(2).values)
            tracker.trial_ended(make_record(2))
        finally:
            cluster.start()
        assert sum("does not answer" in r.getMessage() for r in caplog.records) == 1
        tracker.trial_started("03", make_record(3).values)
        tracker.trial_ended(make_record(3))
        tracker.search_ended("FINISHED")
        assert ids(store(server.uri).runs()) == ["00", "01", "02", "03"]
    # The same runs, read from the database itself.
    read = store(uri)
    assert {run.info.status for run in [read.parent(), *read.runs()]} == {"FINISHED"}
    assert all(len(read.points(run, "by_epoch/loss")) == 3 for run in read.runs())


@pytest.mark.parametrize(
    ("database", "password", "reason"),
    [
        ("postgres", "wrong", "password authentication failed"),
        ("nowhere", databases.PASSWORD, 'database "nowhere" does not exist'),
    ],
)
def test_an_address_that_the_server_rejects_raises_without_the_password(
    cluster, make_search, database, password, reason
):
    tracker = MLflowTracker(tracking_uri=cluster.uri(database, password=password))
    with pytest.raises(TrackingError, match=f"`tracking_uri` must be .*{reason}") as error:
        tracker.search_started(make_search(), [])
    assert password not in str(error.value)


def test_a_user_with_read_access_only_gets_an_error(
    cluster, uri, track, make_record, make_search, store
):
    database = uri.rpartition("/")[2]
    track(uri, [make_record(0)])
    cluster.execute("CREATE ROLE reader LOGIN PASSWORD 'peek'")
    cluster.execute("GRANT pg_read_all_data TO reader")
    reader = cluster.uri(database, user="reader", password="peek")
    with pytest.raises(
        TrackingError, match="`tracking_uri` must be .* can be written.*permission denied"
    ):
        track(reader, [make_record(1)], search=make_search(search_id="2"))
    assert ids(store(uri).runs()) == ["00"]


def test_a_database_that_is_not_ready_counts_as_unreachable(cluster, uri):
    """A limit on connections stands in for a database that is starting up."""
    cluster.execute("CREATE ROLE narrow LOGIN PASSWORD 'peek' CONNECTION LIMIT 0")
    narrow = cluster.uri(uri.rpartition("/")[2], user="narrow", password="peek")
    with pytest.raises(connection.UnreachableError, match="accepts connections.*too many"):
        connection.connect(narrow)


def test_the_error_names_a_driver_that_is_not_installed(cluster, uri):
    other_driver_uri = uri.replace("postgresql:", "postgresql+pg8000:")
    with pytest.raises(TrackingError, match="Python driver is installed.*pg8000.*pip install"):
        connection.connect(other_driver_uri)

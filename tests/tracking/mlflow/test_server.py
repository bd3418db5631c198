"""A real MLflow server that is used, killed during a search, and restarted."""

from __future__ import annotations

import logging
import shutil

import pytest

from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from tests.servers import mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with mlflow_server(folder, forked=False).running() as server:
        yield server


def test_a_search_is_logged_to_a_server(server, track, store, make_record, capfd):
    nan = float("nan")
    records = [
        make_record(0, values={"e": "", "u": "ü", "long": "v" * 7_000}),
        make_record(1, curves=(({"loss": nan}, {"loss": float("inf")}, {"loss": 1.0}),)),
        make_record(2, status="FAILED"),
    ]
    tracker = track(server.uri, records)
    assert capfd.readouterr().out == ""
    assert tracker.ui_command() == (
        f"{server.uri}/#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"
    )
    read = store(server.uri)
    assert [run.info.status for run in read.runs()] == ["FINISHED", "FINISHED", "FAILED"]
    assert read.trial("00").data.params["u"] == "ü"
    assert read.trial("00").data.params["long"].endswith("whole in values.json]")
    history = read.client.get_metric_history(read.trial("01").info.run_id, "by_epoch/loss")
    assert [str(p.value) for p in sorted(history, key=lambda p: p.step)] == ["nan", "nan", "1.0"]
    artifacts = read.client.list_artifacts(read.parent().info.run_id)
    assert [artifact.path for artifact in artifacts] == ["search_space.json"]


def test_a_model_is_registered_at_a_server(server, make_search):
    import keras
    import mlflow
    import numpy as np

    from keras_nas_plugin.registry import register_model

    tracker = MLflowTracker("models", tracking_uri=server.uri)
    tracker.search_started(make_search(search_id="models"), [])
    tracker.trial_started("00", {"depth": 1})
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    sample = np.ones((2, 3), "float32")
    registered = register_model(
        model,
        name="remote-model",
        run_id=tracker.run_id("00"),
        tracking_uri=server.uri,
        sample=sample,
        metrics={"accuracy": 0.5},
    )
    mlflow.set_tracking_uri(server.uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/remote-model@challenger")
    finally:
        mlflow.set_tracking_uri(None)
    np.testing.assert_allclose(loaded.predict(sample), model.predict(sample, verbose=0), atol=1e-6)
    version = mlflow.MlflowClient(server.uri).get_model_version("remote-model", registered.version)
    assert version.run_id == tracker.run_id("00")
    assert version.tags["nas.model_id"] == registered.model_id


def test_a_server_that_was_killed_has_every_trial_after_its_restart(
    server, store, make_search, make_record, caplog
):
    experiment = "killed in the middle"
    tracker = MLflowTracker(experiment, tracking_uri=server.uri)
    tracker.search_started(make_search(search_id="outage"), [])
    with caplog.at_level(logging.INFO, logger="keras_nas_plugin"):
        for number in range(6):
            record = make_record(number)
            if number == 2:
                server.kill()
            if number == 5:
                server.start()
            tracker.trial_started(record.trial_id, record.values)
            tracker.flush()
            if number == 1:
                server.kill()  # between a trial's start and its end
            tracker.trial_ended(record)
            tracker.flush()
            waiting = [r.trial_id for r in Outbox(make_search().directory).records()]
            assert waiting == [f"{i:02d}" for i in range(1, number + 1)][: 0 if number == 5 else 9]
        tracker.search_ended("FINISHED")
    messages = [record.getMessage() for record in caplog.records]
    assert sum("does not answer" in message for message in messages) == 1
    assert sum("answers again" in message for message in messages) == 1

    client = store(server.uri).client
    runs = client.search_runs([tracker.experiment_id], "tags.`nas.kind` = 'trial'")
    assert sorted(run.data.tags["nas.trial_id"] for run in runs) == [f"{i:02d}" for i in range(6)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "by_epoch/loss")) == 3
    best = client.get_metric_history(tracker.parent_run_id, "best_objective")
    assert sorted(point.step for point in best) == [1, 2, 3, 4, 5, 6]
    assert client.get_run(tracker.parent_run_id).info.status == "FINISHED"

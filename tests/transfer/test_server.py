"""`earlier_trials` reads from a real `mlflow server`."""

from __future__ import annotations

import shutil

import pytest

from keras_nas_plugin import earlier_trials
from keras_nas_plugin.tracking.mlflow import paging
from tests.servers import mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with mlflow_server(folder).running() as server:
        yield server


def test_trials_and_artifacts_are_read_from_a_server(
    server, track, make_record, monkeypatch, capfd
):
    monkeypatch.setattr(paging, "_PAGE", 2)
    values = {"top-5 (%)": 3, "text": "v" * 7_000}
    records = [make_record(0), make_record(1, values=values), make_record(2, status="FAILED")]
    track(server.uri, records)
    trials = earlier_trials(experiment="digits", tracking_uri=server.uri)
    assert [score for _, score in trials] == [0.5, 0.51, None]
    assert trials[1][0] == values
    assert capfd.readouterr().out == ""

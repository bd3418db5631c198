"""Runs are ended with a name, a status and a time."""

from __future__ import annotations

import pytest

from keras_nas_plugin.tracking.mlflow.run_writer import RunWriter


class Public:
    """A client without private attributes, as a later version of MLflow may have."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._client, name)


@pytest.mark.parametrize("wrapped", [lambda client: client, Public], ids=["complete", "public"])
def test_a_run_ends_with_its_name_and_status(database, track, store, make_search, wrapped):
    track(database, [])
    client = store(database).client
    run = client.create_run(store(database).parent().info.experiment_id, run_name="at first")
    writer = RunWriter(wrapped(client), make_search())
    writer.end(run.info.run_id, "FAILED", run.info.start_time + 5, name="in the end")
    ended = client.get_run(run.info.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FAILED", "in the end")
    assert ended.info.end_time == run.info.start_time + 5
    assert ended.data.tags["mlflow.runName"] == "in the end"


def test_a_run_without_an_end_time_ends_now(database, track, store, make_search):
    track(database, [])
    client = store(database).client
    run = client.create_run(store(database).parent().info.experiment_id)
    RunWriter(client, make_search()).end(run.info.run_id, "KILLED", None, name="now")
    assert client.get_run(run.info.run_id).info.end_time >= run.info.start_time

"""What a search leaves in an MLflow store."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking import MLflowTracker


def artifact(store, run, name):
    import mlflow

    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path=name, tracking_uri=store.client.tracking_uri
    )
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def test_importing_the_room_loads_neither_mlflow_nor_keras():
    code = (
        "import sys; from keras_nas_plugin.tracking import *; MLflowTracker(); "
        "print(sorted({'mlflow', 'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr


def test_a_trial_is_a_finished_run_below_the_search(database, track, store, make_record):
    tracker = track(database, [make_record(3)])
    read = store(database)
    run = read.trial("03")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "t03 0.53"
    assert run.info.end_time == make_record(3).ended_ms
    assert run.data.params == {"depth": "4", "block": "normal"}
    assert run.data.tags["mlflow.parentRunId"] == read.parent().info.run_id
    assert run.data.tags["nas.search_id"] == "search-1"
    assert run.data.tags["nas.device"] == "CPU"
    assert run.data.tags["nas.precision"] == "float32"
    assert run.data.metrics["objective/val_accuracy"] == 0.53
    assert run.data.metrics["best/val_accuracy"] == 0.53
    assert run.data.metrics["cost/parameters"] == 1003.0
    assert run.data.metrics["cost/train_seconds"] == 1.5
    assert read.points(run, "val_accuracy") == [(0, 0.1), (1, 0.53), (2, 0.2)]
    assert read.points(run, "objective/val_accuracy") == [(1, 0.53)]
    assert tracker.run_id("03") == run.info.run_id
    assert tracker.run_id("99") is None


def test_the_parent_says_what_was_searched(database, track, store, make_record):
    tracker = track(database, [make_record(1), make_record(0)], tags={"team": "vision"})
    read = store(database)
    parent = read.parent()
    assert parent.info.run_id == tracker.parent_run_id
    assert parent.info.experiment_id == tracker.experiment_id
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "digits-evolution"
    assert parent.data.params == {
        "objective": "val_accuracy",
        "direction": "max",
        "strategy": "RegularizedEvolutionOracle",
        "max_trials": "12",
        "epochs": "3",
        "seed": "0",
    }
    tags = parent.data.tags
    assert tags["nas.resume_command"] == "keras-nas search recipe.py --resume"
    assert tags["nas.device"] == "CPU"
    assert tags["nas.env.keras"] == "3.15.1" and "nas.env.device" not in tags
    assert tags["team"] == "vision"
    assert tags["nas.best_trial_id"] == "01"
    assert tags["nas.best_run_id"] == tracker.run_id("01")
    assert "| 1 | 01 | 0.51 |" in tags["mlflow.note.content"]
    assert read.points(parent, "best_objective") == [(1, 0.51), (2, 0.51)]
    assert artifact(read, parent, "search_space.json")[0]["name"] == "depth"


@pytest.mark.parametrize("kind", ["search", "trial"])
def test_data_sets_are_inputs_of_every_run(database, track, store, make_record, kind):
    track(database, [make_record(0)])
    read = store(database)
    (run,) = read.runs(kind)
    inputs = read.client.get_run(run.info.run_id).inputs.dataset_inputs
    found = {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs}
    assert found == {("digits", "aaaa1111", "training"), ("digits", "bbbb2222", "validation")}
    profiles = {i.dataset.digest: json.loads(i.dataset.profile) for i in inputs}
    assert profiles["bbbb2222"] == {"rows": 180}
    assert profiles["aaaa1111"]["x"]["shape"] == [1437, 8, 8, 1]
    schemas = {i.dataset.digest: i.dataset.schema for i in inputs}
    assert "mlflow_tensorspec" in schemas["aaaa1111"] and schemas["bbbb2222"] is None


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_trial_that_did_not_finish(database, track, store, make_record, status):
    track(database, [make_record(2, status=status, error="ValueError: " + "x" * 9_000)])
    run = store(database).trial("02")
    assert run.info.status == status
    assert run.info.run_name == f"t02 {status}"
    assert "objective/val_accuracy" not in run.data.metrics
    assert run.data.tags["nas.error"].endswith("[cut: 9,012 characters]")
    assert len(run.data.tags["nas.error"]) == 8_000


def test_executions_have_curves_of_their_own_beside_the_average(
    database, track, store, make_record
):
    curves = (({"loss": 1.0}, {"loss": 0.5}), ({"loss": 3.0},))
    track(database, [make_record(0, curves=curves)])
    read = store(database)
    run = read.trial("00")
    assert read.points(run, "loss") == [(0, 2.0), (1, 0.5)]
    assert read.points(run, "execution_1/loss") == [(0, 1.0), (1, 0.5)]
    assert read.points(run, "execution_2/loss") == [(0, 3.0)]


def test_more_points_than_one_batch_holds(database, track, store, make_record):
    curve = tuple({f"m{i}": float(epoch) for i in range(7)} for epoch in range(150))
    track(database, [make_record(0, curves=(curve,))])
    read = store(database)
    run = read.trial("00")
    assert [len(read.points(run, f"m{i}")) for i in range(7)] == [150] * 7


def test_what_mlflow_would_cut_or_refuse_is_kept_whole_beside_the_run(
    database, track, store, make_record
):
    values = {"lr (log)": 0.1, "lr [log]": 0.2, "../up": 1, "n" * 300: 2, "w": "v" * 7_000}
    curve = ({"top-5 (%)": 50.0, "objective/val_accuracy": 1.0, "cost/parameters": 2.0},)
    track(database, [make_record(0, values=values, curves=(curve,))])
    read = store(database)
    run = read.trial("00")
    assert len(run.data.params) == len(values)
    assert {"0.1", "0.2", "1", "2"} < set(run.data.params.values())
    assert run.data.params["w"].endswith("[cut: 7,000 characters, whole in values.json]")
    assert artifact(read, run, "values.json") == values
    assert run.data.metrics["top-5 ___"] == 50.0
    assert run.data.metrics["objective/val_accuracy"] == 0.5
    assert run.data.metrics["cost/parameters"] == 1000.0
    assert sorted(run.data.metrics.values())[:3] == [0.5, 0.5, 1.0]


def test_infinite_and_missing_numbers_do_not_flatten_the_charts(
    database, track, store, make_record
):
    inf, nan = float("inf"), float("nan")
    track(database, [make_record(0, curves=(({"loss": inf}, {"loss": nan}, {"loss": 1.0}),))])
    read = store(database)
    run = read.trial("00")
    history = read.client.get_metric_history(run.info.run_id, "loss")
    values = {point.step: point.value for point in history}
    assert values[0] != values[0] and values[1] != values[1] and values[2] == 1.0
    assert run.data.tags["nas.non_finite"] == "loss=inf at step 0"


def test_hyperparameters_that_appear_while_a_trial_runs(database, store, make_search, make_record):
    tracker = MLflowTracker("digits", tracking_uri=database)
    tracker.search_started(make_search(), [])
    tracker.trial_started("00", {"depth": 1})
    tracker.flush()
    assert store(database).trial("00").data.params == {"depth": "1"}
    assert store(database).trial("00").info.status == "RUNNING"
    tracker.trial_ended(make_record(0))
    tracker.flush()
    assert store(database).trial("00").data.params == {"depth": "1", "block": "normal"}


def test_the_lowest_score_is_best_when_less_is_better(
    database, track, store, make_search, make_record
):
    records = [make_record(5), make_record(4), make_record(6, status="FAILED"), make_record(9)]
    track(database, records, search=make_search(objective="val_loss", direction="min"))
    read = store(database)
    expected = [(1, 0.55), (2, 0.54), (4, 0.54)]  # the third trial failed
    assert read.points(read.parent(), "best_objective") == expected
    assert read.parent().data.tags["nas.best_trial_id"] == "04"


def test_two_searches_in_one_experiment_do_not_mix(
    database, track, store, make_search, make_record
):
    track(database, [make_record(0)], search=make_search(search_id="it's one"))
    track(database, [make_record(0)], search=make_search(search_id="two"))
    assert len(store(database).runs("search")) == 2
    children = store(database).runs()
    assert {run.data.tags["nas.search_id"] for run in children} == {"it's one", "two"}


def test_mlflow_state_of_the_user_is_left_alone(database, track, make_record, tmp_path):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    try:
        with mlflow.start_run() as own:
            track(database, [make_record(0)])
            assert mlflow.active_run().info.run_id == own.info.run_id
            assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path / 'own.db'}"
        assert mlflow.get_run(own.info.run_id).data.params == {}
        assert mlflow.search_experiments(filter_string="name = 'digits'") == []
    finally:
        mlflow.set_tracking_uri(None)


def test_without_a_uri_mlflow_decides(database, track, store, make_record, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    tracker = track(None, [make_record(0)])
    assert tracker.tracking_uri == database
    assert store(database).trial("00").info.status == "FINISHED"


def test_how_to_look_at_it():
    local = MLflowTracker(tracking_uri="sqlite:///my runs.db")
    assert local.ui_command() == (
        "mlflow ui --backend-store-uri 'sqlite:///my runs.db' --port 5000"
    )
    server = MLflowTracker(tracking_uri="http://ann:secret@host:80/")
    assert server.ui_command() == "http://host:80"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"experiment": " "}, "`experiment`"),
        ({"tags": {"nas.kind": "x"}}, "`tags`"),
        ({"tags": {1: "x"}}, "`tags`"),
    ],
)
def test_arguments_that_make_no_sense_are_named(arguments, named):
    with pytest.raises(TrackingError, match=named):
        MLflowTracker(**arguments)


def test_told_of_trials_without_a_search_it_does_nothing(make_record):
    tracker = MLflowTracker()
    tracker.trial_started("00", {})
    tracker.trial_ended(make_record(0))
    tracker.search_ended("FINISHED")
    assert tracker.run_id("00") is None and tracker.parent_run_id is None

"""What a search logs to an MLflow store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.files import file_lock, write_json
from keras_nas_plugin.project import ProjectLayout, exclusive_search_lock
from keras_nas_plugin.records.overwritten import OverwrittenSearch
from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.mlflow.links import RunPages
from keras_nas_plugin.tracking.mlflow.saved_view_state import searches_view, trials_view
from keras_nas_plugin.tracking.mlflow.saved_views import TAG_PREFIX, read_tag


def artifact(store, run, name):
    import mlflow

    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path=name, tracking_uri=store.client.tracking_uri
    )
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def test_importing_the_package_loads_neither_mlflow_nor_keras():
    code = (
        "import sys; from keras_nas_plugin.tracking import *; MLflowTracker(); "
        "print(sorted({'mlflow', 'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr


def test_a_trial_is_a_finished_child_run_of_the_search(database, track, store, make_record):
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
    assert run.data.metrics["result/val_accuracy"] == 0.53
    assert run.data.metrics["cost/parameters"] == 1003.0
    assert run.data.metrics["cost/train_seconds"] == 1.5
    assert read.points(run, "by_epoch/val_accuracy") == [(0, 0.1), (1, 0.53), (2, 0.2)]
    assert read.points(run, "objective/val_accuracy") == [(1, 0.53)]
    assert tracker.run_id("03") == run.info.run_id
    assert tracker.run_id("99") is None


def test_a_new_database_is_created_beside_the_first_trial(
    store, make_record, make_search, tmp_path
):
    uri = f"sqlite:///{tmp_path / 'folder' / 'new.db'}"
    tracker = MLflowTracker("digits", tracking_uri=uri)
    record = make_record(3)
    (tmp_path / "folder").mkdir()
    with file_lock(tmp_path / "folder" / "new.db.lock"):  # nobody can create the tables
        tracker.search_started(make_search(), [])
        tracker.trial_started(record.trial_id, record.values)
        assert MLflowTracker.settings_of(tmp_path / "project")["tracking_uri"] == uri
        assert RunPages.of(tmp_path / "project") is None
    assert tracker.parent_run_id == store(uri).parent().info.run_id  # waits for them
    assert RunPages.of(tmp_path / "project") is not None
    tracker.trial_ended(record)
    tracker.search_ended("FINISHED")
    assert store(uri).trial("03").info.status == "FINISHED"


def test_a_database_that_cannot_be_created_is_refused_before_the_first_trial(
    make_search, tmp_path
):
    (tmp_path / "file").touch()
    tracker = MLflowTracker("digits", tracking_uri=f"sqlite:///{tmp_path / 'file' / 'new.db'}")
    with pytest.raises(TrackingError, match="`tracking_uri` must be .* that can be written; got"):
        tracker.search_started(make_search(), [])


def test_the_parent_run_describes_the_search(database, track, store, make_record, tmp_path):
    tracker = track(database, [make_record(1), make_record(0)], tags={"team": "vision"})
    read = store(database)
    parent = read.parent()
    assert parent.info.run_id == tracker.parent_run_id
    assert parent.info.experiment_id == tracker.experiment_id
    pages = RunPages.of(tmp_path / "project")
    assert pages == RunPages("http://127.0.0.1:5000", tracker.experiment_id)
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
def test_datasets_are_inputs_of_every_run(database, track, store, make_record, kind):
    track(database, [make_record(0)])
    read = store(database)
    (run,) = read.runs(kind)
    inputs = read.client.get_run(run.info.run_id).inputs.dataset_inputs
    datasets = {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs}
    assert datasets == {("digits", "aaaa1111", "training"), ("digits", "bbbb2222", "validation")}
    profiles = {i.dataset.digest: json.loads(i.dataset.profile) for i in inputs}
    assert profiles["bbbb2222"] == {"rows": 180}
    assert profiles["aaaa1111"]["x"]["shape"] == [1437, 8, 8, 1]
    schemas = {i.dataset.digest: i.dataset.schema for i in inputs}
    assert "mlflow_tensorspec" in schemas["aaaa1111"] and schemas["bbbb2222"] is None


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_trial_that_did_not_finish_shows_its_status_and_error(
    database, track, store, make_record, status
):
    track(database, [make_record(2, status=status, error="ValueError: " + "x" * 9_000)])
    run = store(database).trial("02")
    assert run.info.status == status
    assert run.info.run_name == f"t02 {status}"
    assert "objective/val_accuracy" not in run.data.metrics
    assert run.data.tags["nas.error"].endswith("[cut: 9,012 characters]")
    assert len(run.data.tags["nas.error"]) == 8_000


def test_executions_have_their_own_curves_beside_the_average(database, track, store, make_record):
    curves = (({"loss": 1.0}, {"loss": 0.5}), ({"loss": 3.0},))
    track(database, [make_record(0, curves=curves)])
    read = store(database)
    run = read.trial("00")
    assert read.points(run, "by_epoch/loss") == [(0, 2.0), (1, 0.5)]
    assert read.points(run, "execution_1/loss") == [(0, 1.0), (1, 0.5)]
    assert read.points(run, "execution_2/loss") == [(0, 3.0)]


def test_more_points_than_one_batch_holds_are_all_logged(database, track, store, make_record):
    curve = tuple({f"m{i}": float(epoch) for i in range(7)} for epoch in range(150))
    track(database, [make_record(0, curves=(curve,))])
    read = store(database)
    run = read.trial("00")
    assert [len(read.points(run, f"by_epoch/m{i}")) for i in range(7)] == [150] * 7


def test_values_that_mlflow_would_cut_or_reject_are_stored_in_full_in_an_artifact(
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
    assert run.data.metrics["by_epoch/top-5 ___"] == 50.0
    assert run.data.metrics["objective/val_accuracy"] == 0.5
    assert run.data.metrics["cost/parameters"] == 1000.0
    # A user's metric keeps its name, whatever the plugin's own metrics are called.
    assert run.data.metrics["by_epoch/objective/val_accuracy"] == 1.0


def test_infinite_and_missing_numbers_do_not_flatten_the_charts(
    database, track, store, make_record
):
    inf, nan = float("inf"), float("nan")
    track(database, [make_record(0, curves=(({"loss": inf}, {"loss": nan}, {"loss": 1.0}),))])
    read = store(database)
    run = read.trial("00")
    history = read.client.get_metric_history(run.info.run_id, "by_epoch/loss")
    values = {point.step: point.value for point in history}
    assert values[0] != values[0] and values[1] != values[1] and values[2] == 1.0
    assert run.data.tags["nas.non_finite"] == "by_epoch/loss=inf at step 0"


def test_hyperparameters_that_appear_while_a_trial_runs_are_logged(
    database, store, make_search, make_record
):
    tracker = MLflowTracker("digits", tracking_uri=database)
    tracker.search_started(make_search(), [])
    tracker.trial_started("00", {"depth": 1})
    tracker.flush()
    assert store(database).trial("00").data.params == {"depth": "1"}
    assert store(database).trial("00").info.status == "RUNNING"
    tracker.trial_ended(make_record(0))
    tracker.flush()
    assert store(database).trial("00").data.params == {"depth": "1", "block": "normal"}


def test_the_lowest_score_is_best_when_the_objective_is_minimised(
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


def test_the_users_active_run_and_tracking_uri_are_not_changed(
    database, track, make_record, tmp_path, empty_database
):
    import mlflow

    shutil.copy(empty_database, tmp_path / "own.db")

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'own.db'}")
    try:
        with mlflow.start_run(experiment_id="0") as active_run:
            track(database, [make_record(0)])
            assert mlflow.active_run().info.run_id == active_run.info.run_id
            assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path / 'own.db'}"
        assert mlflow.get_run(active_run.info.run_id).data.params == {}
        assert mlflow.search_experiments(filter_string="name = 'digits'") == []
    finally:
        mlflow.set_tracking_uri(None)


def test_without_a_uri_mlflows_own_setting_applies(
    database, track, store, make_record, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    tracker = track(None, [make_record(0)])
    assert tracker.tracking_uri == database
    assert store(database).trial("00").info.status == "FINISHED"


def test_the_ui_command_names_the_store_without_a_password():
    local = MLflowTracker(tracking_uri="sqlite:///my runs.db")
    assert local.ui_command() == (
        "mlflow ui --backend-store-uri 'sqlite:///my runs.db' --port 5000"
    )
    server = MLflowTracker(tracking_uri="http://ann:secret@host:80/")
    assert server.ui_command() == "http://host:80"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"experiment": " "}, "`experiment`"),
        ({"tags": {"nas.kind": "x"}}, "`tags`"),
        ({"tags": {1: "x"}}, "`tags`"),
    ],
)
def test_invalid_arguments_raise_and_are_named(arguments, message):
    with pytest.raises(TrackingError, match=message):
        MLflowTracker(**arguments)


def test_trials_without_a_search_are_ignored(make_record):
    tracker = MLflowTracker()
    tracker.trial_started("00", {})
    tracker.trial_ended(make_record(0))
    tracker.search_ended("FINISHED")
    assert tracker.run_id("00") is None and tracker.parent_run_id is None


def test_every_run_names_its_search_and_strategy(database, track, store, make_search, make_record):
    for name, strategy in (("wide", "RandomOracle"), ("deep", "SurrogateOracle")):
        search = make_search(search_id=name, name=name, strategy=strategy, directory=name)
        track(database, [make_record(0)], search=search)
    runs = [*store(database).runs(), *store(database).runs("search")]
    origin = [(run.data.tags["nas.search_name"], run.data.tags["nas.strategy"]) for run in runs]
    assert sorted(origin) == 2 * [("deep", "SurrogateOracle")] + 2 * [("wide", "RandomOracle")]


def test_seconds_of_all_trials_are_logged_beside_the_best_score(
    database, track, store, make_record
):
    track(database, [make_record(0), make_record(1, status="FAILED"), make_record(2)])
    read = store(database)
    # Every trial of `make_record` takes six seconds, failed ones too.
    assert read.points(read.parent(), "trial_seconds") == [(1, 6.0), (3, 18.0)]


def test_trials_that_an_earlier_version_logged_get_the_search_on_resume(
    database, track, store, make_record, make_search
):
    records = [make_record(0)]
    track(database, records, status=None)
    client, run = store(database).client, store(database).trial("00")
    client.delete_tag(run.info.run_id, "nas.strategy")
    search = make_search()
    with exclusive_search_lock(search.directory):
        track(database, [], earlier=records, search=search)
    assert store(database).trial("00").data.tags["nas.strategy"] == search.strategy


def test_the_runs_of_an_overwritten_search_are_marked(
    database, track, store, make_search, make_record
):
    first = make_search(search_id="first", directory="project")
    Path("project").mkdir()
    ProjectLayout.of("project").search_id.write_text("first", "utf-8")
    track(database, [make_record(0)], search=first, status=None)  # killed
    replaced = OverwrittenSearch.of("project")
    assert replaced == (OverwrittenSearch("first", "digits"),)
    OverwrittenSearch.save("project", replaced)
    second = make_search(search_id="second", directory="project")
    tracker = track(database, [make_record(0)], search=second)
    runs = [*store(database).runs(), *store(database).runs("search")]
    by = {run.data.tags["nas.search_id"]: run.data.tags.get("nas.overwritten_by") for run in runs}
    assert by == {"first": "second", "second": None}
    statuses = {(run.data.tags["nas.search_id"], run.info.status) for run in runs}
    assert statuses == {("first", "FINISHED"), ("first", "KILLED"), ("second", "FINISHED")}
    assert OverwrittenSearch.load("project") == ()
    # The views leave them out.
    for view in (trials_view(second), searches_view(second)):
        condition = view.state["searchFilter"]
        (run,) = store(database).client.search_runs([tracker.experiment_id], condition)
        assert run.data.tags["nas.search_id"] == "second"


def test_searches_that_were_overwritten_while_the_store_was_down_are_remembered(
    track, make_search, make_record, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("project").mkdir()
    OverwrittenSearch.save("project", (OverwrittenSearch("oldest", None),))
    ProjectLayout.of("project").search_id.write_text("old", "utf-8")
    replaced = OverwrittenSearch.of("project")
    assert [search.search_id for search in replaced] == ["oldest", "old"]
    OverwrittenSearch.save("project", replaced)
    search = make_search(directory="project")
    track("http://127.0.0.1:1", [make_record(0)], search=search)
    assert OverwrittenSearch.load("project") == replaced


def test_axes_are_ordered_by_the_importance_in_the_report(
    database, track, store, make_search, make_record
):
    search = make_search()
    layout = ProjectLayout.of(search.directory)
    layout.folder.mkdir(exist_ok=True)
    write_json(layout.importance, {"decisions": [{"name": "block"}, {"name": "depth"}]})
    tracker = track(database, [make_record(0)], search=search)
    tags = store(database).client.get_experiment(tracker.experiment_id).tags
    states = [read_tag(tags[tag]) for tag in tags if tag.startswith(TAG_PREFIX)]
    (parallel,) = [
        chart
        for state in states
        for chart in state["compareRunCharts"]
        if chart["type"] == "PARALLEL"
    ]
    assert parallel["selectedParams"] == ["block", "depth"]

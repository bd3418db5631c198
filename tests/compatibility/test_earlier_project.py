"""A search that an earlier version stored can be ranked, resumed, retrained and registered."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from keras_nas_plugin import MLflowTracker
from keras_nas_plugin.records.trial import load_records
from tests.data.search_of_0_1_0_dev import write_search as stored

NEW_TRIALS = 2
MODEL = "flowers-classifier"


def restore(root: Path) -> Path:
    """Restore the stored search as if it had run in the folder ``root``."""
    shutil.copytree(stored.FOLDER / "stored_searches", root / "searches")
    shutil.copytree(stored.FOLDER / "stored_mlruns", root / "mlruns")
    for name in ("recipe.py", "expected.json", "mlflow.sql"):
        shutil.copy(stored.FOLDER / name, root)
    for path in root.glob("**/*"):
        if path.is_file() and path.suffix in stored.TEXT:
            text = path.read_text("utf-8")
            path.write_text(text.replace(stored.ROOT, str(root)), "utf-8")
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.executescript((root / "mlflow.sql").read_text("utf-8"))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The stored search; tests only add to it, in the order of this file."""
    folder, before = restore(tmp_path_factory.mktemp("earlier").resolve()), Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["keras-nas"])
        os.chdir(folder)
        yield folder
        os.chdir(before)


@pytest.fixture(scope="module")
def expected(root):
    return json.loads((root / "expected.json").read_text("utf-8"))


def keras_nas(root, command, *options):
    """The JSON that a command prints about the stored search."""
    words = ["--directory", root / "searches", "--project-name", stored.PROJECT, "--json"]
    return json.loads(stored.command_line(command, *options, *words))


def common(data, earlier):
    """The data, with only those keys that an earlier version printed; later ones are additions.

    Notes are prose whose wording may change.
    """
    if isinstance(data, dict) and isinstance(earlier, dict):
        keys = [key for key in earlier if key != "note"]
        return {key: common(data[key], earlier[key]) for key in keys}
    if isinstance(data, list) and isinstance(earlier, list) and len(data) == len(earlier):
        return [common(*items) for items in zip(data, earlier, strict=True)]
    return data


# ------------------------------------------------------------------ before the search is resumed


@pytest.mark.parametrize("command", ["trials", "best", "report"])
def test_commands_print_what_the_earlier_version_printed(root, expected, command):
    earlier = expected[command]
    assert common(keras_nas(root, command), earlier) == common(earlier, earlier)


def test_failed_trials_of_the_stored_search_are_listed(root, expected):
    failed = keras_nas(root, "trials", "--failed")
    assert failed == expected["failed"] and len(failed) == 2


def test_the_report_of_the_stored_search_is_written(root):
    path = root / "report.html"
    options = ["--directory", root / "searches", "--project-name", stored.PROJECT]
    stored.command_line("report", *options, "--out", path)
    assert 'id="report-data"' in path.read_text("utf-8")


def test_the_next_proposals_are_those_of_the_earlier_version(root, expected, tmp_path):
    shutil.copytree(root / "searches", tmp_path / "searches")
    shutil.copy(root / "recipe.py", tmp_path)
    assert stored.next_proposals(tmp_path) == expected["proposals"]


def test_the_best_trials_are_those_of_the_earlier_version(root, expected):
    best = stored.open_tuner(root).oracle.get_best_trials(stored.TRIALS)
    assert [trial.trial_id for trial in best] == expected["best_trials"]


# ------------------------------------------------------------------ resumed


@pytest.fixture(scope="module")
def resumed(root):
    """The tuner after the search was resumed with a higher maximum of trials."""
    uri = f"sqlite:///{root}/mlflow.db"
    tracker = MLflowTracker(stored.EXPERIMENT, tracking_uri=uri)
    tuner = stored.open_tuner(root, stored.TRIALS + NEW_TRIALS, tracker=tracker)
    tuner.search(**stored.search_arguments(root))
    return tuner


def test_the_search_is_resumed_after_its_last_trial(root, expected, resumed):
    records = {record.trial_id: record for record in load_records(resumed.project_dir)}
    assert len(records) == stored.TRIALS + NEW_TRIALS
    first, *_ = sorted(records.keys() - expected["runs"].keys(), key=int)
    assert records[first].values == expected["proposals"][0]
    reported = expected["report"]["trials"]
    for trial_id, score in zip(reported["trial_id"], reported["score"], strict=True):
        assert records[trial_id].score == score


def test_the_mlflow_experiment_is_continued_without_duplicate_runs(root, expected, resumed):
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name(stored.EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + stored.TRIALS + NEW_TRIALS
    by_trial = {run.data.tags.get("nas.trial_id", ""): run for run in runs}
    for trial_id, run_id in expected["runs"].items():
        assert by_trial[trial_id].info.run_id == run_id
    parent = expected["runs"][""]
    parents = {run.data.tags.get("mlflow.parentRunId", parent) for run in runs}
    assert parents == {parent}
    statuses = [run.info.status for run in runs]
    assert sorted(set(statuses)) == ["FAILED", "FINISHED"]
    assert by_trial[""].data.metrics["best_objective"] >= expected["best"]["best"]["score"]


def test_models_of_stored_checkpoints_can_be_loaded(resumed, expected):
    best = resumed.oracle.get_best_trials(1)[0]
    stored_best = expected["best_trials"][0]
    model = resumed.load_model(resumed.oracle.trials[stored_best])
    assert model.count_params() == expected["best"]["best"]["costs"]["parameters"]
    assert best.score >= expected["best"]["best"]["score"]


def test_the_best_trial_is_retrained_and_registered(root, resumed):
    summary = keras_nas(root, "retrain", "--epochs", 1)
    assert summary["measured_on"] == "test" and len(summary["scores"]) == 1
    model = keras_nas(root, "register", MODEL, "--retrained", "--no-input-example")
    assert (model["name"], model["alias"]) == (MODEL, "challenger")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    version = client.get_model_version_by_alias(MODEL, "challenger")
    assert version.tags["nas.trial_id"] == summary["trial_id"]
    assert keras_nas(root, "best")["retrained"]["trial_id"] == summary["trial_id"]

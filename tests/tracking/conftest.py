from __future__ import annotations

import pytest

from keras_nas_plugin.tracking import DatasetInfo, MLflowTracker, SearchInfo, TrialRecord
from tests import stores

START = 1_700_000_000_000


@pytest.fixture
def make_search(tmp_path):
    """Builds a search with all fields that a tracker logs; keyword arguments replace fields."""

    def make(**changes):
        fields = {
            "search_id": "search-1",
            "name": "digits-evolution",
            "objective": "val_accuracy",
            "direction": "max",
            "strategy": "RegularizedEvolutionOracle",
            "max_trials": 12,
            "space": (
                {"name": "depth", "type": "Int", "min_value": 1, "max_value": 4, "step": 1},
                {"name": "block", "type": "Choice", "values": ["normal", "separable"]},
            ),
            "settings": {"epochs": 3, "seed": 0},
            "environment": {"device": "CPU", "precision": "float32", "keras": "3.15.1"},
            "datasets": (
                DatasetInfo(
                    name="digits",
                    context="training",
                    digest="aaaa1111",
                    profile={
                        "x": {"shape": [1437, 8, 8, 1], "dtype": "float32"},
                        "y": {"shape": [1437], "dtype": "int64"},
                    },
                ),
                DatasetInfo(
                    name="digits", context="validation", digest="bbbb2222", profile={"rows": 180}
                ),
            ),
            "directory": str(tmp_path / "project"),
            "resume_command": "keras-nas search recipe.py --resume",
        }
        return SearchInfo(**{**fields, **changes})

    return make


@pytest.fixture
def make_record():
    """Builds the record of trial ``number``; keyword arguments replace fields."""

    def make(number, **changes):
        status = changes.get("status", "FINISHED")
        score = 0.5 + number / 100
        fields = {
            "trial_id": f"{number:02d}",
            "values": {"depth": 1 + number % 4, "block": "normal"},
            "status": status,
            "score": score if status == "FINISHED" else None,
            "metrics": {"val_accuracy": score} if status == "FINISHED" else {},
            "best_step": 1,
            "curves": (
                (
                    {"loss": 1.0, "val_accuracy": 0.1},
                    {"loss": 0.5, "val_accuracy": score},
                    {"loss": 0.4, "val_accuracy": 0.2},
                ),
            ),
            "costs": {"parameters": 1000.0 + number, "train_seconds": 1.5},
            "error": "ValueError: bad layer" if status == "FAILED" else None,
            "started_ms": START + number * 10_000,
            "ended_ms": START + number * 10_000 + 6_000,
        }
        return TrialRecord(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def empty_database():
    """An SQLite file with MLflow's tables, which take seconds to create."""
    return stores.empty_database()


@pytest.fixture
def database(tmp_path, monkeypatch, empty_database):
    """URI of a new SQLite store; artifacts are written beside it."""
    monkeypatch.chdir(tmp_path)
    return stores.new_database(tmp_path)


@pytest.fixture
def track(make_search):
    """Reports the start and end of trials to a new tracker, and returns the tracker."""

    def run(uri, records, *, earlier=(), status="FINISHED", search=None, paced=False, **arguments):
        tracker = MLflowTracker("digits", tracking_uri=uri, **arguments)
        tracker.search_started(search or make_search(), earlier)
        for record in records:
            tracker.trial_started(record.trial_id, record.values)
            if paced:
                tracker.flush()
            tracker.trial_ended(record)
        if status is not None:
            tracker.search_ended(status)
        tracker.flush()
        return tracker

    return run


class Store:
    """Reads a store with MLflow's client."""

    def __init__(self, uri):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)

    def runs(self, kind="trial"):
        experiment = self.client.get_experiment_by_name("digits")
        if experiment is None:
            return []
        runs = self.client.search_runs([experiment.experiment_id], f"tags.`nas.kind` = '{kind}'")
        return sorted(runs, key=lambda run: run.data.tags.get("nas.trial_id", ""))

    def trial(self, trial_id):
        (run,) = [run for run in self.runs() if run.data.tags["nas.trial_id"] == trial_id]
        return run

    def parent(self):
        (run,) = self.runs("search")
        return run

    def points(self, run, metric):
        history = self.client.get_metric_history(run.info.run_id, metric)
        return sorted((point.step, point.value) for point in history)


@pytest.fixture
def store():
    return Store

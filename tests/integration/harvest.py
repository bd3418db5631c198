"""Reads the results of a search from its folder and from MLflow."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from keras_nas_plugin.files import read_json

# Durations differ from run to run.
_TIMES = ("cost/train_seconds", "time/")


def completed(folder: Path) -> list[tuple[int, str]]:
    """Completed trainings: the number of the process, and the values as JSON."""
    log = folder / "completed.log"
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines()
    return [(int(attempt), values) for attempt, _, values in (x.partition("\t") for x in lines)]


def trial_runs(store: str, folder: Path) -> dict[str, Any]:
    """Runs of trials by trial id; checks that each is a finished child of the one search run."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    parents = [run for run in runs if run.data.tags["nas.kind"] == "search"]
    assert [run.info.status for run in parents] == ["FINISHED"]
    best = client.get_metric_history(parents[0].info.run_id, "best_objective")
    assert len({point.step for point in best}) == len(best)
    histories = _histories(store)
    children: dict[str, Any] = {}
    for run in runs:
        if run is parents[0]:
            continue
        trial_id = run.data.tags["nas.trial_id"]
        assert trial_id not in children, f"trial {trial_id} has two runs"
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time
        stored = read_json(next(folder.glob(f"searches/*/trial_{trial_id}/run.json")))
        assert stored == {"run_id": run.info.run_id}
        history = histories.get(run.info.run_id, {})
        for name, points in history.items():
            steps = [step for step, _ in points]
            assert len(set(steps)) == len(steps), f"{name} of trial {trial_id} was logged twice"
        children[trial_id] = {"params": run.data.params, "metrics": history}
    return children


def _histories(store: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Steps and values of all metrics of all runs, by run id and metric.

    MLflow has a request for one metric of one run only, which takes ten milliseconds.
    """
    query = "SELECT run_uuid, key, step, value FROM metrics ORDER BY step, timestamp"
    histories: dict[str, dict[str, list[tuple[int, float]]]] = {}
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as database:
        for run_id, name, step, value in database.execute(query):
            if not name.startswith(_TIMES):
                histories.setdefault(run_id, {}).setdefault(name, []).append((step, value))
    return histories

"""What a search left in its folder and in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_nas_plugin.files import read_json

# How long something took, and when, differs from run to run.
_TIMES = ("cost/train_seconds",)


def completed(folder: Path) -> list[tuple[int, str]]:
    """Trainings that came to their end: number of the process and values, as JSON."""
    log = folder / "completed.log"
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines()
    return [(int(attempt), values) for attempt, _, values in (x.partition("\t") for x in lines)]


def trial_runs(store: str, folder: Path) -> dict[str, Any]:
    """Trials' runs by trial id; checks that each is one ended child of one ended parent."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    parents = [run for run in runs if run.data.tags["nas.kind"] == "search"]
    assert [run.info.status for run in parents] == ["FINISHED"]
    best = client.get_metric_history(parents[0].info.run_id, "best_objective")
    assert len({point.step for point in best}) == len(best)
    children: dict[str, Any] = {}
    for run in runs:
        if run is parents[0]:
            continue
        trial_id = run.data.tags["nas.trial_id"]
        assert trial_id not in children, f"trial {trial_id} has two runs"
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time
        noted = read_json(next(folder.glob(f"searches/*/trial_{trial_id}/run.json")))
        assert noted == {"run_id": run.info.run_id}
        history = {
            name: [(point.step, point.value) for point in points]
            for name in run.data.metrics
            if name not in _TIMES
            for points in [client.get_metric_history(run.info.run_id, name)]
        }
        for name, points in history.items():
            steps = [step for step, _ in points]
            assert len(set(steps)) == len(steps), f"{name} of trial {trial_id} is there twice"
        children[trial_id] = {"params": run.data.params, "metrics": history}
    return children

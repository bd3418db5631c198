"""A stock tuner that is killed and started again has one run for each trial."""

from __future__ import annotations

import json
import signal

import mlflow
import pytest

from tests.integration import forkserver
from tests.training.killable_stock import TUNERS

TARGET = "tests.training.killable_stock:search"

# In the first trial, before KerasTuner has written anything that it could go on from; in the
# middle; between the end of a trial in MLflow and its end in KerasTuner.
KILLS = [{"epoch": 1}, {"epoch": 5}, {"ended": 1}, {"ended": 2}]


@pytest.mark.parametrize("kind", TUNERS)
def test_one_run_for_each_trial(kind, tmp_path):
    server = forkserver.fork_server()
    store = forkserver.new_store(tmp_path)
    for kill in KILLS:
        killed = server.run(TARGET, cwd=tmp_path, kind=kind, store=store, **kill)
        assert killed.returncode == -signal.SIGKILL, killed.err
    done = server.run(TARGET, cwd=tmp_path, kind=kind, store=store)
    assert done.returncode == 0, done.err
    trials = json.loads((tmp_path / "trials.json").read_text())

    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("killed").experiment_id
    runs = client.search_runs([experiment], "tags.`nas.kind` = 'trial'")
    ids = [run.data.tags["nas.trial_id"] for run in runs]
    assert sorted(ids) == sorted(trials)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        score, _ = trials[run.data.tags["nas.trial_id"]]
        assert run.data.metrics["objective/val_loss"] == pytest.approx(score)
    (parent,) = client.search_runs([experiment], "tags.`nas.kind` = 'search'")
    assert parent.info.status == "FINISHED"
    # Of the longest trained: KerasTuner's rounds begin at 0 again in each bracket.
    longest = max(epochs for _, epochs in trials.values())
    best = min(score for score, epochs in trials.values() if epochs == longest)
    assert parent.data.metrics["best_objective"] == pytest.approx(best)

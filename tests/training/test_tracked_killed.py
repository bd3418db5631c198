"""A stock tuner that is killed and restarted logs one run per trial."""

from __future__ import annotations

import json
import signal

import mlflow
import pytest

from tests.integration import forkserver
from tests.training.killable_stock import TUNERS

TARGET = "tests.training.killable_stock:search"

# In the first trial, before KerasTuner has written anything that it could resume from; in the
# middle; between the end of a trial in MLflow and its end in KerasTuner.
KILLS = [{"epoch": 1}, {"epoch": 5}, {"ended": 1}, {"ended": 2}]


@pytest.mark.parametrize("kind", TUNERS)
def test_a_killed_and_restarted_tuner_logs_one_run_per_trial(kind, tmp_path):
    server = forkserver.fork_server()
    store = forkserver.new_store(tmp_path)
    for kill in KILLS:
        killed = server.run(TARGET, cwd=tmp_path, kind=kind, store=store, **kill)
        assert killed.returncode == -signal.SIGKILL, killed.err
    process = server.run(TARGET, cwd=tmp_path, kind=kind, store=store)
    assert process.returncode == 0, process.err
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
    # Among the trials with most epochs: KerasTuner numbers rounds from 0 in each bracket.
    longest = max(epochs for _, epochs in trials.values())
    best = min(score for score, epochs in trials.values() if epochs == longest)
    assert parent.data.metrics["best_objective"] == pytest.approx(best)

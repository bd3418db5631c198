"""The contract suite of executors, and every oracle with two workers."""

from __future__ import annotations

import importlib
import json

import keras_tuner
import pytest

from keras_nas_plugin import LocalExecutor, NASTuner
from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.records.trial import FINISHED, load_records
from keras_nas_plugin.testing import ExecutorContract
from keras_nas_plugin.testing.driving import hashed_score
from keras_nas_plugin.testing.spaces import wide_space


class TestThisProcess(ExecutorContract):
    executor = None


@pytest.mark.usefixtures("forked_workers")
class TestLocalExecutor(ExecutorContract):
    executor = LocalExecutor(workers=2)


class Hashing(NASTuner):
    """A tuner whose trials train nothing."""

    def run_trial(self, trial, *args, **kwargs):
        return {"loss": hashed_score(trial.hyperparameters.values)}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("name", STRATEGIES.values())
def test_every_oracle_searches_with_two_workers(tmp_path, name):
    module, make = "keras_nas_plugin.oracles", name
    if name == "GradientProxyOracle":  # which scores models
        module, make = "keras_nas_plugin.testing.proxied", "make"
    oracle = getattr(importlib.import_module(module), make)(
        objective=keras_tuner.Objective("loss", "min"),
        max_trials=8,
        seed=0,
        hyperparameters=wide_space(),
    )
    tuner = Hashing(oracle=oracle, directory=tmp_path, executor=LocalExecutor(workers=2))
    tuner.search(epochs=4, verbose=0)
    records = list(load_records(tuner.project_dir))
    assert len(records) >= 8 and {record.status for record in records} == {FINISHED}
    assert {record.placement.worker for record in records} == {"worker-0", "worker-1"}
    assert len({json.dumps(record.values, sort_keys=True) for record in records}) == len(records)
    for record in records:
        trial = oracle.trials[record.trial_id]
        assert record.score == trial.score == hashed_score(record.values)
    best = min(record.score for record in records if record.length in (0, 4))
    assert oracle.get_best_trials(1)[0].score == best

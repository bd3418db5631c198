"""The contract suite of executors, and every oracle with two workers."""

from __future__ import annotations

import dataclasses
import functools
import json

import keras_tuner
import pytest

from keras_nas_plugin import LocalExecutor, NASTuner
from keras_nas_plugin.executors.in_process import InProcessExecutor
from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.records.trial import FAILED, FINISHED, load_records
from keras_nas_plugin.testing import ExecutorContract, check_executor
from keras_nas_plugin.testing.driving import hashed_score
from keras_nas_plugin.testing.spaces import wide_space
from keras_nas_plugin.testing.stand_ins import maker_of


class TestThisProcess(ExecutorContract):
    executor = None


@pytest.mark.usefixtures("forked_workers")
class TestLocalExecutor(ExecutorContract):
    executor = LocalExecutor(workers=2)


class Broken(InProcessExecutor):
    """An executor of one slot with one fault; it is its own settings."""

    started = 0

    def __init__(self, fault):
        self.fault = fault

    def start(self, trainer, fit, context):
        Broken.started += 1
        slot = f"slot-{Broken.started if self.fault == 'renames slots' else 0}"
        super().__init__(functools.partial(trainer.train, fit=fit), slot)
        return self

    def collect(self):
        outcomes = super().collect()
        for outcome in outcomes:
            record = outcome.record
            if self.fault == "changes results" and record.score is not None:
                record = dataclasses.replace(record, score=0.5, metrics={"loss": 0.5})
            if self.fault == "hides failures" and record.status == FAILED:
                record = dataclasses.replace(record, status=FINISHED, score=0.5)
                record = dataclasses.replace(record, metrics={"loss": 0.5}, error=None)
            error = None if self.fault == "ignores Ctrl-C" else outcome.error
            yield dataclasses.replace(outcome, record=record, error=error)


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("changes results", "trials_run_once"),
        ("hides failures", "failures_are_results"),
        ("renames slots", "slots_keep_their_names"),
        ("ignores Ctrl-C", "interrupts_kill_trials"),
    ],
)
def test_the_suite_finds_what_is_wrong_with_an_executor(fault, broken):
    with pytest.raises(AssertionError, match="must|were|did not"):
        check_executor(Broken(fault), broken)


class Hashing(NASTuner):
    """A tuner whose trials train nothing."""

    def run_trial(self, trial, *args, **kwargs):
        return {"loss": hashed_score(trial.hyperparameters.values)}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_oracle_searches_with_two_workers(tmp_path, name):
    oracle = maker_of(name)(
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

"""Trials in worker processes, which are forked so that they start in milliseconds."""

from __future__ import annotations

import os
import signal
import time

import keras
import keras_tuner
import pytest
import tensorflow as tf
from keras_tuner.oracles import BayesianOptimizationOracle
from mlflow import MlflowClient

from keras_nas_plugin import (
    Constraint,
    DataFunction,
    LocalExecutor,
    MedianStoppingCallback,
    MLflowTracker,
    NASTuner,
    RandomOracle,
    SuccessiveHalvingOracle,
)
from keras_nas_plugin.errors import ArgumentError, WorkerError
from keras_nas_plugin.executors import memory
from keras_nas_plugin.executors.memory import used_bytes
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, load_records
from keras_nas_plugin.tracking import SearchInfo
from tests import stores
from tests.executors.searches import FIT, Events, X, Y, build, results, tuner_of
from tests.integration import forkserver

pytestmark = pytest.mark.usefixtures("forked_workers")


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


FAULTS = ["none", "exit", "kill", "hang", "freeze", "error", "fatal", "endless"]
FAULTS += ["hungry", "hungry once", "killed by the system"]


class Faulty(keras_tuner.HyperModel):
    """Fails in another way for each value of ``fault``."""

    def __init__(self, folder=None):
        self.folder = folder
        super().__init__()

    def build(self, hp):
        hp.Choice("fault", FAULTS)
        return build(hp)

    def fit(self, hp, model, *args, epochs=1, **kwargs):
        fault = hp.get("fault")
        if fault == "exit":
            os._exit(7)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(600)
        if fault == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault == "error":
            raise UnpicklableError("this model is wrong")
        if fault.startswith("hungry") and not (fault == "hungry once" and self.tried()):
            block = bytearray(b"1") * HUNGRY_BYTES
            time.sleep(600)
            del block
        if fault == "killed by the system" and not self.tried():
            (self.folder / "counter").write_text("low 0\noom_kill 1\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "fatal":
            time.sleep(1)
            raise keras_tuner.errors.FatalValueError("every model is wrong")
        return model.fit(*args, epochs=10**9 if fault == "endless" else epochs, **kwargs)

    def tried(self):
        """Whether a trial was tried before."""
        tried = (self.folder / "tried").exists()
        (self.folder / "tried").touch()
        return tried


def faulty_search(folder, faults, executor, **options):
    """A tuner whose trials have these faults, one after the other, and its events."""
    initial = [{"fault": fault, "units": 2 + i} for i, fault in enumerate(faults)]
    oracle = RandomOracle(
        "val_loss",
        max_trials=len(faults),
        seed=0,
        initial=initial,
        max_consecutive_failed_trials=0,
    )
    events = Events()
    options |= {"oracle": oracle, "executor": executor, "listeners": [events]}
    return tuner_of(folder, Faulty(folder), **options), events


def records_by_units(tuner):
    records = list(load_records(tuner.project_dir))
    by_units = {record.values["units"]: record for record in records}
    assert len(by_units) == len(records)  # no duplicates
    return [by_units[units] for units in sorted(by_units)]


def test_faults_end_one_trial_and_not_the_search(tmp_path):
    faults = ["exit", "error", "kill", "none", "none"]
    tuner, events = faulty_search(tmp_path, faults, LocalExecutor(workers=2))
    tuner.search(X, Y, **FIT)
    records = records_by_units(tuner)
    assert [record.status for record in records] == [FAILED] * 3 + [FINISHED] * 2
    assert "ended with exit code 7" in records[0].error
    assert "this model is wrong" in records[1].error
    assert "was ended by SIGKILL" in records[2].error
    starts = [trial for trial, _ in events.started]
    assert [starts.count(record.trial_id) for record in records] == [2, 1, 2, 1, 1]


def test_a_trial_that_hangs_or_freezes_is_given_up_after_its_time(tmp_path):
    executor = LocalExecutor(workers=2, trial_timeout=5)
    tuner, events = faulty_search(tmp_path, ["hang", "freeze"], executor)
    tuner.search(X, Y, **FIT)
    records = records_by_units(tuner)
    assert [record.status for record in records] == [FAILED] * 2
    assert all("`trial_timeout`, 5 s" in record.error for record in records)
    assert len(events.started) == 2  # a trial that took too long is not tried again
    for record in records:
        with pytest.raises(ProcessLookupError):  # it cannot come back with a result
            os.kill(record.placement.pid, 0)


HUNGRY_BYTES = 600_000_000


def test_a_trial_that_exceeds_its_memory_runs_again_alone(tmp_path):
    # A forked worker has the modules of its parent, whose memory counts as its own.
    limit = used_bytes(forkserver.fork_server().pid) + 400_000_000
    executor = LocalExecutor(workers=2, memory_per_worker=limit)
    tuner, events = faulty_search(tmp_path, ["hungry", "hungry once", "none", "none"], executor)
    tuner.search(X, Y, **FIT)
    records = records_by_units(tuner)
    assert [record.status for record in records] == [FAILED] + [FINISHED] * 3
    assert "out of memory: its worker used" in records[0].error
    assert "`memory_per_worker`" in records[0].error
    starts = [trial for trial, _ in events.started]
    assert [starts.count(record.trial_id) for record in records] == [2, 2, 1, 1]
    times = sorted((record.started_ms, record.ended_ms) for record in records)
    for record in records[:2]:  # nothing else ran during its last attempt
        others = [time for time in times if time != (record.started_ms, record.ended_ms)]
        assert all(end <= record.started_ms or start >= record.ended_ms for start, end in others)


def test_a_trial_that_the_system_ends_for_memory_runs_again_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(memory, "_COUNTERS", (tmp_path / "counter",))  # of the kernel
    executor = LocalExecutor(workers=1)
    tuner, events = faulty_search(tmp_path, ["killed by the system"], executor)
    tuner.search(X, Y, **FIT)
    assert [record.status for record in records_by_units(tuner)] == [FINISHED]
    assert len(events.started) == 2
    message = "Trial 0 ran out of memory: its worker was ended by SIGKILL, by the system"
    assert message in caplog.text


def test_a_fatal_error_closes_the_runs_of_the_other_trials(tmp_path):
    uri = stores.new_database(tmp_path)
    tracker = MLflowTracker("workers", tracking_uri=uri)
    tuner, _ = faulty_search(
        tmp_path, ["endless", "fatal"], LocalExecutor(workers=2), tracker=tracker
    )
    with pytest.raises(keras_tuner.errors.FatalValueError, match="every model is wrong"):
        tuner.search(X, Y, **FIT)
    runs = MlflowClient(uri).search_runs([tracker.experiment_id])
    statuses = {run.data.tags.get("nas.trial_id"): run.info.status for run in runs}
    assert statuses == {None: "FAILED", "0": "KILLED", "1": "FAILED"}


def test_the_budget_ends_trials_in_workers_which_run_again(tmp_path):
    executor = LocalExecutor(workers=2)
    tuner, events = faulty_search(tmp_path, ["endless", "endless"], executor, budget=3)
    tuner.search(X, Y, **FIT)
    assert tuner.stopped_by == "budget"
    assert {record.status for record in events.ended} <= {KILLED}
    assert not list(load_records(tuner.project_dir))


def test_workers_need_no_store_that_answers(tmp_path):
    tracker = MLflowTracker("workers", tracking_uri="http://127.0.0.1:9")  # the port `discard`
    tuner = tuner_of(tmp_path, executor=LocalExecutor(workers=2), tracker=tracker, trials=2)
    tuner.search(X, Y, **FIT)
    assert len(results(tuner.project_dir)) == 2
    waiting = (tmp_path / tuner.project_name / "outbox").glob("*.json")
    assert sorted(path.stem for path in waiting) == ["0", "1"]


def test_scores_do_not_depend_on_the_number_of_workers(tmp_path):
    searches = []
    for workers in (1, 2):
        executor = LocalExecutor(workers)
        tuner = tuner_of(tmp_path / str(workers), executor=executor, deterministic=True, trials=2)
        tuner.search(X, Y, **FIT)
        searches.append(results(tuner.project_dir))
    assert len(searches[0]) == 2 and searches[0] == searches[1]


def test_a_search_without_seed_follows_one_with_deterministic_workers(tmp_path):
    executor = LocalExecutor(workers=1)
    options = {"executor": executor, "deterministic": True, "trials": 1}
    tuner_of(tmp_path / "first", **options).search(X, Y, **FIT)
    second = tuner_of(tmp_path / "second", trials=1)
    second.search(X, Y, **FIT)
    assert [record.status for record in load_records(second.project_dir)] == [FINISHED]


def test_what_cannot_be_pickled_is_refused_before_the_first_trial(tmp_path):
    lock = (value for value in [1])

    def build_with_generator(hp):
        assert lock is not None
        return build(hp)

    tuner = tuner_of(tmp_path, build_with_generator, executor=LocalExecutor(workers=2))
    with pytest.raises(WorkerError, match="`hypermodel` must be something that can be pickled"):
        tuner.search(X, Y, **FIT)
    assert not list(load_records(tuner.project_dir))


def dataset():
    return tf.data.Dataset.from_tensor_slices((X[:100], Y[:100])).batch(50)


def test_a_dataset_is_refused_with_advice(tmp_path):
    data = dataset()
    tuner = tuner_of(tmp_path, executor=LocalExecutor(workers=1))
    with pytest.raises(WorkerError, match="`x` must be .* Pass arrays, or a `DataFunction`"):
        tuner.search(data, epochs=1, verbose=0, validation_data=data)


@pytest.mark.parametrize("executor", [None, LocalExecutor(workers=2)], ids=["alone", "workers"])
def test_each_process_makes_the_data_of_a_function(tmp_path, executor):
    tuner = tuner_of(tmp_path, executor=executor, trials=2)
    tuner.search(
        DataFunction(dataset),
        epochs=1,
        verbose=0,
        validation_data=DataFunction(dataset),
    )
    assert len(results(tuner.project_dir)) == 2
    described = SearchInfo.load(tuner.project_dir).datasets
    assert [each.context for each in described] == ["training", "validation"]
    assert described[0].digest == described[1].digest


def test_data_that_a_worker_cannot_make_end_the_search_before_the_first_trial(tmp_path):
    driver = os.getpid()

    def here():
        if os.getpid() != driver:
            raise FileNotFoundError("no such file here")
        return dataset()

    tuner = tuner_of(tmp_path, executor=LocalExecutor(workers=1))
    with pytest.raises(WorkerError, match="worker-0 could not: FileNotFoundError: no such file"):
        tuner.search(DataFunction(here), epochs=1, verbose=0, validation_data=(X, Y))
    assert not list(load_records(tuner.project_dir))
    with pytest.raises(ArgumentError, match="`function` must be callable; got a list"):
        DataFunction([1])


def fail_to_load():
    raise ImportError("no module named `left_behind`")


class NotForWorkers(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)

    def __reduce__(self):
        return fail_to_load, ()


def test_a_hypermodel_that_workers_cannot_load_ends_the_search_at_once(tmp_path):
    tuner = tuner_of(tmp_path, NotForWorkers(), executor=LocalExecutor(workers=1))
    with pytest.raises(WorkerError, match="worker-0 could not: .*left_behind"):
        tuner.search(X, Y, **FIT)
    assert not list(load_records(tuner.project_dir))


class Reporting(NASTuner):
    """Reports to the oracle itself, as tuners of early versions of KerasTuner did."""

    def run_trial(self, trial, *args, **kwargs):
        super().run_trial(trial, *args, **kwargs)
        known = self.oracle.get_space()
        value = float(trial.hyperparameters.get("units") + len(known.space))
        self.oracle.update_trial(trial.trial_id, {"val_loss": value})


def test_a_trial_may_call_the_oracle(tmp_path):
    oracle = RandomOracle("val_loss", max_trials=2, seed=0)
    executor = LocalExecutor(workers=1)
    tuner = Reporting(build, oracle=oracle, directory=tmp_path, executor=executor)
    tuner.search(X, Y, **FIT)
    trials = results(tuner.project_dir)
    assert len(trials) == 2
    assert all(score == units + 1 for units, score in trials.values())


def test_promoted_trials_continue_in_any_worker_within_the_constraints(tmp_path):
    oracle = SuccessiveHalvingOracle(
        "val_loss", max_trials=3, seed=0, factor=2, constraints=[Constraint("parameters", max=60)]
    )
    tuner = tuner_of(tmp_path, oracle=oracle, executor=LocalExecutor(workers=2))
    tuner.search(X, Y, **FIT | {"epochs": 4})
    records = list(load_records(tuner.project_dir))
    assert {record.status for record in records} == {FINISHED}
    assert all(record.costs["parameters"] <= 60 for record in records)
    assert any(record.first_epoch > 0 for record in records)


class InBfloat16(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        return model.fit(*args, **kwargs)


def test_executions_precision_and_median_stopping_are_those_of_the_tuner(tmp_path):
    executor = LocalExecutor(workers=1)
    options = {"executions_per_trial": 2, "precision": "mixed_bfloat16", "trials": 2}
    tuner = tuner_of(tmp_path, InBfloat16(), executor=executor, **options)
    stopping = MedianStoppingCallback("val_loss", min_trials=1, warm_up_epochs=0)
    tuner.search(X, Y, **FIT, callbacks=[stopping])
    records = list(load_records(tuner.project_dir))
    assert [record.status for record in records] == [FINISHED] * 2
    assert [len(record.curves) for record in records] == [2, 2]


@pytest.mark.parametrize("kind", [RandomOracle, BayesianOptimizationOracle])
def test_trials_of_a_slot_that_no_longer_exists_run_again(tmp_path, kind):
    before = tuner_of(tmp_path, oracle=kind("val_loss", max_trials=2, seed=0))
    started = [before.oracle.create_trial(f"worker-{i}").trial_id for i in range(2)]
    before.oracle.save()
    after = tuner_of(tmp_path, oracle=kind("val_loss", max_trials=2, seed=0))
    resumed = []
    for _ in started:
        trial = after.oracle.create_trial("worker-0")
        resumed.append(trial.trial_id)
        after.oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
        trial.status = "COMPLETED"
        after.oracle.end_trial(trial)
    assert sorted(resumed) == sorted(started)

"""Trials in worker processes, which are real: faults, retries, resuming, equal results."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.oracles import BayesianOptimizationOracle

from keras_nas_plugin import (
    Constraint,
    LocalExecutor,
    MedianStoppingCallback,
    NASTuner,
    RandomOracle,
    SuccessiveHalvingOracle,
    Tracker,
)
from keras_nas_plugin.errors import ArgumentError, WorkerError
from keras_nas_plugin.records.trial import FAILED, FINISHED, load_records

X = np.random.default_rng(0).normal(size=(6000, 4)).astype("float32")  # large enough for a file
Y = (X.sum(axis=1) > 0).astype("int64")
FIT = {"epochs": 2, "batch_size": 3000, "verbose": 0, "validation_data": (X[:100], Y[:100])}


def build(hp):
    units = hp.Int("units", 2, 9)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Faulty(keras_tuner.HyperModel):
    """Fails in another way for each value of ``fault``."""

    def build(self, hp):
        hp.Choice("fault", ["none", "exit", "kill", "hang", "error"])
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        fault = hp.get("fault")
        if fault == "exit":
            os._exit(7)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(600)
        if fault == "error":
            raise UnpicklableError("this model is wrong")
        return model.fit(*args, **kwargs)


class Epochs(Tracker):
    def __init__(self):
        self.epochs, self.started = [], []

    def trial_started(self, trial_id, values):
        self.started.append((trial_id, os.getpid()))

    def epoch_ended(self, trial_id, epoch, logs):
        self.epochs.append((trial_id, epoch, os.getpid()))


def tuner_of(folder, hypermodel=build, *, oracle=None, executor=None, trials=3, **options):
    oracle = oracle or RandomOracle("val_loss", max_trials=trials, seed=0)
    return NASTuner(
        hypermodel,
        oracle=oracle,
        directory=folder,
        executor=executor,
        **options,
    )


def results(folder):
    records = load_records(folder)
    return {r.trial_id: (r.values["units"], r.score) for r in records if r.status == FINISHED}


def test_one_worker_makes_the_same_proposals_with_the_same_scores(tmp_path):
    tracker = Epochs()
    alone = tuner_of(tmp_path / "alone", deterministic=True)
    alone.search(X, Y, **FIT)
    options = {"executor": LocalExecutor(workers=1), "listeners": [tracker]}
    worker = tuner_of(tmp_path / "worker", deterministic=True, **options)
    worker.search(X, Y, **FIT)
    assert len(results(alone.project_dir)) == 3
    assert results(worker.project_dir) == results(alone.project_dir)
    trials = sorted(results(worker.project_dir))
    assert tracker.epochs == [(trial, epoch, os.getpid()) for trial in trials for epoch in (0, 1)]
    assert tracker.started == [(trial, os.getpid()) for trial in trials]
    for tuner, name in ((alone, alone.tuner_id), (worker, "worker-0")):
        placements = [record.placement for record in load_records(tuner.project_dir)]
        assert {each.worker for each in placements} == {name}
        assert {each.node for each in placements} == {platform.node()}
        assert {each.pid == os.getpid() for each in placements} == {tuner is alone}
        assert all(each.device.startswith(("CPU", "GPU", "NVIDIA")) for each in placements)
    best = worker.get_best_models(1)[0]
    assert best.predict(X[:2], verbose=0).shape == (2, 2)


def test_faults_end_one_trial_and_not_the_search(tmp_path):
    faults = ["exit", "hang", "error", "kill", "none", "none"]
    initial = [{"fault": fault, "units": 2 + i} for i, fault in enumerate(faults)]
    oracle = RandomOracle(
        "val_loss", max_trials=6, seed=0, initial=initial, max_consecutive_failed_trials=0
    )
    executor = LocalExecutor(workers=2, trial_timeout=15)
    tracker = Epochs()
    tuner = tuner_of(tmp_path, Faulty(), oracle=oracle, executor=executor, listeners=[tracker])
    tuner.search(X, Y, **FIT)
    records = {record.values["units"]: record for record in load_records(tuner.project_dir)}
    assert len(records) == 6  # no duplicates
    assert [records[units].status for units in range(2, 8)] == [FAILED] * 4 + [FINISHED] * 2
    assert "ended with exit code 7" in records[2].error
    assert "`trial_timeout`, 15 s" in records[3].error
    assert "this model is wrong" in records[4].error
    assert "was ended by SIGKILL" in records[5].error
    starts = [trial for trial, _ in tracker.started]
    ids = [records[units].trial_id for units in range(2, 8)]
    assert [starts.count(trial) for trial in ids] == [2, 1, 1, 2, 1, 1]


def test_what_cannot_be_pickled_is_refused_before_the_first_trial(tmp_path):
    lock = (value for value in [1])

    def build_with_generator(hp):
        assert lock is not None
        return build(hp)

    tuner = tuner_of(tmp_path, build_with_generator, executor=LocalExecutor(workers=2))
    with pytest.raises(WorkerError, match="`hypermodel` must be something that can be pickled"):
        tuner.search(X, Y, **FIT)
    assert not list(load_records(tuner.project_dir))


def test_a_dataset_is_refused_with_advice(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X[:100], Y[:100])).batch(50)
    tuner = tuner_of(tmp_path, executor=LocalExecutor(workers=1))
    with pytest.raises(WorkerError, match="`x` must be .* Pass arrays, or create the data in"):
        tuner.search(data, epochs=1, verbose=0, validation_data=data)


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


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"threads_per_worker": 0}, {"trial_timeout": 0}, {"workers": True}]
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ArgumentError, match=f"`{next(iter(options))}` must be"):
        LocalExecutor(**options)


PROGRAM = """
import os, pathlib, signal, sys, time
# Background jobs of a shell inherit that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import keras, keras_tuner
import numpy as np
from keras_nas_plugin import LocalExecutor, NASTuner, RandomOracle

folder, seconds, workers = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])

class Slow(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9))])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, *args, **kwargs):
        pathlib.Path(folder, f"pid-{os.getpid()}").touch()
        time.sleep(seconds)
        return {"val_loss": hp.get("units")}

x = np.zeros((8, 4), "float32")
tuner = NASTuner(
    Slow(),
    oracle=RandomOracle("val_loss", max_trials=4, seed=0),
    directory=folder,
    project_name="search",
    executor=LocalExecutor(workers=workers),
)
tuner.search(x, x, verbose=0)
"""


def start(folder, seconds, workers):
    script = folder / "program.py"
    script.write_text(PROGRAM)
    arguments = [str(folder), str(seconds), str(workers)]
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen([sys.executable, str(script), *arguments], env=environment)


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within two minutes")


def runs(pid):
    """Whether a process runs; a zombie, which nobody has waited for, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder):
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_and_no_trial_is_lost(tmp_path, sent):
    driver = start(tmp_path, 600, 2)
    try:
        wait_for(lambda: len(pids(tmp_path)) == 2)
        driver.send_signal(sent)
        assert driver.wait(60) != 0
        wait_for(lambda: not any(runs(pid) for pid in pids(tmp_path)))
        assert not list((tmp_path / "temporary").glob("keras-nas-*"))
    finally:
        driver.kill()
    project = tmp_path / "search"
    assert not list(load_records(project))
    if sent == signal.SIGKILL:  # resumed with fewer workers; a script without a guard
        assert start(tmp_path, 0, 1).wait(120) == 0
        records = list(load_records(project))
        assert [record.status for record in records] == [FINISHED] * 4
        assert len({record.values["units"] for record in records}) == 4


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

"""Workers as users start them: equal results, and processes that end with their driver."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from keras_nas_plugin import LocalExecutor
from keras_nas_plugin.records.trial import FINISHED, load_records
from tests.executors.searches import FIT, Events, X, Y, build, results, tuner_of
from tests.integration import forkserver

NOTE = (
    "I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on. You may see different numbers"
)


def build_aloud(hp):
    print(NOTE, "a model is built", sep="\n")
    return build(hp)


def test_one_worker_makes_the_same_proposals_with_the_same_scores(tmp_path, capsys):
    tracker = Events()
    alone = tuner_of(tmp_path / "alone", deterministic=True)
    alone.search(X, Y, **FIT)
    options = {"executor": LocalExecutor(workers=1), "listeners": [tracker]}
    worker = tuner_of(tmp_path / "worker", build_aloud, deterministic=True, **options)
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
    shown = capsys.readouterr().err
    assert shown.count("worker-0: a model is built\n") == 3
    assert "oneDNN" not in shown and "absl" not in shown
    best = worker.get_best_models(1)[0]
    assert best.predict(X[:2], verbose=0).shape == (2, 2)


def test_a_worker_listens_to_its_driver_before_it_imports_tensorflow():
    program = "import keras_nas_plugin.executors.worker_start, sys; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "keras_nas_plugin.executors.driver_link" in modules
    assert not {"tensorflow", "keras", "keras_tuner", "numpy"} & set(modules)


PROGRAM = """
import os, pathlib, sys, time
import keras, keras_tuner
import numpy as np
from keras_nas_plugin import LocalExecutor, MLflowTracker, NASTuner, RandomOracle, Tracker

folder, workers = pathlib.Path(sys.argv[1]), int(sys.argv[2])

class Slow(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9))])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, *args, **kwargs):
        if (folder / "slow").exists() and list(folder.glob("search/*/record.json")):
            (folder / f"pid-{os.getpid()}").touch()
            time.sleep(600)
        return {"val_loss": hp.get("units")}

class Last(Tracker):
    def search_ended(self, status):
        if (folder / "slow").exists():
            (folder / "ending").touch()
            time.sleep(600)

x = np.zeros((8, 4), "float32")
tuner = NASTuner(
    Slow(),
    oracle=RandomOracle("val_loss", max_trials=5, seed=0),
    tracker=MLflowTracker(tracking_uri=f"sqlite:///{folder}/mlflow.db"),
    listeners=[Last()],
    directory=folder,
    project_name="search",
    executor=LocalExecutor(workers=workers),
)
tuner.search(x, x, verbose=0)
"""


def start(folder, workers):
    """Start the program, which has no guard of `__main__`; its workers are not forked."""
    script, temporary = folder / "program.py", folder / "temporary"
    script.write_text(PROGRAM)
    temporary.mkdir(exist_ok=True)
    return forkserver.fork_server().start(
        forkserver.SCRIPT,
        cwd=folder,
        environment={"TMPDIR": str(temporary)},
        file=str(script),
        arguments=[str(folder), str(workers)],
    )


def wait_for(condition, child):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"it did not happen within two minutes: {child.err}")


def runs(pid):
    """Whether a process runs; a zombie, which nobody has waited for, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder):
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def run_statuses(folder):
    """Status of the run of each trial, by trial id; that of the search is under None."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    logged = client.search_runs(ids)
    statuses = {run.data.tags.get("nas.trial_id"): run.info.status for run in logged}
    assert len(statuses) == len(logged), "one run per trial"
    return statuses


@pytest.fixture
def searching(tmp_path):
    """A driver whose two workers train two trials that never end, after others have ended."""
    forkserver.new_store(tmp_path)
    (tmp_path / "slow").touch()
    driver = start(tmp_path, 2)
    try:
        wait_for(lambda: len(pids(tmp_path)) == 2, driver)
        yield driver
    finally:
        driver.signal(signal.SIGKILL)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_workers_end_with_a_driver_that_is_killed_and_no_trial_is_lost(tmp_path, searching):
    before = results(tmp_path / "search")
    assert before
    searching.signal(signal.SIGKILL)
    assert searching.wait() == -signal.SIGKILL
    wait_for(lambda: not any(runs(pid) for pid in pids(tmp_path)), searching)
    assert not list((tmp_path / "temporary").glob("keras-nas-*"))
    (tmp_path / "slow").unlink()
    resumed = start(tmp_path, 1)  # with fewer workers
    assert resumed.wait() == 0, resumed.err
    records = list(load_records(tmp_path / "search"))
    assert [record.status for record in records] == [FINISHED] * 5
    assert len({record.values["units"] for record in records}) == 5
    assert results(tmp_path / "search").items() >= before.items()
    assert run_statuses(tmp_path) == dict.fromkeys([None, *"01234"], "FINISHED")


@linux
def test_ctrl_c_kills_running_trials_and_a_second_one_ends_the_program(tmp_path, searching):
    before = results(tmp_path / "search")
    searching.signal(signal.SIGINT)
    wait_for(lambda: (tmp_path / "ending").exists(), searching)
    assert not any(runs(pid) for pid in pids(tmp_path))
    assert results(tmp_path / "search") == before
    statuses = run_statuses(tmp_path)
    assert statuses.pop(None) == "KILLED"
    assert sorted(statuses.values()) == ["FINISHED"] * len(before) + ["KILLED"] * 2
    searching.signal(signal.SIGINT)  # while it ends, which may take long
    assert searching.wait(30) != 0
    assert not list((tmp_path / "temporary").glob("keras-nas-*"))

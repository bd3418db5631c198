"""Trials on a Ray cluster of several nodes, which are real processes on this machine."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle, RayExecutor, SuccessiveHalvingOracle, Tracker
from keras_nas_plugin.errors import ArgumentError, WorkerError
from keras_nas_plugin.records.trial import FAILED, FINISHED, load_records
from tests.executors.ray_nodes import patiently
from tests.executors.searches import FIT, X, Y, build

ray = pytest.importorskip("ray", reason="Ray is not installed: keras-nas-plugin[ray]")
cluster_utils = pytest.importorskip("ray.cluster_utils")

STORE_BYTES = 80_000_000


@pytest.fixture(scope="module")
def cluster():
    """A head node without processors, and one node with a processor.

    An object store that is full does not continue on the disk.
    """
    head = {
        "num_cpus": 0,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
        "_system_config": {"local_fs_capacity_threshold": 0.0001, "worker_niceness": 0},
    }
    cluster = patiently(cluster_utils.Cluster, initialize_head=True, head_node_args=head)
    add_node(cluster)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def add_node(cluster):
    return patiently(cluster.add_node, num_cpus=1, object_store_memory=STORE_BYTES)


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Faulty(keras_tuner.HyperModel):
    """Fails in another way for each value of ``fault``; the first attempts leave files."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def build(self, hp):
        hp.Choice("fault", ["none", "die", "hang", "hang once", "error"])
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        fault, first = hp.get("fault"), self.folder / hp.get("fault")
        again = first.exists()
        first.touch()
        if fault == "die" and not again:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "die":
            os._exit(7)
        if fault == "hang" or (fault == "hang once" and not again):
            time.sleep(600)
        if fault == "error":
            raise UnpicklableError("this model is wrong")
        return model.fit(*args, **kwargs)


class Starts(Tracker):
    """Counts the starts of each trial, and calls a function at the first of all."""

    def __init__(self, at_first=lambda: None):
        self.started, self.at_first = [], at_first

    def trial_started(self, trial_id, values):
        self.started.append(trial_id)
        if len(self.started) == 1:
            self.at_first()


def search(folder, hypermodel, oracle, executor, **options):
    tuner = NASTuner(hypermodel, oracle=oracle, directory=folder, executor=executor, **options)
    tuner.search(X, Y, **FIT | {"epochs": 4 if isinstance(oracle, SuccessiveHalvingOracle) else 2})
    return tuner


def faulty_oracle(*faults):
    initial = [{"fault": fault, "units": 2 + i} for i, fault in enumerate(faults)]
    options = {"seed": 0, "initial": initial, "max_consecutive_failed_trials": 0}
    return RandomOracle("val_loss", max_trials=len(faults), **options)


def results(folder):
    return {
        record.trial_id: (record.values, record.score, record.first_epoch)
        for record in load_records(folder)
    }


def runs(pid):
    """Whether a process runs; a zombie, which nobody has waited for, does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within two minutes")


def test_one_worker_without_the_project_folder_makes_the_same_search(
    tmp_path, cluster, monkeypatch
):
    """Promoted trials continue from files that travel with them."""
    from keras_nas_plugin.executors.ray import workers

    without_folder = functools.partial(dataclasses.replace, marker="a file that is not there")
    shipment = workers.Shipment
    monkeypatch.setattr(workers, "Shipment", lambda **options: without_folder(shipment(**options)))

    def halving():
        return SuccessiveHalvingOracle("val_loss", max_trials=3, seed=0, factor=2)

    handler = signal.getsignal(signal.SIGTERM)
    temporary = tmp_path / "node"
    temporary.mkdir()
    variables = {"env_vars": {"TMPDIR": str(temporary)}}
    executor = RayExecutor(address=cluster.address, workers=1, runtime_env=variables)
    alone = search(tmp_path / "alone", build, halving(), None, deterministic=True)
    remote = search(tmp_path / "remote", build, halving(), executor, deterministic=True)
    assert results(remote.project_dir) == results(alone.project_dir)
    assert any(first_epoch > 0 for _, _, first_epoch in results(remote.project_dir).values())
    assert remote.get_best_models(1)[0].predict(X[:2], verbose=0).shape == (2, 2)
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not list(temporary.iterdir())
    pids = {record.placement.pid for record in load_records(remote.project_dir)}
    assert len(pids) == 1
    wait_for(lambda: not any(runs(pid) for pid in pids))


def test_faults_end_one_trial_and_not_the_search(tmp_path, cluster):
    faults = ["die", "none", "error", "hang"]
    executor = RayExecutor(address=cluster.address, workers=1, trial_timeout=20)
    starts = Starts()
    tuner = search(
        tmp_path, Faulty(tmp_path), faulty_oracle(*faults), executor, listeners=[starts]
    )
    records = {record.values["fault"]: record for record in load_records(tuner.project_dir)}
    assert [records[fault].status for fault in faults] == [FAILED, FINISHED, FAILED, FAILED]
    assert "this model is wrong" in records["error"].error
    assert "died (killed, out of memory" in records["die"].error
    assert "`trial_timeout`, 20 s" in records["hang"].error
    ids = [records[fault].trial_id for fault in faults]
    assert [starts.started.count(trial) for trial in ids] == [2, 1, 1, 1]


def test_a_node_that_leaves_costs_no_trial_and_one_that_joins_is_used(tmp_path, cluster):
    nodes = [node for node in cluster.list_all_nodes() if not node.head]

    def replace_nodes():
        wait_for((tmp_path / "hang once").exists)  # it trains
        cluster.remove_node(nodes[0], allow_graceful=False)
        add_node(cluster)

    starts = Starts(replace_nodes)
    oracle = faulty_oracle("hang once", "none")
    # Two workers where there is room for one: the other waits, and blocks nobody.
    executor = RayExecutor(address=cluster.address, workers=2, max_retries_per_trial=0)
    tuner = search(tmp_path, Faulty(tmp_path), oracle, executor, listeners=[starts])
    records = list(load_records(tuner.project_dir))
    assert [record.status for record in records] == [FINISHED] * 2
    assert [starts.started.count(record.trial_id) for record in records] == [2, 1]


@pytest.mark.parametrize("wait_for_nodes", [0, 1])
def test_a_request_that_no_node_can_meet_is_named(tmp_path, cluster, wait_for_nodes):
    executor = RayExecutor(
        address=cluster.address,
        workers=1,
        cpus_per_trial=64,
        gpus_per_trial=0.5,
        wait_for_nodes=wait_for_nodes,
    )
    with pytest.raises(WorkerError, match="got 64 CPUs and 0.5 GPUs, and .* 1 CPUs and 0 GPUs"):
        search(tmp_path, build, RandomOracle("val_loss", max_trials=1, seed=0), executor)


def test_a_full_object_store_is_named(tmp_path, cluster):
    hypermodel = Faulty(tmp_path)
    hypermodel.table = np.zeros(2 * STORE_BYTES, "uint8")
    executor = RayExecutor(address=cluster.address, workers=1)
    with pytest.raises(WorkerError, match="object store of Ray must have room .* got 160 MB more"):
        search(tmp_path, hypermodel, faulty_oracle("none"), executor)


def test_an_address_without_a_cluster_is_named(tmp_path):
    executor = RayExecutor(address="127.0.0.1:1", workers=1)
    with pytest.raises(WorkerError, match="`address` must be that of a running Ray cluster"):
        search(tmp_path, build, RandomOracle("val_loss", max_trials=1, seed=0), executor)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"cpus_per_trial": -1},
        {"gpus_per_trial": "1"},
        {"gpus_per_trial": 1.5},
        {"trial_timeout": 0},
        {"max_retries_per_trial": 0.5},
        {"address": "ray://head:10001"},
    ],
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ArgumentError, match=f"`{next(iter(options))}` must be"):
        RayExecutor(**options)


RECIPE = """
import os, pathlib, time
import keras, keras_tuner
import numpy as np

class Endless(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9))])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, *args, **kwargs):
        for pid in (os.getpid(), os.getppid()):  # of the worker and of its node
            pathlib.Path("pids", str(pid)).touch()
        time.sleep(600)

def load_data():
    x = np.zeros((8, 4), "float32")
    return (x, x), (x + 1, x)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_ends_a_cluster_that_the_command_line_has_started(tmp_path):
    (tmp_path / "recipe.py").write_text(RECIPE)
    (tmp_path / "pids").mkdir()
    words = "search recipe.py:Endless --executor ray --workers 1 --max-trials 2 --no-tracking"
    driver = subprocess.Popen(
        [sys.executable, "-m", "keras_nas_plugin.cli.main", *words.split()],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )

    def pids():
        return [int(path.name) for path in (tmp_path / "pids").iterdir()]

    try:
        wait_for(lambda: len(pids()) == 2)
        os.killpg(driver.pid, signal.SIGINT)  # as Ctrl-C on a terminal does
        output, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode != 0
    assert "Interrupted. All finished trials are kept" in output
    assert "raylet" not in output and "Traceback" not in output, output
    wait_for(lambda: not any(runs(pid) for pid in pids()))
    assert not list(load_records(tmp_path / "searches" / "recipe"))

"""KerasTuner's chief and workers: deadlines, leases, and processes that die."""

from __future__ import annotations

import re
import signal
import socket
import time

import keras_tuner
import mlflow
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import RandomOracle
from keras_nas_plugin.errors import ArgumentError, WorkerError
from keras_nas_plugin.executors.service import client as client_module
from keras_nas_plugin.executors.service.chief import ChiefServer
from keras_nas_plugin.executors.service.client import ChiefClient, ChiefLostError, LeaseLostError
from keras_nas_plugin.executors.service.leases import LEASE_VARIABLE, Leases, lease_seconds
from keras_nas_plugin.oracles.stock import make_resumable
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.space.declarations import UnconfirmedRanges
from tests.executors import service_program
from tests.integration import forkserver

PROGRAM = "tests.executors.service_program:main"


# ---------------------------------------------------------------------- leases


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_lease_runs_out_unless_it_is_renewed(clock):
    leases = Leases(10.0, clock)
    leases.renew("a")
    leases.renew("b")
    for _ in range(3):
        clock.now += 4.0
        leases.renew("a")
        expired = leases.take_expired()
    assert expired == ["b"] and leases.workers == ("a",)
    leases.end("a")
    clock.now += 4.0
    assert leases.take_expired() == [] and leases.workers == ()


def test_no_lease_runs_out_while_the_chief_was_suspended(clock):
    leases = Leases(10.0, clock)
    leases.renew("a")
    clock.now += 1000.0
    assert leases.take_expired() == []
    for _ in range(3):
        clock.now += 4.0
        expired = leases.take_expired()
    assert expired == ["a"]


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_seconds_of_a_lease_must_be_positive(text, monkeypatch):
    monkeypatch.setenv(LEASE_VARIABLE, text)
    with pytest.raises(ArgumentError, match=f"`{LEASE_VARIABLE}` must be .* got '{text}'"):
        lease_seconds()


# ---------------------------------------------------------------------- chief and clients here


@pytest.fixture
def address(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {"IP": "127.0.0.1", "PORT": str(port)}
    for name, value in values.items():
        monkeypatch.setenv(f"KERASTUNER_ORACLE_{name}", value)
    return {f"KERASTUNER_ORACLE_{name}": value for name, value in values.items()}


def new_oracle(kind, folder, max_trials=2):
    space = keras_tuner.HyperParameters()
    space.Int("units", 1, 50)
    options = {"max_trials": max_trials, "hyperparameters": space, "seed": 1}
    objective = keras_tuner.Objective("loss", "min")
    if kind == "stock":
        oracle = keras_tuner.oracles.RandomSearchOracle(objective, **options)
        make_resumable(oracle)
    else:
        oracle = RandomOracle(objective, **options)
    oracle._set_project_dir(folder, "search")
    return oracle


@pytest.fixture(params=["own", "stock"])
def oracle(request, tmp_path):
    return new_oracle(request.param, tmp_path)


@pytest.fixture
def server(oracle, address, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv(LEASE_VARIABLE, "600")
    server = ChiefServer(oracle, UnconfirmedRanges())
    yield server
    server.stop()


@pytest.fixture
def connect(server, oracle, monkeypatch, tmp_path):
    """Creates the client of a worker, which holds a lease."""
    clients = []

    def new(name):
        monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
        client = ChiefClient(oracle, tmp_path / "search")
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        client.lease.start()
        clients.append(client)
        return client

    yield new
    for client in clients:
        client.close()


def expire(server, name):
    """Let the lease of a worker run out."""
    leases = server._chief._leases
    leases._ends[name] = leases._clock() - 1.0
    return server._chief.supervise()


def finish(client, trial, loss=0.5):
    client.update_trial(trial.trial_id, {"loss": loss})
    trial.status = TrialStatus.COMPLETED
    client.end_trial(trial)


def test_the_trial_of_a_lost_worker_is_assigned_to_another(server, connect, oracle, caplog):
    lost, other = connect("tuner0"), connect("tuner1")
    trial = lost.create_trial("tuner0")
    assert expire(server, "tuner0") == []
    again = other.create_trial("tuner1")
    assert again.trial_id == trial.trial_id
    assert again.hyperparameters.values == trial.hyperparameters.values
    assert not lost.lease.confirm(trial.trial_id)
    assert other.lease.confirm(trial.trial_id)
    # The result of the worker that has lost its lease is not the trial's.
    finish(lost, trial, loss=0.25)
    assert oracle.trials[trial.trial_id].status == TrialStatus.RUNNING
    assert f"The result of trial {trial.trial_id} is discarded" in caplog.text
    finish(other, again, loss=0.5)
    assert oracle.trials[trial.trial_id].score == 0.5
    assert list(oracle.end_order) == [trial.trial_id]


def test_a_worker_that_comes_back_in_time_keeps_its_trial(server, connect, oracle):
    frozen, other = connect("tuner0"), connect("tuner1")
    trial = frozen.create_trial("tuner0")
    expire(server, "tuner0")
    assert frozen.lease.confirm(trial.trial_id)
    assert other.create_trial("tuner1").trial_id != trial.trial_id
    finish(frozen, trial, loss=0.25)
    assert oracle.trials[trial.trial_id].score == 0.25


def test_a_trial_that_loses_two_workers_fails(server, connect, oracle):
    first, second = connect("tuner0"), connect("tuner1")
    trial = first.create_trial("tuner0")
    assert expire(server, "tuner0") == []
    second.create_trial("tuner1")
    (lost,) = expire(server, "tuner1")
    assert lost.trial.trial_id == trial.trial_id
    assert lost.trial.status == TrialStatus.FAILED
    assert lost.trial.message == "tuner1 was not heard from for 600 s while it trained the trial"
    assert 0 < lost.started_ms <= time.time() * 1000
    oracle.end_trial(lost.trial)
    assert oracle.trials[trial.trial_id].status == TrialStatus.FAILED
    assert dict(oracle.ongoing_trials) == {}


def test_a_worker_that_is_restarted_has_lost_its_trial(server, connect, oracle, caplog):
    crashed = connect("tuner0")
    trial = crashed.create_trial("tuner0")
    restarted = connect("tuner0")
    assert f"tuner0 has started again; trial {trial.trial_id} is assigned" in caplog.text
    assert restarted.create_trial("tuner0").trial_id == trial.trial_id
    assert server._chief.supervise() == []
    connect("tuner0")
    (lost,) = server._chief.supervise()
    assert lost.trial.trial_id == trial.trial_id and lost.worker == "tuner0"
    assert lost.trial.message == "tuner0 has started again while it trained the trial"
    # Until the chief has ended it, the trial is nobody's: not its last worker's either.
    assert not restarted.lease.confirm(trial.trial_id)
    finish(restarted, trial)
    assert oracle.trials[trial.trial_id].status == TrialStatus.FAILED
    oracle.end_trial(lost.trial)
    assert dict(oracle.ongoing_trials) == {} and list(oracle.end_order) == [trial.trial_id]


@pytest.mark.parametrize("expired", [False, True])
def test_a_process_that_another_replaced_cannot_report(server, connect, oracle, expired):
    frozen = connect("tuner0")
    trial = frozen.create_trial("tuner0")
    if expired:
        expire(server, "tuner0")
    restarted = connect("tuner0")
    again = restarted.create_trial("tuner0")
    assert again.trial_id == trial.trial_id
    assert not frozen.lease.confirm(trial.trial_id)
    finish(frozen, trial, loss=0.25)
    assert oracle.trials[trial.trial_id].status == TrialStatus.RUNNING
    assert frozen.create_trial("tuner0").status == TrialStatus.STOPPED
    frozen.close()  # ends no lease but its own
    assert restarted.lease.confirm(again.trial_id)
    finish(restarted, again, loss=0.5)
    assert oracle.trials[trial.trial_id].score == 0.5


def test_a_worker_that_leaves_and_starts_again_has_lost_nothing(server, connect, caplog):
    first = connect("tuner0")
    trial = first.create_trial("tuner0")
    first.close()
    assert connect("tuner0").create_trial("tuner0").trial_id == trial.trial_id
    assert "has started again" not in caplog.text


def test_a_worker_waits_while_another_trains_the_last_trial(server, connect):
    first, second = connect("tuner0"), connect("tuner1")
    finish(first, first.create_trial("tuner0"))
    last = first.create_trial("tuner0")
    assert second.create_trial("tuner1").status == TrialStatus.IDLE
    finish(first, last)
    assert second.create_trial("tuner1").status == TrialStatus.STOPPED
    assert first.create_trial("tuner0").status == TrialStatus.STOPPED
    assert not server._chief.ended
    first.close()
    second.close()
    assert server.wait() == []


def test_a_worker_that_leaves_returns_its_trial(server, connect):
    first, second = connect("tuner0"), connect("tuner1")
    trial = first.create_trial("tuner0")
    first.close()
    assert second.create_trial("tuner1").trial_id == trial.trial_id


def test_an_error_of_the_oracle_ends_the_search(server, connect, oracle, monkeypatch):
    client = connect("tuner0")
    monkeypatch.setattr(oracle, "create_trial", lambda tuner_id: 1 / 0)
    assert client.create_trial("tuner0").status == TrialStatus.STOPPED
    client.close()
    with pytest.raises(ZeroDivisionError):
        server.wait()


def test_a_chief_without_workers_stops(server, connect, monkeypatch):
    client = connect("tuner0")
    client.create_trial("tuner0")
    expire(server, "tuner0")
    monkeypatch.setattr(server._chief, "_last_seen", server._chief._last_seen - 600.0)
    with pytest.raises(WorkerError, match="no worker is left; the last was tuner0"):
        server.wait()


def test_a_second_chief_at_the_same_address_is_refused(server, oracle):
    with pytest.raises(WorkerError, match="`KERASTUNER_ORACLE_IP` and .* no other process uses"):
        ChiefServer(oracle, UnconfirmedRanges())


def test_every_call_ends_when_the_chief_is_dead(server, connect, monkeypatch):
    client = connect("tuner0")
    trial = client.create_trial("tuner0")
    server.stop()
    client.lease.chief_lost.set()
    for call in (
        client.get_space,
        lambda: client.update_space(trial.hyperparameters),
        lambda: client.create_trial("tuner0"),
        lambda: client.update_trial(trial.trial_id, {"loss": 0.5}),
        lambda: client.end_trial(trial),
        lambda: client.get_trial(trial.trial_id),
        client.get_best_trials,
    ):
        with pytest.raises(ChiefLostError, match=r"The chief at 127.0.0.1:\d+ does not answer"):
            call()


def test_results_are_read_from_the_folder_when_the_chief_has_gone(server, connect, oracle):
    client = connect("tuner0")
    for loss in (0.75, 0.25):
        finish(client, client.create_trial("tuner0"), loss)
    expected = [trial.trial_id for trial in oracle.get_best_trials(2)]
    client.close()
    server.stop()
    assert [trial.trial_id for trial in client.get_best_trials(2)] == expected
    assert client.get_trial(expected[0]).score == 0.25
    assert [item.name for item in client.get_space().space] == ["units"]
    assert client.create_trial("tuner0").status == TrialStatus.STOPPED


def test_a_worker_that_starts_after_the_end_of_the_search_stops(
    oracle, address, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    monkeypatch.setattr(client_module, "_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(client_module, "load_records", lambda folder: iter(range(2)))
    client = ChiefClient(oracle, tmp_path / "search")
    client.get_space()
    assert client.create_trial("tuner0").status == TrialStatus.STOPPED
    assert "The search is complete, and its chief has ended." in caplog.text


def test_a_worker_that_starts_first_waits_for_its_chief(
    oracle, address, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    monkeypatch.setattr(client_module, "_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(client_module, "_START_SECONDS", 1.0)
    client = ChiefClient(oracle, tmp_path / "search")
    with pytest.raises(ChiefLostError):
        client.create_trial("tuner0")
    assert re.search(r"tuner0 waits for the chief at 127.0.0.1:\d+\.", caplog.text)


def test_a_training_is_interrupted_when_its_lease_is_lost(server, connect):
    lost, other = connect("tuner0"), connect("tuner1")
    trial = lost.create_trial("tuner0")
    expire(server, "tuner0")
    other.create_trial("tuner1")
    lost.lease.stop()
    lost.lease._seconds = 0.5
    lost.lease.start()
    deadline = time.monotonic() + 60
    with pytest.raises(LeaseLostError), lost.lease.training(trial.trial_id):
        while time.monotonic() < deadline:
            time.sleep(0.01)
    assert lost.lease.lost and not lost.lease.chief_lost.is_set()


def test_calls_of_keras_tuners_own_client_are_answered(server, oracle, monkeypatch):
    """It holds no lease, and its trials are never taken from it."""
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner0")
    from keras_tuner.src.distribute.oracle_client import OracleClient

    client = OracleClient(oracle)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    for loss in (0.5, 0.25):
        trial = client.create_trial("tuner0")
        server._chief.supervise()
        finish(client, trial, loss)
    assert client.create_trial("tuner0").status == TrialStatus.STOPPED
    assert server.wait() == []


# ---------------------------------------------------------------------- processes


@pytest.fixture
def start(address, tmp_path):
    children = {}

    def start(name, **arguments):
        environment = {
            **address,
            "KERASTUNER_TUNER_ID": name,
            LEASE_VARIABLE: "8",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
        children[name] = forkserver.fork_server().start(
            PROGRAM, cwd=tmp_path, environment=environment, folder=str(tmp_path), **arguments
        )
        return children[name]

    yield start
    for child in children.values():
        if child.poll() is None:
            child.signal(signal.SIGKILL)


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.05)


def test_a_killed_and_a_frozen_worker_lose_no_trial(start, tmp_path):
    uri = forkserver.new_store(tmp_path)
    options = {"store": uri}
    chief = start("chief", **options)
    killed, frozen = start("tuner0", **options), start("tuner1", **options)
    for name in ("tuner0", "tuner1"):
        wait_for(tmp_path / f"{name}.trains")
    killed.signal(signal.SIGKILL)
    frozen.signal(signal.SIGSTOP)
    (tmp_path / "go").touch()
    survivor = start("tuner2", **options)
    assert survivor.wait() == 0, survivor.err
    frozen.signal(signal.SIGCONT)
    assert (frozen.wait(), chief.wait()) == (0, 0), (frozen.err, chief.err)
    records = list(load_records(tmp_path / "search"))
    assert {(record.trial_id, record.status) for record in records} == {
        (str(number), "FINISHED") for number in range(4)
    }
    ranked = sorted(records, key=lambda record: record.score)
    best, version = chief.out.splitlines()
    assert best == " ".join(["best", *(record.trial_id for record in ranked), "1"])
    # Whoever registers the model: there is one version, and one page of the trials.
    assert re.fullmatch(r"version 1 http.*/experiments/.*", version)
    assert survivor.out == frozen.out == chief.out
    assert "tuner0 was not heard from for 8 s; trial" in chief.err
    client = mlflow.MlflowClient(uri)
    assert [item.version for item in client.search_model_versions("name='service'")] == [1]
    runs = client.search_runs([client.get_experiment_by_name("service").experiment_id])
    assert sorted((run.info.run_name.split()[0], run.info.status) for run in runs) == [
        ("search", "FINISHED"),
        *((f"t{number:02}", "FINISHED") for number in range(4)),
    ]


def test_workers_stop_within_seconds_of_their_chief(start, tmp_path):
    chief, worker = start("chief"), start("tuner0")
    wait_for(tmp_path / "tuner0.trains")
    chief.signal(signal.SIGKILL)
    assert worker.wait(60) == 1
    assert worker.out.startswith("ChiefLostError: The chief at 127.0.0.1:")
    assert "so tuner0 stops. Start the chief and workers again to resume." in worker.out
    # What was interrupted runs again.
    (tmp_path / "go").touch()
    chief, worker = start("chief"), start("tuner0")
    assert (worker.wait(), chief.wait()) == (0, 0), worker.err
    assert len(list(load_records(tmp_path / "search"))) == 4


def test_a_range_that_only_fit_declares_may_be_edited(start, address, monkeypatch, tmp_path):
    (tmp_path / "go").touch()
    with monkeypatch.context() as single_process:
        for name in address:
            single_process.delenv(name)
        assert service_program.main(str(tmp_path), batches=[4, 8], trials=3) == 0
    options = {"batches": [8, 16], "trials": 5}
    chief, workers = start("chief", **options), [start(f"tuner{n}", **options) for n in range(2)]
    assert [child.wait() for child in (*workers, chief)] == [0, 0, 0], chief.err
    text = "`batch`: 4, 8 -> 8, 16"
    assert chief.err.count(text) == 1 and text in SearchInfo.load(tmp_path / "search").changes
    records = {record.trial_id: record for record in load_records(tmp_path / "search")}
    assert all(record.status == "FINISHED" for record in records.values())
    batches = {trial_id: record.values["batch"] for trial_id, record in records.items()}
    before = {trial_id: batch for trial_id, batch in batches.items() if trial_id in "012"}
    outside = [trial_id for trial_id, batch in before.items() if batch == 4]
    assert set(before.values()) == {4, 8}
    assert len(records) == 5 + len(outside)
    assert {batch for trial_id, batch in batches.items() if trial_id not in "012"} == {8, 16}
    best = chief.out.splitlines()[-1].split()[1:-1]
    assert set(best) == records.keys() - set(outside)

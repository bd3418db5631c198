"""A pool of workers that are no processes: what it does with messages that arrive together."""

from __future__ import annotations

from types import SimpleNamespace

import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial

from keras_nas_plugin import RandomOracle, Tracker
from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.executors.worker_pool import Supervision, WorkerPool
from keras_nas_plugin.executors.worker_types import Worker, WorkerFactory
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.budget import Budget

# In place of a trial: the worker dies before it is ready.
DEAD = [None]


class Scripted(Worker):
    """A worker that sends what it is told, and dies when there is nothing left to send.

    Args:
        slot: Its slot.
        script: For each trial, its messages; None for a death.
    """

    memory, out_of_memory = None, False

    def __init__(self, slot, script):
        super().__init__()
        self.slot, self.script, self.waiting = slot, script, [("ready", Placement(pid=1))]
        if script[0] == DEAD:
            self.waiting = script.pop(0)

    def send(self, *message):
        kind, state, *_ = message
        assert kind == "trial"
        trial = Trial.from_state(state)
        record = TrialRecord(trial_id=trial.trial_id, values={}, status=FINISHED, score=0.5)
        config = trial.hyperparameters.get_config()
        messages = {
            "started": ("started", trial.trial_id, {}),
            "outcome": ("outcome", record, None, False, "RUNNING", None, config),
            None: None,
        }
        self.waiting += [messages[name] for name in self.script.pop(0)]

    def messages(self):
        if self.waiting == [None]:
            raise EOFError
        arrived = [message for message in self.waiting if message is not None]
        self.waiting = [message for message in self.waiting if message is None]
        return arrived

    def stop(self):
        return "was ended by a test"

    kill = stop


class Scripts(WorkerFactory):
    def __init__(self, **scripts):
        super().__init__([slot.replace("_", "-") for slot in scripts])
        self.scripts = dict(zip(self.slots, scripts.values(), strict=True))
        self.started = []

    def open(self):
        pass

    def start(self, slot):
        self.started.append(slot)
        return Scripted(slot, self.scripts[slot])

    def arrived(self, workers):
        arrived = [worker for worker in workers if worker.waiting]
        assert arrived, "nothing will ever arrive"
        return arrived

    def close(self):
        pass


class Interrupting(Tracker):
    def trial_started(self, trial_id, values):
        raise KeyboardInterrupt


@pytest.fixture
def make_pool(tmp_path):
    def make(listeners=(), retries=1, **scripts):
        context = SimpleNamespace(
            oracle=RandomOracle("loss", max_trials=9),
            trackers=CompositeTracker(listeners),
            layout=ProjectLayout(tmp_path),
            budget=Budget(),
            bookkeeping=Bookkeeping(),
        )
        supervision = Supervision(trial_timeout=None, max_retries=retries)
        return WorkerPool(context, Scripts(**scripts), supervision)

    return make


def trial(number):
    return Trial(keras_tuner.HyperParameters(), trial_id=str(number))


def outcomes(pool, count=1):
    ended = []
    while len(ended) < count:
        ended += pool.collect()
    return {outcome.trial.trial_id: outcome for outcome in ended}


def test_a_result_that_arrived_before_ctrl_c_is_kept(make_pool):
    complete, unfinished = [["started", "outcome"]], [["started"]]
    with make_pool([Interrupting()], worker_0=complete, worker_1=unfinished) as pool:
        for number in range(2):
            pool.submit(trial(number), f"worker-{number}")
        ended = outcomes(pool, 2)
    assert ended["0"].record.status == FINISHED and ended["0"].error is None
    assert ended["1"].record.status == KILLED
    assert isinstance(ended["1"].error, KeyboardInterrupt)
    assert pool.in_flight == 0


def test_a_result_that_arrived_before_its_worker_died_is_kept(make_pool):
    with make_pool(worker_0=[["started", "outcome", None], ["started", "outcome"]]) as pool:
        pool.submit(trial(0), "worker-0")
        assert outcomes(pool)["0"].record.status == FINISHED
        pool.submit(trial(1), "worker-0")  # of the worker that has died meanwhile
        assert outcomes(pool)["1"].record.status == FINISHED


@pytest.mark.parametrize(("retries", "status"), [(0, FAILED), (1, FINISHED)])
def test_a_trial_whose_worker_died_is_sent_to_its_successor(make_pool, retries, status):
    scripts = [["started", None], ["started", "outcome"]]
    with make_pool(retries=retries, worker_0=scripts) as pool:
        pool.submit(trial(0), "worker-0")
        (outcome,) = outcomes(pool).values()
    assert outcome.record.status == status
    if status == FAILED:
        assert "was ended by a test while it trained the trial" in outcome.record.error


def test_workers_that_die_while_they_start_are_replaced_twice(make_pool):
    with make_pool(worker_0=[[None], [None], ["started", "outcome"]]) as pool:
        pool.submit(trial(0), "worker-0")
        assert outcomes(pool)["0"].record.status == FINISHED
    message = "worker-0 was ended by a test before it had loaded the hypermodel"
    with pytest.raises(WorkerError, match=message):
        make_pool(worker_0=[[None], [None], [None]]).__enter__()

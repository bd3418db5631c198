"""The search loop with executors that run several trials at a time, one trial, or none."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin import RandomOracle, Tracker
from keras_nas_plugin.errors import BudgetExhaustedError
from keras_nas_plugin.executors import loop as loop_module
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.in_process import InProcessExecutor
from keras_nas_plugin.executors.loop import SearchLoop
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord, load_records
from keras_nas_plugin.roles import Role
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.running import TrialOutcome


def finished(trial, score=None):
    """The outcome of a trial whose score is its value of ``x``."""
    x = trial.hyperparameters.values["x"]
    metrics = {"loss": x if score is None else score}
    record = TrialRecord(
        trial_id=trial.trial_id,
        values={"x": x},
        status=FINISHED,
        score=metrics["loss"],
        metrics=metrics,
    )
    return TrialOutcome(trial, record)


def interrupted(trial, error):
    values = {"x": trial.hyperparameters.values["x"]}
    record = TrialRecord(trial_id=trial.trial_id, values=values, status=KILLED)
    return TrialOutcome(trial, record, error)


class Pool(Executor):
    """An executor with several slots that returns the last submitted trial first."""

    def __init__(self, slots, outcome=finished):
        self.slots, self.outcome = [f"worker{number}" for number in range(slots)], outcome
        self.running, self.max_running, self.stopped = {}, 0, False

    def __exit__(self, *error):
        self.stopped = True

    @property
    def finished(self):
        return False

    @property
    def in_flight(self):
        return len(self.running)

    def free_slots(self):
        return [slot for slot in self.slots if slot not in self.running]

    def submit(self, trial, slot):
        assert slot in self.free_slots()
        self.running[slot] = trial
        self.max_running = max(self.max_running, len(self.running))

    def collect(self):
        if not self.running:
            return []
        slot = list(self.running)[-1]
        return [self.outcome(self.running.pop(slot))]


class EventLog(Tracker):
    """Records each ended trial, and whether its record was already on disk."""

    def __init__(self, events, layout):
        self.events, self.layout = events, layout

    def trial_ended(self, record):
        on_disk = TrialRecord.load(self.layout.trial(record.trial_id).folder) is not None
        self.events.append(("tracker", record.trial_id, record.status, on_disk))


class Hooks:
    """The hooks of a tuner that the loop calls."""

    def __init__(self, oracle, events):
        self.oracle, self.events = oracle, events

    def pre_create_trial(self):
        self.events.append(("ask",))

    def on_trial_begin(self, trial):
        self.events.append(("begin", trial.trial_id))

    def on_trial_end(self, trial):
        self.events.append(("oracle", trial.trial_id, trial.status))
        self.oracle.end_trial(trial)


@pytest.fixture
def make_harness(tmp_path):
    """Builds the loop of a search over one number, with its oracle and recorded events."""

    def build(executor, oracle=None, budget=None, max_trials=6):
        oracle = oracle or RandomOracle(
            keras_tuner.Objective("loss", "min"), max_trials=max_trials, seed=0
        )
        oracle._set_project_dir(str(tmp_path), "p")
        space = keras_tuner.HyperParameters()
        space.Float("x", 0.0, 1.0)
        oracle.update_space(space)
        events, layout = [], ProjectLayout(tmp_path / "p")
        context = SearchContext(
            layout=layout,
            name="p",
            oracle=oracle,
            get_space=oracle.get_space,
            hypermodel=None,
            trackers=CompositeTracker([EventLog(events, layout)]),
            role=Role.SINGLE,
            budget=budget or Budget(),
        )
        loop = SearchLoop(Hooks(oracle, events), context, executor)
        return SimpleNamespace(loop=loop, oracle=oracle, events=events, layout=layout)

    return build


def events_of(events, kind):
    return [event[1:] for event in events if event[0] == kind]


@pytest.mark.parametrize("slots", [1, 3])
def test_trials_may_run_at_the_same_time_and_end_in_any_order(make_harness, slots):
    pool = Pool(slots)
    harness = make_harness(pool)
    harness.loop.run()
    assert harness.loop.stopped_by is None and pool.stopped
    assert pool.max_running == slots
    trials = harness.oracle.trials
    assert len(trials) == 6
    assert {trial.status for trial in trials.values()} == {"COMPLETED"}
    for trial in trials.values():
        assert trial.score == trial.hyperparameters.values["x"]
    assert len({record.score for record in load_records(harness.layout.folder)}) == 6
    ended = [trial_id for trial_id, _ in events_of(harness.events, "oracle")]
    assert sorted(ended) == sorted(trials)
    assert (ended == sorted(ended)) == (slots == 1)


def test_the_record_is_written_before_tracker_and_oracle_are_notified(make_harness):
    harness = make_harness(Pool(2), max_trials=2)
    harness.loop.run()
    for trial_id in harness.oracle.trials:
        reports = [
            event
            for event in harness.events
            if event[0] in ("tracker", "oracle") and event[1] == trial_id
        ]
        assert reports == [
            ("tracker", trial_id, FINISHED, True),
            ("oracle", trial_id, TrialStatus.COMPLETED),
        ]


def test_records_say_in_which_slot_a_trial_ran_and_how_long_it_waited(make_harness):
    start = time.time_ns() // 1_000_000 + 60_000

    def outcome(trial):
        began = start + 10_000 * int(trial.trial_id)
        record = dataclasses.replace(
            finished(trial).record, started_ms=began, ended_ms=began + 4_000
        )
        return TrialOutcome(trial, record)

    harness = make_harness(Pool(1, outcome), max_trials=2)
    harness.loop.run()
    first, second = (record.placement for record in load_records(harness.layout.folder))
    assert first.worker == second.worker == "worker0" and first.pid is None
    assert 55 < first.queue_seconds <= first.idle_seconds <= 60
    assert second.idle_seconds == 6.0  # since the first one ended


def test_an_interrupt_leaves_no_record_and_the_trial_runs_again(make_harness):
    def outcome(trial):
        return (
            interrupted(trial, KeyboardInterrupt()) if trial.trial_id == "1" else finished(trial)
        )

    pool = Pool(1, outcome)
    harness = make_harness(pool, max_trials=3)
    with pytest.raises(KeyboardInterrupt):
        harness.loop.run()
    assert pool.stopped
    assert events_of(harness.events, "tracker")[-1] == ("1", KILLED, False)
    assert [record.trial_id for record in load_records(harness.layout.folder)] == ["0"]
    values = harness.oracle.trials["1"].hyperparameters.values
    resumed = make_harness(Pool(1), oracle=harness.oracle)
    resumed.loop.run()
    assert events_of(resumed.events, "begin") == [("1",), ("2",)]
    assert resumed.oracle.trials["1"].hyperparameters.values == values


def test_a_failed_trial_is_reported_with_its_message(make_harness):
    def outcome(trial):
        if trial.trial_id != "0":
            return finished(trial)
        trial.status, trial.message = TrialStatus.INVALID, "the worker died"
        record = TrialRecord(trial_id="0", values={"x": 0.0}, status=FAILED, error="died")
        return TrialOutcome(trial, record)

    harness = make_harness(Pool(2, outcome), max_trials=3)
    harness.loop.run()
    assert [harness.oracle.trials[key].status for key in "012"] == [
        "FAILED",
        "COMPLETED",
        "COMPLETED",
    ]
    assert harness.oracle.trials["0"].message == "the worker died"
    assert {r.trial_id: r.status for r in load_records(harness.layout.folder)}["0"] == FAILED


def test_a_record_of_an_earlier_process_is_reported_and_its_trial_is_not_run_again(make_harness):
    harness = make_harness(Pool(1), max_trials=2)
    trial = harness.oracle.create_trial("worker0")
    finished(trial).record.save(harness.layout.trial(trial.trial_id).folder)
    ran = []

    def outcome(trial):
        ran.append(trial.trial_id)
        return finished(trial)

    resumed = make_harness(Pool(1, outcome), oracle=harness.oracle)
    resumed.loop.run()
    assert ran == ["1"]
    assert events_of(resumed.events, "tracker") == [("0", FINISHED, True), ("1", FINISHED, True)]
    assert harness.oracle.trials["0"].score == trial.hyperparameters.values["x"]


def test_the_loop_waits_for_trials_in_flight_when_the_budget_ends(make_harness):
    budget = Budget(3600.0)
    budget.start()

    def outcome(trial):
        budget.deadline = time.monotonic()
        return finished(trial)

    harness = make_harness(Pool(3, outcome), budget=budget)
    harness.loop.run()
    assert harness.loop.stopped_by == "budget"
    assert [trial.status for trial in harness.oracle.trials.values()] == ["COMPLETED"] * 3


def test_a_trial_that_the_budget_interrupts_stays_pending(make_harness):
    harness = make_harness(
        Pool(1, lambda trial: interrupted(trial, BudgetExhaustedError("ended")))
    )
    harness.loop.run()
    assert harness.loop.stopped_by == "budget"
    assert list(load_records(harness.layout.folder)) == []
    assert [trial.status for trial in harness.oracle.trials.values()] == ["RUNNING"]


def test_the_loop_waits_while_the_oracle_is_idle(make_harness, monkeypatch):
    waited = []
    monkeypatch.setattr(loop_module.time, "sleep", waited.append)

    class Idle(RandomOracle):
        answers = 0

        def create_trial(self, tuner_id):
            self.answers += 1
            if self.answers in (1, 2, 4):
                return Trial(self.get_space(), status=TrialStatus.IDLE)
            return super().create_trial(tuner_id)

    oracle = Idle(keras_tuner.Objective("loss", "min"), max_trials=2, seed=0)
    harness = make_harness(Pool(1), oracle)
    harness.loop.run()
    assert len(waited) == 3 and len(harness.oracle.trials) == 2


def test_an_idle_oracle_does_not_delay_trials_in_flight(make_harness, monkeypatch):
    monkeypatch.setattr(loop_module.time, "sleep", lambda _: pytest.fail("it waited"))

    class Idle(RandomOracle):
        def create_trial(self, tuner_id):
            if self.ongoing_trials:
                return Trial(self.get_space(), status=TrialStatus.IDLE)
            return super().create_trial(tuner_id)

    oracle = Idle(keras_tuner.Objective("loss", "min"), max_trials=3, seed=0)
    pool = Pool(2)
    make_harness(pool, oracle).loop.run()
    assert len(oracle.trials) == 3 and pool.max_running == 1


def test_a_local_executor_runs_one_trial_at_a_time():
    trial = Trial(keras_tuner.HyperParameters(), trial_id="0")
    outcome = TrialOutcome(trial, TrialRecord(trial_id="0", values={}, status=FINISHED))
    executor = InProcessExecutor(lambda submitted: outcome, "tuner0")
    assert executor.free_slots() == ("tuner0",) and executor.collect() == ()
    executor.submit(trial, "tuner0")
    assert executor.free_slots() == () and executor.in_flight == 1
    assert executor.collect() == (outcome,)
    assert executor.free_slots() == ("tuner0",) and executor.in_flight == 0

"""The contract suite for executors: searches whose trials train nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.executors.base import ExecutorSettings
from keras_nas_plugin.oracles.random import RandomOracle
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord, load_records
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tuner import NASTuner

# What a trial does; the score of one that ends is its value of `x`.
_SCORE, _WAIT, _CRASH, _UNPICKLABLE, _GIVE_UP, _FATAL, _ENDLESS = (
    *("score", "wait for the next trial", "crash", "crash with an error that cannot be pickled"),
    *("raise FailedTrialError", "raise a fatal error", "never end"),
)
# How long a trial waits for another one, which may never run beside it.
_PATIENCE_SECONDS = 2.0
# An endless trial shows that often that it is alive; it is dead after several times as long.
_BEAT_SECONDS, _DEAD_SECONDS = 0.05, 0.5
# So that a trial that an executor forgets ends some time.
_ENDLESS_SECONDS = 120.0


class UnpicklableError(Exception):
    """An error that cannot be sent to another process."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("this error cannot be pickled")


class FatalTestError(keras_tuner.errors.FatalError):
    """An error that ends a search."""


class ScoringTuner(NASTuner):
    """A tuner whose trials do what `does` says.

    Attributes:
        does: What each trial does, by its hyperparameter ``number``; further ones have a score.
    """

    does: tuple[str, ...] = ()

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> dict[str, float]:
        """See `keras_tuner.Tuner.run_trial`."""
        values = trial.hyperparameters.values
        number, marks = values["number"], Path(self.project_dir) / "marks"
        marks.mkdir(exist_ok=True)
        (marks / f"began-{number}").touch()
        _perform(self.does[number] if number < len(self.does) else _SCORE, number, marks)
        (marks / f"ended-{number}").touch()
        return {"loss": values["x"]}


def _perform(does: str, number: int, marks: Path) -> None:
    if does == _WAIT:
        _wait_for(marks / f"ended-{number + 1}")
    if does == _FATAL:
        _wait_for(marks / f"began-{number - 1}")
        raise FatalTestError("a fatal error of the contract suite")
    if does == _CRASH:
        raise ValueError("a crash of the contract suite")
    if does == _UNPICKLABLE:
        raise UnpicklableError("an error of the contract suite that cannot be pickled")
    if does == _GIVE_UP:
        raise keras_tuner.errors.FailedTrialError("the contract suite gave up")
    deadline = time.monotonic() + _ENDLESS_SECONDS
    while does == _ENDLESS and time.monotonic() < deadline and not (marks / "release").exists():
        (marks / "alive").write_text(str(time.monotonic()))
        time.sleep(_BEAT_SECONDS)


def _wait_for(mark: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(_BEAT_SECONDS)


class _Events(Tracker):
    """Records what a tracker is told, and interrupts the search on request.

    Args:
        interrupt_at: The user presses Ctrl-C when that many trials have started, and one has
            ended; None for never.
    """

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.started: list[str] = []
        self.ended: list[TrialRecord] = []
        self._interrupt_at = interrupt_at

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self.started.append(trial_id)
        self._interrupt()

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        self.ended.append(record)
        self._interrupt()

    def _interrupt(self) -> None:
        if len(self.started) == self._interrupt_at and self.ended:
            self._interrupt_at = None
            raise KeyboardInterrupt

    def statuses(self) -> dict[str, str]:
        """How each trial ended; it must have ended once."""
        ids = [record.trial_id for record in self.ended]
        assert len(set(ids)) == len(ids), f"each trial must end once; got {ids}"
        return {record.trial_id: record.status for record in self.ended}


def _tuner(
    executor: ExecutorSettings | None,
    folder: Path,
    does: tuple[str, ...],
    events: _Events,
) -> ScoringTuner:
    """A search whose trials do one thing after the other."""
    space = keras_tuner.HyperParameters()
    space.Int("number", 0, 1_000_000)
    space.Float("x", 0.0, 1.0)
    tuner = ScoringTuner(
        oracle=RandomOracle(
            keras_tuner.Objective("loss", "min"),
            max_trials=len(does),
            seed=1,
            hyperparameters=space,
            initial=[{"number": number, "x": 1 / (1 + number)} for number in range(len(does))],
            max_consecutive_failed_trials=0,
        ),
        executor=executor,
        listeners=[events],
        directory=folder.parent,
        project_name=folder.name,
    )
    tuner.does = does
    return tuner


def _check_results(tuner: NASTuner, count: int) -> None:
    """All trials are finished, with the scores of their own values, on disk and in the oracle."""
    records = list(load_records(tuner.project_dir))
    assert len(records) == count, f"{count} trials must leave a record; got {len(records)}"
    for record in records:
        trial = tuner.oracle.trials[record.trial_id]
        assert record.status == FINISHED, f"trial {record.trial_id}: {record.error}"
        assert trial.status == TrialStatus.COMPLETED, f"the oracle was told {trial.status}"
        x = record.values["x"]
        assert record.score == trial.score == x, (
            f"trial {record.trial_id} must have the score {x} of its values; the record says "
            f"{record.score}, the oracle {trial.score}"
        )


def trials_run_once(executor: ExecutorSettings | None, folder: Path) -> None:
    """Every trial starts once and ends once, in any order, with its own result."""
    events = _Events()
    does = (_WAIT, _SCORE, _SCORE, _WAIT, _SCORE, _SCORE)
    tuner = _tuner(executor, folder, does, events)
    tuner.search(verbose=0)
    ids = sorted(tuner.oracle.trials)
    assert sorted(events.started) == ids, f"trials {ids} must start once; got {events.started}"
    assert events.statuses() == dict.fromkeys(ids, FINISHED), f"got {events.statuses()}"
    _check_results(tuner, len(does))


def failures_are_results(executor: ExecutorSettings | None, folder: Path) -> None:
    """Whatever a trial raises is how it ended, and the others run."""
    does = (_CRASH, _UNPICKLABLE, _GIVE_UP, _SCORE)
    messages = ("a crash of the", "cannot be pickled", "the contract suite gave up")
    tuner = _tuner(executor, folder, does, _Events())
    tuner.search(verbose=0)
    records = {record.values["number"]: record for record in load_records(tuner.project_dir)}
    assert sorted(records) == [0, 1, 2, 3], f"each trial must leave a record; got {records}"
    for number, message in enumerate(messages):
        record = records[number]
        assert record.status == FAILED, (
            f"a trial that was to {does[number]} must be {FAILED}; got {record.status}"
        )
        assert message in (record.error or ""), f"its error must say why; got {record.error!r}"
        trial = tuner.oracle.trials[record.trial_id]
        assert trial.status == TrialStatus.FAILED, f"the oracle was told {trial.status}"
        assert message in (trial.message or ""), f"so must its message; got {trial.message!r}"
    assert records[3].status == FINISHED, f"got {records[3].status}: {records[3].error}"


def slots_keep_their_names(executor: ExecutorSettings | None, folder: Path) -> None:
    """A search that is resumed has the slots that it had before."""
    names = []
    for count in (4, 8):
        tuner = _tuner(executor, folder, (_WAIT, _SCORE) * (count // 2), _Events())
        tuner.search(verbose=0)
        records = list(load_records(tuner.project_dir))[count - 4 :]
        names.append({record.placement.worker for record in records if record.placement})
    assert names[0] and names[1] <= names[0], f"slots were {names[0]} and then {names[1]}"


def fatal_errors_stop_the_others(executor: ExecutorSettings | None, folder: Path) -> None:
    """An error that ends the search reaches the caller, and no trial runs any longer."""
    events = _Events()
    # Where trials run one after the other, there are no others.
    does = (_ENDLESS, _FATAL) if _runs_several(executor, folder) else (_SCORE, _FATAL)
    tuner = _tuner(executor, folder, does, events)
    try:
        tuner.search(verbose=0)
    except FatalTestError as error:
        assert "a fatal error of the contract suite" in str(error), f"got {error}"
    else:
        raise AssertionError("the error did not reach the caller of `search`")
    _check_stopped(tuner, events)
    statuses = events.statuses()
    assert list(statuses.values()).count(KILLED) == (does[0] == _ENDLESS), f"got {statuses}"


def interrupts_kill_trials(executor: ExecutorSettings | None, folder: Path) -> None:
    """Ctrl-C kills what runs; what has finished is kept, the rest runs again on resume."""
    several = _runs_several(executor, folder)
    does = (_SCORE, _ENDLESS, _ENDLESS) if several else (_SCORE, _ENDLESS)
    events = _Events(interrupt_at=len(does))
    tuner = _tuner(executor, folder, does, events)
    try:
        tuner.search(verbose=0)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("the interrupt did not reach the caller of `search`")
    _check_stopped(tuner, events)
    killed = sorted(record.trial_id for record in events.ended if record.status == KILLED)
    unfinished = sorted(set(tuner.oracle.trials) - {"0"})
    assert killed == unfinished, f"trials {unfinished} must end as KILLED; got {killed}"
    resumed = _Events()
    again = _tuner(executor, folder, (*does, _SCORE), resumed)
    (Path(tuner.project_dir) / "marks" / "release").touch()  # the endless trials end now
    again.search(verbose=0)
    assert "0" not in resumed.started, "a trial that had finished was trained again"
    _check_results(again, len(does) + 1)


def _runs_several(executor: ExecutorSettings | None, folder: Path) -> bool:
    """Whether the executor trains several trials at once."""
    events = _Events()
    tuner = _tuner(executor, folder.parent / f"{folder.name}-slots", (_WAIT, _SCORE), events)
    tuner.search(verbose=0)
    return [record.values["number"] for record in events.ended] == [1, 0]


def _check_stopped(tuner: NASTuner, events: _Events) -> None:
    alive = Path(tuner.project_dir) / "marks" / "alive"
    before = alive.read_text() if alive.exists() else None
    time.sleep(_DEAD_SECONDS if before else 0.0)
    assert before is None or alive.read_text() == before, "a trial runs after the search ended"
    unended = set(events.started) - {record.trial_id for record in events.ended}
    assert not unended, f"trackers must be told how trials {sorted(unended)} ended"
    records = list(load_records(tuner.project_dir))
    assert all(record.status != KILLED for record in records), "a killed trial left a record"


#: Properties of an executor: name, and a check that raises AssertionError where it is violated.
EXECUTOR_PROPERTIES: Mapping[str, Callable[[ExecutorSettings | None, Path], None]] = {
    check.__name__: check
    for check in (
        trials_run_once,
        failures_are_results,
        slots_keep_their_names,
        fatal_errors_stop_the_others,
        interrupts_kill_trials,
    )
}


def check_executor(executor: ExecutorSettings | None, property_name: str) -> None:
    """Check one property of an executor in a temporary folder.

    Args:
        executor: What `NASTuner` takes as ``executor``; several searches use it.
        property_name: A key of `EXECUTOR_PROPERTIES`.

    Raises:
        AssertionError: The property is violated; the message says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        EXECUTOR_PROPERTIES[property_name](executor, Path(folder) / "search")


class ExecutorContract:
    """Base class of a pytest class with one test per property of an executor.

    ```python
    class TestMyExecutor(ExecutorContract):
        executor = MyExecutor(slots=2)
    ```

    Trials train nothing, so the suite takes seconds beside the time to start workers.

    Attributes:
        executor: What `NASTuner` takes as ``executor``, with at most four slots.
    """

    executor: ExecutorSettings | None


def _test_of(name: str) -> Callable[[ExecutorContract], None]:
    def test(self: ExecutorContract) -> None:
        check_executor(self.executor, name)

    test.__name__, test.__doc__ = f"test_{name}", EXECUTOR_PROPERTIES[name].__doc__
    return test


for _name in EXECUTOR_PROPERTIES:
    setattr(ExecutorContract, f"test_{_name}", _test_of(_name))

"""The session of a search: its lock, start, status and end."""

from __future__ import annotations

import keras_tuner
import pytest

from keras_nas_plugin import RandomOracle, Tracker
from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.project import ProjectLayout, holds_search_lock
from keras_nas_plugin.records.search import DatasetInfo, SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord, load_run_id
from keras_nas_plugin.roles import Role
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.search_session import SearchSession


class Log(Tracker):
    def __init__(self):
        self.events = []

    def search_started(self, search, records):
        self.events.append(("started", search.search_id, len(list(records))))

    def search_ended(self, status):
        self.events.append(("ended", status))

    def flush(self):
        self.events.append(("flush",))

    def run_id(self, trial_id):
        return f"run-{trial_id}"


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def make(tmp_path, log):
    def context(role=Role.SINGLE, tracker=log, **options):
        oracle = RandomOracle(keras_tuner.Objective("loss", "min"), max_trials=2)
        return SearchContext(
            layout=ProjectLayout(tmp_path),
            name="p",
            oracle=oracle,
            get_space=oracle.get_space,
            hypermodel=None,
            trackers=CompositeTracker([tracker]),
            role=role,
            **options,
        )

    return context


def info(folder, digest="a"):
    dataset = DatasetInfo(name="data", context="training", digest=digest, profile={})
    return SearchInfo(
        search_id="s",
        name="p",
        objective="loss",
        direction="min",
        strategy="RandomOracle",
        max_trials=2,
        datasets=(dataset,),
        directory=str(folder),
    )


def test_a_search_that_ends_is_finished_and_its_runs_are_written(make, log, tmp_path):
    folder = tmp_path / "trial_0"
    folder.mkdir()
    TrialRecord(trial_id="0", values={}, status=FINISHED).save(folder)
    with SearchSession(make()) as session:
        assert holds_search_lock(tmp_path)
        records = session.start(info(tmp_path))
        assert [record.trial_id for record in records] == ["0"]
    assert not holds_search_lock(tmp_path)
    assert log.events == [("started", "s", 1), ("ended", FINISHED)]
    assert load_run_id(folder) == "run-0"
    assert SearchInfo.load(tmp_path).search_id == "s"


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt, KILLED), (SystemExit, KILLED), (ValueError, FAILED)],
)
def test_the_status_follows_from_the_error_that_ended_the_search(
    make, log, tmp_path, error, status, caplog
):
    with pytest.raises(error), SearchSession(make()) as session:
        session.start(info(tmp_path))
        raise error
    assert log.events[-1] == ("ended", status)
    assert ("Interrupted. Run the same program again" in caplog.text) == (status == KILLED)
    assert not holds_search_lock(tmp_path)


def test_a_search_with_a_resume_command_logs_no_advice_to_run_the_program_again(
    make, tmp_path, caplog
):
    context = make(resume_command="keras-nas search --resume")
    with pytest.raises(KeyboardInterrupt), SearchSession(context) as session:
        session.start(info(tmp_path))
        raise KeyboardInterrupt
    assert "Interrupted" not in caplog.text


def test_a_worker_neither_locks_nor_ends_the_search(make, log, tmp_path):
    with SearchSession(make(Role.CHIEF)), SearchSession(make(Role.WORKER)) as session:
        session.start(info(tmp_path))
    assert log.events == [("started", "s", 0), ("flush",)]


def test_two_sessions_cannot_hold_the_lock_of_the_same_search(make):
    with (
        SearchSession(make()),
        pytest.raises(StateError, match="no other process is running"),
        SearchSession(make()),
    ):
        pytest.fail("two sessions hold the lock")


def test_a_session_that_was_not_started_reports_nothing(make, log, tmp_path):
    with pytest.raises(ValueError), SearchSession(make()):
        raise ValueError
    assert log.events == []


def test_a_tracker_that_rejects_the_search_is_not_notified_of_its_end(make, tmp_path):
    class RejectingTracker(Log):
        def search_started(self, search, records):
            raise TrackingError("no such server")

    tracker = RejectingTracker()
    with (
        pytest.raises(TrackingError, match="no such server"),
        SearchSession(make(tracker=tracker)) as session,
    ):
        session.start(info(tmp_path))
    assert tracker.events == []


@pytest.mark.parametrize("digest", ["a", "b"])
def test_resuming_with_different_data_logs_a_warning(make, tmp_path, digest, caplog):
    info(tmp_path).save()
    with SearchSession(make()) as session:
        session.start(info(tmp_path, digest))
    assert ("resumes with different data" in caplog.text) == (digest == "b")

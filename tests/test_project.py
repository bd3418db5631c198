"""Names of the files in a project folder, and the lock on a search."""

import subprocess
import sys

import pytest

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.project import (
    ProjectLayout,
    TrialLayout,
    exclusive_search_lock,
    holds_search_lock,
    search_id,
)

HOLD_LOCK = """
import sys
from keras_nas_plugin.project import exclusive_search_lock
with exclusive_search_lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_every_file_has_a_distinct_path(tmp_path):
    project, trial = ProjectLayout(tmp_path), ProjectLayout(tmp_path).trial("07")
    paths = [
        getattr(layout, name)
        for layout in (project, trial)
        for name, member in vars(type(layout)).items()
        if isinstance(member, property) and name != "trial_id"
    ]
    assert len(paths) > 20
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(tmp_path) for path in paths)


def test_trials_are_listed_in_the_order_of_their_ids(tmp_path):
    project = ProjectLayout.of(str(tmp_path))
    for trial_id in ("10", "2", "1", "001"):
        project.trial(trial_id).folder.mkdir()
    assert [trial.trial_id for trial in project.trials()] == ["1", "2", "10", "001"]


def test_states_of_last_epochs_are_deleted_for_all_executions(tmp_path):
    trial = TrialLayout(tmp_path)
    for execution in range(3):
        trial.last_epoch(execution).write_text("state")
    trial.state.write_text("{}")
    trial.discard_last_epochs()
    assert [path.name for path in tmp_path.iterdir()] == ["trial.json"]


def test_the_search_id_is_persistent(tmp_path):
    assert search_id(tmp_path) == search_id(tmp_path)
    assert ProjectLayout(tmp_path).search_id.read_text() == search_id(tmp_path)


def test_the_lock_of_a_search_is_held_inside_the_block_only(tmp_path):
    assert not holds_search_lock(tmp_path)
    with exclusive_search_lock(tmp_path):
        assert holds_search_lock(tmp_path)
        assert not holds_search_lock(tmp_path / "elsewhere")
    assert not holds_search_lock(tmp_path)


def test_a_worker_does_not_lock_the_search(tmp_path):
    with exclusive_search_lock(tmp_path), exclusive_search_lock(tmp_path, exclusive=False):
        assert holds_search_lock(tmp_path)
    with exclusive_search_lock(tmp_path, exclusive=False):
        assert not holds_search_lock(tmp_path)


def test_a_locked_search_is_rejected_until_the_locking_process_is_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "locked\n"
        lock = exclusive_search_lock(tmp_path)
        with pytest.raises(StateError, match="no other process is running"), lock:
            pass
    finally:
        process.kill()
        process.communicate()
    with exclusive_search_lock(tmp_path):
        assert holds_search_lock(tmp_path)

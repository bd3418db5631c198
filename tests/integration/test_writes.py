"""A full disk, or a kill between the writing of two files, loses no finished trial."""

from __future__ import annotations

import signal

import pytest

from keras_nas_plugin.files import read_json
from keras_nas_plugin.records.trial import FINISHED, load_records
from tests.integration import harvest

TRIALS = 4
TARGET = "tests.integration.killable:search"

WRITTEN = [
    "trial.json",
    "oracle.json",
    "checkpoint.weights.h5",
    "build_config.json",
    "record.json",
    "search.json",
    "tuner0.json",
]


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    child = server.run(TARGET, cwd=folder, attempt=0, max_trials=TRIALS, store=None)
    assert child.returncode == 0, child.err
    return read_json(folder / "result.json")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_full_disk_loses_no_finished_trial(server, tmp_path, undisturbed, name):
    child = server.run(TARGET, cwd=tmp_path, attempt=0, max_trials=TRIALS, full=name)
    assert child.returncode == 1
    assert "No space left on device" in child.err.splitlines()[-1]
    project = tmp_path / "searches" / "digits"
    finished = list(load_records(project))
    assert {record.status for record in finished} <= {FINISHED}
    before = len(harvest.completed(tmp_path))
    child = server.run(TARGET, cwd=tmp_path, attempt=1, max_trials=TRIALS)
    assert child.returncode == 0, child.err
    result = read_json(tmp_path / "result.json")
    assert result["trials"] == undisturbed["trials"]
    assert result["best"] == undisturbed["best"]
    after = len(harvest.completed(tmp_path)) - before
    assert after == TRIALS - len(finished), "finished trials are not trained again"


@pytest.mark.parametrize(
    ("name", "warning"), [("1.json", "Trial 1 cannot be saved to the outbox"), ("run.json", "")]
)
def test_a_full_disk_for_files_of_the_tracker_does_not_end_the_search(
    server, new_store, tmp_path, undisturbed, name, warning
):
    store = new_store(tmp_path)
    child = server.run(TARGET, cwd=tmp_path, attempt=0, max_trials=TRIALS, store=store, full=name)
    assert child.returncode == 0, child.err
    assert warning in child.err
    assert read_json(tmp_path / "result.json")["trials"] == undisturbed["trials"]
    assert len(harvest.trial_runs(store, tmp_path)) == TRIALS


@pytest.mark.parametrize(
    ("name", "times", "trained"),
    [
        ("trial.json", 1, 0),  # proposed, but not in the oracle's file
        ("oracle.json", 2, 0),  # in the oracle's file, but not started
        ("checkpoint.weights.h5", 1, 0),  # trained, but without a record
        ("record.json", 1, 1),  # recorded, but not reported to the oracle
        ("trial.json", 2, 1),  # reported, but the enlarged space was not saved
        ("oracle.json", 3, 1),
    ],
)
def test_a_kill_after_writing_a_file_loses_no_trial(
    server, tmp_path, undisturbed, name, times, trained
):
    options = {"cwd": tmp_path, "max_trials": TRIALS}
    child = server.run(TARGET, attempt=0, kill_after=[name, times], **options)
    assert child.returncode == -signal.SIGKILL, child.err
    before = len(harvest.completed(tmp_path))
    child = server.run(TARGET, attempt=1, **options)
    assert child.returncode == 0, child.err
    result = read_json(tmp_path / "result.json")
    assert result["trials"] == undisturbed["trials"]
    assert len(harvest.completed(tmp_path)) - before == TRIALS - trained

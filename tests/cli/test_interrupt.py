"""Searches that end early: by Ctrl-C, by a signal, or by the time budget."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import ENDLESS
from tests.integration import harvest

SEARCH = "search recipe.py:Endless --max-trials 3 --epochs 1 --seed 0 --json"


@pytest.fixture
def endless(write, tmp_path, new_store):
    """The command of a search whose second trial never ends."""
    write(ENDLESS)
    (tmp_path / "endless").touch()
    return f"{SEARCH} --tracking-uri {new_store(tmp_path)}"


class Terminal:
    """A terminal that collects the text written to it."""

    def __init__(self):
        self.keyboard, self._slave = pty.openpty()
        self.name = os.ttyname(self._slave)
        self.shown = b""

    def read(self, seconds=0.05):
        with contextlib.suppress(OSError):
            while select.select([self.keyboard], [], [], seconds)[0]:
                self.shown += os.read(self.keyboard, 65536)

    def close(self):
        os.close(self._slave)
        os.close(self.keyboard)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


def wait_for(path, child, poll=lambda: None):
    """Wait until the running trial has written the file ``path``; calls ``poll`` meanwhile."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert child.poll() is None, child.err
        assert time.monotonic() < deadline
        poll()
        time.sleep(0.02)


def run_statuses(folder):
    """Status of the run of each trial, by trial id; that of the search is under None."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    logged = client.search_runs(ids)
    statuses = {run.data.tags.get("nas.trial_id"): run.info.status for run in logged}
    assert len(statuses) == len(logged), "one run per trial"
    return statuses


def shell_words(command, folder):
    """The words into which a shell splits a command."""
    program = f"printf '%s\\0' {command}"
    printed = subprocess.run(program, shell=True, cwd=folder, capture_output=True, check=True)
    return printed.stdout.decode().split("\0")[:-1]


def finished(nas):
    return {trial["trial_id"]: trial["score"] for trial in json.loads(nas("trials --json").out)}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_a_signal_kills_the_running_trial_only(endless, nas, tmp_path, number, code):
    child = nas(endless, wait=False)
    wait_for(tmp_path / "training", child)
    child.signal(number)
    assert child.wait() == code, child.err
    assert child.out == "" and "Traceback" not in child.err
    assert run_statuses(tmp_path) == {None: "KILLED", "0": "FINISHED", "1": "KILLED"}
    before = finished(nas)
    assert before.keys() == {"0"}
    (command,) = re.findall(r"^  (keras-nas .*)$", child.err, re.MULTILINE)
    (tmp_path / "endless").unlink()
    program, *words = shell_words(command, tmp_path)
    assert program == "keras-nas"
    process = nas(words=words)
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["trials"] == {"finished": 3, "failed": 0}
    assert finished(nas).items() >= before.items()
    assert len(harvest.trial_runs(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)) == 3


def test_control_c_in_a_terminal_ends_the_search_and_shows_how_to_resume_it(
    endless, nas, tmp_path, terminal
):
    child = nas(endless, wait=False, tty=terminal.name, environment={"TERM": "xterm"})
    wait_for(tmp_path / "training", child, terminal.read)
    for _ in range(8):  # the live line is drawn four times a second
        terminal.read(0.15)
    os.write(terminal.keyboard, b"\x03")
    deadline = time.monotonic() + 60
    while child.poll() is None and time.monotonic() < deadline:
        terminal.read()
    terminal.read()
    assert child.wait(1) == 130
    text = terminal.shown.decode()
    assert "Interrupted. All finished trials are kept" in text
    assert "keras-nas search recipe.py:Endless" in text and "--resume" in text
    assert "Traceback" not in text
    # One live line, drawn repeatedly: number, best so far, time left.
    drawn = re.findall(r"trial 2/3 [^\n\r]*", text)
    assert drawn and all("best val_loss" in line for line in drawn)
    assert any("epoch" in line for line in drawn)
    assert "\x1b[2K" in text
    assert "trial 0 (1/3): val_loss" not in text, "no line per trial"
    assert run_statuses(tmp_path)["1"] == "KILLED"


def test_the_budget_stops_the_running_trial_and_resuming_runs_it_again(endless, nas, tmp_path):
    first = nas(endless, "--max-trials 1")
    assert first.returncode == 0, first.err
    seconds = json.loads(first.out)["best"]["seconds"]
    # Longer than the first trial took, so that the second one starts; it never ends.
    process = nas(endless, f"--budget {seconds + 1.5:.3f}s")
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["stopped_by"] == "budget"
    assert result["trials"] == {"finished": 1, "failed": 0}
    assert run_statuses(tmp_path) == {None: "FINISHED", "0": "FINISHED", "1": "KILLED"}
    # Shorter than the longest trial: no trial starts.
    process = nas(endless, f"--budget {seconds / 2:.3f}s")
    assert json.loads(process.out)["trials"] == {"finished": 1, "failed": 0}
    assert "budget" in json.loads(process.out)["stopped_by"]
    before = finished(nas)
    (tmp_path / "endless").unlink()
    process = nas(endless, "--resume")
    assert process.returncode == 0, process.err
    assert json.loads(process.out)["trials"] == {"finished": 3, "failed": 0}
    assert json.loads(process.out)["stopped_by"] is None
    assert finished(nas).items() >= before.items()
    assert len(harvest.trial_runs(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)) == 3


def test_a_terminal_shows_no_live_line_of_a_finished_search(write, nas, tmp_path, terminal):
    write()
    words = "search recipe.py --max-trials 2 --epochs 1 --no-tracking"
    child = nas(words, wait=False, tty=terminal.name, environment={"TERM": "xterm"})
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        terminal.read()
    terminal.read()
    assert child.wait(1) == 0
    last = terminal.shown.decode().rsplit("\x1b[2K", 1)[-1]
    assert "2 trials finished." in last and "Best: trial" in last
    assert "trial 2/2" not in last

"""Searches that end early: by a person, by the system, by the clock."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ENDLESS
from tests.integration import harvest

SEARCH = "search recipe.py:Endless --max-trials 3 --epochs 1 --seed 0 --json"


@pytest.fixture
def endless(write, tmp_path, new_store):
    """A search whose second trial never ends; its command."""
    write(ENDLESS)
    (tmp_path / "endless").touch()
    return f"{SEARCH} --tracking-uri {new_store(tmp_path)}"


class Terminal:
    """A terminal that collects what is shown on it."""

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
    made = Terminal()
    yield made
    made.close()


def wait_for(path, child, each=lambda: None):
    """Wait until the running trial has written a file."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert child.poll() is None, child.err
        assert time.monotonic() < deadline
        each()
        time.sleep(0.02)


def runs(folder):
    """Status by trial id of the trials' runs, and of the search under None."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids)
    shown = {run.data.tags.get("nas.trial_id"): run.info.status for run in found}
    assert len(shown) == len(found), "one run per trial"
    return shown


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
    assert runs(tmp_path) == {None: "KILLED", "0": "FINISHED", "1": "KILLED"}
    kept = finished(nas)
    assert kept.keys() == {"0"}
    (command,) = re.findall(r"^  (keras-nas .*)$", child.err, re.MULTILINE)
    (tmp_path / "endless").unlink()
    if number == signal.SIGINT:
        # To the letter, in a shell.
        folder = Path(sys.executable).parent
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
    else:
        done = nas(command.removeprefix("keras-nas "))
        assert done.returncode == 0, done.err
        result = json.loads(done.out)
    assert result["trials"] == {"finished": 3, "failed": 0}
    assert finished(nas).items() >= kept.items()
    assert len(harvest.trial_runs(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)) == 3


def test_control_c_in_a_terminal(endless, nas, tmp_path, terminal):
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
    shown = terminal.shown.decode()
    assert "Interrupted. All finished trials are kept" in shown
    assert "keras-nas search recipe.py:Endless" in shown and "--resume" in shown
    assert "Traceback" not in shown
    # One live line, drawn again and again: number, best so far, time left.
    drawn = re.findall(r"trial 2/3 [^\n\r]*", shown)
    assert drawn and all("best val_loss" in line for line in drawn)
    assert any("epoch" in line for line in drawn)
    assert "\x1b[2K" in shown
    assert "trial 0 (1/3): val_loss" not in shown, "no line per trial"
    assert runs(tmp_path)["1"] == "KILLED"


def test_the_budget_cuts_the_running_trial_and_a_resume_runs_it_again(endless, nas, tmp_path):
    first = nas(endless, "--max-trials 1")
    assert first.returncode == 0, first.err
    took = json.loads(first.out)["best"]["seconds"]
    # Longer than the first trial took, so that the second is started; it never ends.
    done = nas(endless, f"--budget {took + 1.5:.3f}s")
    assert done.returncode == 0, done.err
    result = json.loads(done.out)
    assert result["stopped_by"] == "budget"
    assert result["trials"] == {"finished": 1, "failed": 0}
    assert runs(tmp_path) == {None: "FINISHED", "0": "FINISHED", "1": "KILLED"}
    # Shorter than the longest trial: none is started.
    done = nas(endless, f"--budget {took / 2:.3f}s")
    assert json.loads(done.out)["trials"] == {"finished": 1, "failed": 0}
    assert "budget" in json.loads(done.out)["stopped_by"]
    kept = finished(nas)
    (tmp_path / "endless").unlink()
    done = nas(endless, "--resume")
    assert done.returncode == 0, done.err
    assert json.loads(done.out)["trials"] == {"finished": 3, "failed": 0}
    assert json.loads(done.out)["stopped_by"] is None
    assert finished(nas).items() >= kept.items()
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

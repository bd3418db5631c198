"""The progress display on a terminal, with one trial at a time and with several."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from keras_nas_plugin import ProgressDisplay
from tests.reports.conftest import failed, record_of, search_info


@pytest.fixture
def show():
    """What a terminal shows last, after these events."""

    def run(*events, **options):
        file = io.StringIO()
        display = ProgressDisplay(Console(file=file, force_terminal=True, width=120), **options)
        display.search_started(search_info(".", max_trials=20), [])
        for event, *content in events:
            getattr(display, event)(*content)
        display.search_ended("KILLED")
        shown = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", file.getvalue())
        return [line for line in shown.splitlines() if line]

    return run


def started(number):
    return "trial_started", f"{number:04d}", {"width": 8}


def epoch(number, index, score):
    return "epoch_ended", f"{number:04d}", index, {"val_accuracy": score, "loss": 1.0}


def ended(number, score):
    return "trial_ended", record_of(number, {"width": 8}, score)


def test_a_single_trial_is_on_the_line_of_the_search(show):
    line = show(started(0), ended(0, 0.5), started(1), epoch(1, 0, 0.25), epochs=3)[-1]
    assert line.startswith("trial 2/20  ·  epoch 1/3, val_accuracy 0.2500, ")
    assert line.endswith("  ·  best val_accuracy 0.5000 (trial 0000)  ·  about 1 min 55 s left")


def test_several_trials_have_a_line_each(show):
    events = [started(number) for number in range(4)]
    failure = failed(1, {"width": 8}, "ValueError: no way")
    events += [ended(0, 0.5), ("trial_ended", failure), epoch(3, 1, 0.75)]
    first, second, third = show(*events, epochs=5)[-3:]
    assert first.startswith("2/20 trials  ·  1 failed  ·  best val_accuracy 0.5000 (trial 0000)")
    assert first.endswith("about 27 s left")  # 18 trials of 6 s, four at once
    assert second.startswith("  trial 0002: building, ")
    assert third.startswith("  trial 0003: epoch 2/5, val_accuracy 0.7500, ")


def test_trials_beyond_eight_are_counted(show):
    assert show(*[started(number) for number in range(11)])[-1] == "  and 3 more"

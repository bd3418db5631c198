"""A signal whose exception Python dropped still ends the search; passwords stay at home."""

import sys

import pytest

from keras_nas_plugin.cli.progress import Interrupter
from keras_nas_plugin.cli.search import _resume_command, search


def test_a_dropped_interrupt_is_raised_at_the_next_epoch_or_trial():
    signals = []
    interrupter = Interrupter(signals)
    interrupter.trial_started("0", {})
    interrupter.epoch_ended("0", 0, {})
    signals.append(2)
    with pytest.raises(KeyboardInterrupt):
        interrupter.epoch_ended("0", 1, {})
    with pytest.raises(KeyboardInterrupt):
        interrupter.trial_started("1", {})


GOES_ON = "keras-nas search file.py{} --resume"


@pytest.mark.parametrize("spelling", ["--tracking-uri {}", "--tracking-uri={}"])
def test_the_command_that_goes_on_has_no_password(spelling, monkeypatch):
    words = ["search", "file.py", *spelling.format("http://me:it's@host:5000").split()]
    assert command(words, monkeypatch) == GOES_ON.format(f" {spelling.format('http://host:5000')}")
    assert command(["search", "file.py"], monkeypatch) == GOES_ON.format("")


@pytest.mark.parametrize(
    ("address", "shown"),
    [("http://host:5000", " --tracking-uri http://host:5000"), ("http://me:secret@host", "")],
)
def test_an_address_of_the_environment_is_part_of_it_unless_it_is_secret(
    address, shown, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert command(["search", "file.py"], monkeypatch) == GOES_ON.format(shown)


def command(words, monkeypatch):
    """What would be printed as the command that goes on after these words."""
    monkeypatch.setattr(sys, "argv", ["keras-nas", *words])
    return _resume_command(search.make_context("search", words[1:]))

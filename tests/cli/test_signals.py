"""A signal whose exception Python dropped still ends the search; passwords stay at home."""

import pytest

from keras_nas_plugin.cli.progress import Interrupter
from keras_nas_plugin.cli.search import _without_password


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


def test_the_command_that_is_stored_has_no_password():
    uri = "http://me:secret@host:5000"
    command = f"keras-nas search file.py --tracking-uri {uri} --resume"
    stored = _without_password(command, uri)
    assert stored == "keras-nas search file.py --tracking-uri http://host:5000 --resume"
    assert _without_password(command, None) == command

"""Resume commands contain no password."""

import sys

import pytest

from keras_nas_plugin.cli.search import _resume_command, search

RESUME_COMMAND = "keras-nas search file.py{} --resume"


@pytest.mark.parametrize("spelling", ["--tracking-uri {}", "--tracking-uri={}"])
def test_the_resume_command_has_no_password(spelling, monkeypatch):
    words = ["search", "file.py", *spelling.format("http://me:it's@host:5000").split()]
    assert resume_command(words, monkeypatch) == RESUME_COMMAND.format(
        f" {spelling.format('http://host:5000')}"
    )
    assert resume_command(["search", "file.py"], monkeypatch) == RESUME_COMMAND.format("")


@pytest.mark.parametrize(
    ("address", "option"),
    [("http://host:5000", " --tracking-uri http://host:5000"), ("http://me:secret@host", "")],
)
def test_the_resume_command_includes_an_address_from_the_environment_unless_it_has_a_password(
    address, option, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert resume_command(["search", "file.py"], monkeypatch) == RESUME_COMMAND.format(option)


def resume_command(words, monkeypatch):
    """The command that is printed to resume the search that ``words`` started."""
    monkeypatch.setattr(sys, "argv", ["keras-nas", *words])
    return _resume_command(search.make_context("search", words[1:]))

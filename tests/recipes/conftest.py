"""What the tests of the recipes share."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import keras
import mlflow
import pytest

import recipes
from keras_nas_plugin.training import search_session
from tests import stores

# The recipes of this checkout, where the installed package may have those of another.
sys.modules["keras_nas_plugin.recipes"] = recipes
from keras_nas_plugin.recipes import running  # noqa: E402


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NAS_DATASET", raising=False)
    monkeypatch.delenv("NAS_LIMIT", raising=False)
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def _untraced(model: keras.Model) -> keras.Model:
    """A model whose training is not traced; what is loaded from its files is again."""
    model.run_eagerly = True
    return model


@pytest.fixture
def smoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, dict[str, float]]]:
    """Runs a recipe's smoke test; returns the metrics that it prints, by contestant.

    Its only trial has the defaults of the space but for the values that are given, by name. It
    trains without a graph unless it is to be traced, for losses that are not those of Keras.
    """
    monkeypatch.setattr(running, "SMOKE_TRIALS", 1)  # each trial takes seconds to trace
    monkeypatch.setattr(search_session, "write_report", lambda context: None)  # tested elsewhere
    defaults = running._defaults

    def run(
        recipe: ModuleType,
        *arguments: str,
        values: Mapping[str, object] | None = None,
        traced: bool = False,
    ) -> dict[str, dict[str, float]]:
        if not traced:
            untraced = dataclasses.replace(
                recipe.RECIPE, build_model=lambda hp: _untraced(recipe.build_model(hp))
            )
            monkeypatch.setattr(recipe, "RECIPE", untraced)
        monkeypatch.setattr(
            running, "_defaults", lambda recipe: {**defaults(recipe), **(values or {})}
        )
        folder = tmp_path / "current"
        folder.mkdir()
        monkeypatch.chdir(folder)
        recipe.main(["--smoke", "--tracking-uri", stores.new_database(tmp_path), *arguments])
        out = run.out = capsys.readouterr().out
        assert list(folder.iterdir()) == []  # nothing is left behind
        assert all(f"\n{name}: {value}\n" in out for name, value in (values or {}).items()), out
        line = re.search(
            r"^models:/[\w-]+@challenger: (.+) on \d+ test rows \(the search never saw them\)$",
            out,
            re.MULTILINE,
        )
        assert line, out
        pairs = [pair.rsplit(" ", 1) for pair in line[1].split(", ")]
        scores = {"search": {name: float(value) for name, value in pairs}}
        names = list(scores["search"])
        for row in re.findall(r"^(\w.+?)  +(-?\d.*)$", out, re.MULTILINE):
            scores[row[0]] = dict(zip(names, map(float, row[1].split()), strict=False))
        return scores

    return run

"""The program that the recipes share, by the recipe of images."""

from __future__ import annotations

import doctest
import hashlib
import importlib
import os
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_nas_plugin.cli.recipe import Recipe, split_arguments
from keras_nas_plugin.errors import NASError
from keras_nas_plugin.oracles.objectives import checked_objective
from keras_nas_plugin.recipes import running
from recipes import image_classification as recipe

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path for path in (ROOT / "recipes").glob("*.py") if "\nRECIPE = " in path.read_text("utf-8")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_line_searches_each_recipe(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_LIMIT", "30")
    file = Recipe(str(path))
    assert checked_objective(file.objective) is not None  # its direction is clear
    loaded = file.load()
    arguments, drawn = split_arguments(loaded, seed=0)
    assert set(arguments) >= {"x", "y", "validation_data"}
    assert drawn is None  # its validation rows are its own
    assert len(running.Splits.of(loaded).test[1]) > 0
    text = path.read_text("utf-8")
    for option in ("--data", "--smoke", "--baseline", f"keras-nas search recipes/{path.name}"):
        assert option in text.split('"""')[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_in_docstrings_pass(path: Path) -> None:
    module = importlib.import_module(f"keras_nas_plugin.recipes.{path.stem}")
    assert doctest.testmod(module).failed == 0


def test_each_recipe_has_a_page_and_each_page_is_in_the_navigation() -> None:
    index = (ROOT / "docs" / "recipes" / "index.md").read_text("utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert len(FILES) >= 14
    for path in FILES:
        page = re.search(rf"\[`{path.stem}`\]\((\w+\.md)", index)
        assert page, path.stem
        content = (ROOT / "docs" / "recipes" / page[1]).read_text("utf-8")
        assert f"$ python recipes/{path.name}" in content
        assert f"recipes/{page[1]}" in navigation


def test_a_smoke_test_searches_registers_and_compares_with_the_baseline(smoke) -> None:
    scores = smoke(recipe, "--limit", "32", "--baseline", traced=True)
    assert set(scores) == {"search", "convolutions"}
    # The only trial has the defaults of the space.
    for name, value in running._defaults(recipe.RECIPE).items():
        assert f"\n{name}: {value}\n" in smoke.out
    assert all(0 <= values["accuracy"] <= 1 for values in scores.values())


def test_help_names_every_dataset_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        recipe.main(["--help"])
    out = capsys.readouterr().out
    words = "digits fashion_mnist .npz --data --limit --max-trials --epochs --smoke --baseline"
    for word in (*words.split(), "--evaluate", "--budget", "--strategy"):
        assert word in out


def test_options_select_the_data_and_the_environment_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAS_LIMIT", "5")
    loaded = []
    monkeypatch.setattr(running, "run", lambda *_: loaded.append(recipe.load_data()))
    for option in ("--data", "--dataset"):
        recipe.main([option, "digits", "--limit", "70"])
        assert [len(y) for _, y in loaded.pop()] == [70, 70, 70]
    assert os.environ["NAS_LIMIT"] == "5"
    assert "NAS_DATASET" not in os.environ


def test_a_registered_model_is_evaluated_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(running, "run", lambda *_: pytest.fail("no search"))
    monkeypatch.setattr(running, "evaluate", lambda *arguments: calls.append(arguments))
    store = ["--tracking-uri", "sqlite:///other.db"]
    recipe.main(["--evaluate", "models:/digits@challenger", *store])
    assert calls == [(recipe.RECIPE, "models:/digits@challenger", "sqlite:///other.db")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnits"], "must be digits, fashion_mnist.*got 'mnits'"),
        (["--limit", "0"], "must be at least 1; got '0'"),
        (["--epochs", "many"], "must be at least 1; got 'many'"),
        (["--budget", "0.5"], "must be at least 1.0; got '0.5'"),
    ],
)
def test_bad_options_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        recipe.main(arguments)
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_LIMIT", "-3")
    with pytest.raises(ValueError, match="must be a number of rows; got '-3'"):
        running.data_settings("digits")


def test_the_comparison_says_who_wins_in_either_direction() -> None:
    scores = {"search": {"error": 2.0, "bias": 0.5}, "naive": {"error": 1.0, "bias": 0.0}}
    seconds = {"search": 60.0, "naive": 1.2}
    *table, verdict = running.comparison(scores, seconds, larger=False).splitlines()
    assert verdict == "naive wins: error 1.0000 against 2.0000 of search"
    assert table[0].split() == ["error", "bias", "seconds"]
    assert table[2].split() == ["naive", "1.0000", "0.0000", "1"]
    verdict = running.comparison(scores, seconds, larger=True).splitlines()[-1]
    assert verdict.startswith("search wins")
    lone = {"search": scores["search"]}
    assert running.comparison(lone, seconds, larger=True).splitlines()[-1].startswith("search")
    scores["naive"]["error"] = 2.0
    verdict = running.comparison(scores, seconds, larger=True).splitlines()[-1]
    assert verdict == "search and naive are equal: error 2.0000"


def test_downloads_are_checked_and_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(keras.src.utils.file_utils.config, "keras_home", lambda: str(home))
    (tmp_path / "words.txt").write_text("yes")
    with tarfile.open(tmp_path / "words.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "words.txt", "words.txt")
    checksum = hashlib.sha256((tmp_path / "words.tar.gz").read_bytes()).hexdigest()
    address = f"{tmp_path.as_uri()}/"
    folder = running.download("words.tar.gz", address, checksum, extract=True)
    assert (folder / "words.txt").read_text() == "yes"
    assert folder.is_relative_to(home)
    with pytest.raises(ValueError, match="hash does not match"):
        running.download("words.txt", address, checksum)
    with pytest.raises(ConnectionError, match=r"none\.txt cannot be downloaded; `--data PATH`"):
        running.download("none.txt", address, checksum)


def test_a_baseline_without_time_for_a_training_says_so() -> None:
    splits = running.Splits.of(recipe.load_data())
    budget = running.Budget(trials=1, epochs=1, batch_size=8, seconds=1e-3, seed=0)
    train = running.network(recipe.baseline_model, recipe.OBJECTIVE)
    with pytest.raises(NASError, match=r"`--budget` must be enough.*got 0\.001 seconds"):
        train(splits, budget)


def test_divided_rows_are_disjoint_complete_and_stratified() -> None:
    labels = np.repeat([0, 1], [80, 20])
    kept, held_out = running.divide(100, labels=labels)
    assert sorted([*kept, *held_out]) == list(range(100))
    assert np.bincount(labels[held_out]).tolist() == [16, 4]
    np.testing.assert_array_equal(kept, running.divide(100, labels=labels)[0])
    # A class of one row cannot be in both parts.
    assert len(running.divide(10, labels=np.repeat([0, 1], [9, 1]))[1]) == 2
    for rows, few in ((4, None), (12, np.arange(12) % 6)):
        with pytest.raises(ValueError, match="must have enough rows"):
            running.divide(rows, labels=few)


def test_a_predictor_is_any_object_that_predicts() -> None:
    model = SimpleNamespace(predict=lambda x: np.eye(3)[x])
    assert running.accuracy(model, np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])) == {
        "accuracy": 0.75
    }

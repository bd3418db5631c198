"""Commands on searches that a program started, and data from other files."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.cli.recipe import Recipe, fit_arguments
from keras_nas_plugin.errors import RecipeError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.project import default_directory

MODEL = """
import keras
import keras_tuner
import numpy as np

from keras_nas_plugin import NASTuner, RandomOracle


def build_model(hp):
    layers = [keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9))]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


class Wide(keras_tuner.HyperModel):
    def __init__(self, least):
        super().__init__()
        self.least = least

    def build(self, hp):
        hp.Int("least", self.least, self.least)
        return build_model(hp)


WIDE = Wide(3)


def load_data():
    x = np.arange(64.0).reshape(16, 4) / 64
    return (x[:12], x[:12, :1]), (x[12:], x[12:, :1])


def main(hypermodel=build_model, name="program"):
    (x, y), validation = load_data()
    oracle = RandomOracle("val_loss", 2, seed=0)
    tuner = NASTuner(hypermodel, oracle, project_name=name)
    tuner.search(x, y, validation_data=validation, epochs=1, verbose=0)
    return tuner
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The module of a program in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "my_program.py").write_text(MODEL, encoding="utf-8")
    sys.modules.pop("my_program", None)
    import my_program

    yield my_program
    sys.modules.pop("my_program", None)


def run(*words):
    return CliRunner().invoke(cli, list(words))


@pytest.mark.parametrize("builder", ["build_model", "WIDE"])
def test_the_search_of_a_program_is_found_and_retrained(program, tmp_path, builder):
    """In the folder of searches of the command line, with the default directory of `NASTuner`."""
    program.main(getattr(program, builder))
    assert read_json(tmp_path / "searches" / "program" / "recipe.json")["builder"] == builder
    result = run("retrain", "--json", "--hold-out", "0.5")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["trial_id"] in ("0", "1")


def test_a_hypermodel_without_a_name_needs_a_recipe(program):
    program.main(lambda hp: program.build_model(hp))
    result = run("retrain")
    assert result.exit_code == 2
    assert "the program of 'program' cannot be imported" in result.stderr
    assert run("retrain", "--recipe", "my_program.py", "--hold-out", "0.5").exit_code == 0


def test_a_program_that_searches_when_it_is_imported_is_not_run(program, tmp_path):
    program.main()
    with open("my_program.py", "a", encoding="utf-8") as file:
        file.write("\nmain(name='another')\n")
    result = run("retrain")
    assert isinstance(result.exception, RecipeError)
    assert 'Put the search below `if __name__ == "__main__":`' in str(result.exception)
    assert not (tmp_path / "searches" / "another").exists()


def test_data_may_be_in_another_file(program, tmp_path):
    x = np.arange(64.0).reshape(16, 4) / 64
    np.savez(tmp_path / "rows.npz", x=x[:12], y=x[:12, 0], x_val=x[12:], y_val=x[12:, 0])
    words = "search my_program.py --strategy random --max-trials 1 --epochs 1 --no-tracking"
    result = run(*words.split(), "--data", "rows.npz", "--json")
    assert result.exit_code == 0, result.output
    stored = read_json(tmp_path / "searches" / "my_program" / "recipe.json")
    assert stored["data_file"] == str(tmp_path / "rows.npz")
    assert run("retrain", "--hold-out", "0.5").exit_code == 0
    (tmp_path / "other.py").write_text("def rows():\n    return ([1], [2])\n", encoding="utf-8")
    recipe = Recipe("my_program.py", "rows", "other.py")
    assert recipe.load() == ([1], [2])


@pytest.mark.parametrize(
    ("names", "form"),
    [
        (("x", "y"), "validation_split"),
        (("x", "y", "x_val", "y_val"), "validation_data"),
        (("x", "y", "x_val", "y_val", "x_test", "y_test"), "validation_data"),
    ],
)
def test_arrays_have_the_form_of_a_data_function(program, tmp_path, names, form):
    np.savez(tmp_path / "rows.npz", **{name: np.zeros((8, 4)) for name in names})
    assert form in fit_arguments(Recipe("my_program.py", data_file="rows.npz").load())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x",), "must hold the arrays x and y; 'rows.npz' lacks y and holds x"),
        (("x", "y", "x_val"), "lacks y_val"),
        (("x", "y", "x_test", "y_test"), "must hold x_val and y_val beside x_test"),
    ],
)
def test_missing_arrays_are_named(program, tmp_path, names, message):
    np.savez(tmp_path / "rows.npz", **{name: np.zeros((8, 4)) for name in names})
    with pytest.raises(RecipeError, match=message):
        Recipe("my_program.py", data_file="rows.npz").load()


def test_a_name_instead_of_a_data_file_points_to_the_option_for_names(program):
    result = run("search", "my_program.py", "--data", "other_data", "--no-tracking")
    assert isinstance(result.exception, RecipeError)
    assert "must be an existing .npz or .py file; got 'other_data'" in str(result.exception)
    assert "`--data-function`" in str(result.exception)


def test_searches_of_earlier_versions_in_the_working_directory_are_resumed_there(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert default_directory("digits") == default_directory(None) == "searches"
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "oracle.json").write_text("{}")
    assert default_directory("digits") == "."
    (tmp_path / "untitled_project").mkdir()
    (tmp_path / "untitled_project" / "search.json").write_text("{}")
    assert default_directory(None) == "."

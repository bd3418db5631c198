"""The documentation: code blocks run, commands exist, and public names are in the reference."""

import importlib
import re
import shlex
import shutil
from pathlib import Path

import click
import keras
import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_nas_plugin
from keras_nas_plugin.cli.main import cli
from tests import stores

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
ALL_PAGES = sorted((ROOT / "docs").rglob("*.md"))
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^```(?:bash|console|sh|shell|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}(?:\S*/)?keras-nas .*(?:\n {8}.*)*", re.MULTILINE)
PACKAGES = ("export", "oracles", "proxies", "registry", "reports", "space", "space.presets")
PACKAGES += ("starters", "strategies", "supernet", "testing", "tracking", "transfer")

# The pages print the trials and epochs of a real search; the tests run fewer. That a fresh process
# loads what is promoted, which takes seconds, is tested with the registry.
SHORTER = [
    (r"\bmax_trials=\d+", "max_trials=1"),
    (r"\bepochs=\d+", "epochs=1"),
    (r"\bmax_epochs=\d+", "max_epochs=2"),
    (r"\bseeds=\d+", "seeds=1"),
    (r"\brange\(0, 288, 32\)", "range(0, 64, 32)"),
    (r"\bmin=0\.9\b", "min=0.05"),
    (r"\bPromotionPolicy\(", "PromotionPolicy(smoke_test=False, "),
]


def build_model(hp):
    model = keras.Sequential([keras.Input((64,))])
    model.add(keras.layers.Dense(hp.Choice("units", [8, 16, 32]), activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def convolutional_model():
    model = keras.Sequential([keras.Input((8, 8, 1))])
    model.add(keras.layers.Conv2D(4, 3, activation="relu"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def digits():
    """Rows of scikit-learn's digits, under the variable names that the pages use."""
    rows, labels = load_digits(return_X_y=True)
    rows = (rows / 16).astype("float32")
    splits = {"": slice(0, 300), "_val": slice(300, 400), "_test": slice(400, 500)}
    return {
        **{f"x{suffix}": rows[part] for suffix, part in splits.items()},
        **{f"y{suffix}": labels[part] for suffix, part in splits.items()},
    }


def names_of(page):
    """The names that the code blocks of a page use without defining them."""
    if page.stem == "index":
        return {"__name__": "__main__"}  # its program is complete
    public = {name: getattr(keras_nas_plugin, name) for name in keras_nas_plugin.__all__}
    names = {**public, **digits(), "build_model": build_model, "keras": keras, "np": np}
    names |= {"keras_tuner": keras_tuner, "model": build_model(keras_tuner.HyperParameters())}
    if page.stem in ("presets", "proxies"):
        for name in ("x", "x_val"):
            names[name] = names[name].reshape(-1, 8, 8, 1)
    if page.stem == "presets":
        for name in ("x", "x_val"):
            images = np.kron(names[name][:32], np.ones((1, 4, 4, 1), "float32"))
            names[name] = images[:, 2:-2, 2:-2]
            names[name.replace("x", "y")] = names[name.replace("x", "y")][:32]
    if page.stem in ("differentiable", "supernet"):
        for name in ("x", "y", "x_val", "y_val"):
            names[name] = names[name][:64]
    if page.stem == "proxies":
        names["x"], names["y"] = names["x"][:16], names["y"][:16]
        names["model"] = convolutional_model()
    if page.stem == "production":
        tracker = keras_nas_plugin.MLflowTracker(experiment="digits")
        names["tuner"] = searched(Path("searches"), "production", tracker)
    return names


def searched(folder, name, tracker=None):
    """A tuner after a search of two trials."""
    oracle = keras_nas_plugin.RandomOracle("val_accuracy", max_trials=2, seed=0)
    tuner = keras_nas_plugin.NASTuner(
        build_model, oracle, tracker=tracker, directory=folder, project_name=name
    )
    data = digits()
    validation = data["x_val"], data["y_val"]
    tuner.search(data["x"], data["y"], validation_data=validation, epochs=1, verbose=0)
    return tuner


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """A folder with the searches that the pages read: ``digits`` and ``pilot``."""
    folder = tmp_path_factory.mktemp("searches")
    searched(folder, "digits")
    shutil.copytree(folder / "digits", folder / "pilot")
    return folder


@pytest.mark.parametrize("page", [p for p in PAGES if CODE.search(p.read_text())], ids=str)
def test_code_blocks_of_the_documentation_run(page, searches, tmp_path, monkeypatch):
    shutil.copytree(searches, tmp_path / "searches")
    shutil.copy(stores.empty_database(), tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    names = names_of(page)
    text = page.read_text()
    blocks = [*CODE.finditer(text)]
    # The tests of presets run the others, each by itself.
    for block in blocks[:1] if page.stem == "presets" else blocks:
        code = block[1]
        for pattern, replacement in SHORTER:
            code = re.sub(pattern, replacement, code)
        # Empty lines in front give errors the line of the page.
        code = "\n" * text[: block.start(1)].count("\n") + code
        exec(compile(code, str(page), "exec"), names)


def commands(text):
    """Every `keras-nas` command line of a page, as words; comments and prompts are removed."""
    blocks = [block[1] for block in SHELL.finditer(text)] + INDENTED.findall(text)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if re.match(r"\s*(\$ )?(\S*/)?keras-nas ", line):
            _, *words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            yield words


@pytest.mark.parametrize("page", [*ALL_PAGES, ROOT / "README.md"], ids=str)
def test_commands_and_options_in_the_documentation_exist(page):
    for command, *words in commands(page.read_text()):
        if command.startswith("-"):
            continue
        subcommand = cli.get_command(click.Context(cli), command)
        assert subcommand is not None, f"{page.name}: keras-nas {command}"
        options = {
            name for option in subcommand.params for name in (*option.opts, *option.secondary_opts)
        }
        used = {
            word.strip("[]").partition("=")[0] for word in words if word.strip("[]")[:2] == "--"
        }
        assert used <= options | {"--help"}, f"{page.name}: keras-nas {command} {used - options}"


def test_commands_are_found_in_the_readme_and_the_cli_page():
    assert len([*commands((ROOT / "README.md").read_text())]) >= 5
    assert len([*commands((ROOT / "docs" / "cli.md").read_text())]) >= 5


@pytest.mark.parametrize("page", ALL_PAGES, ids=str)
def test_every_table_has_a_row(page):
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|[\s:|-]+\|", line):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            assert following.startswith("|"), f"{page.name}:{number + 1}: a table without rows"


def test_every_public_name_is_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    text = "\n".join(path.read_text() for path in pages)
    documented = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)$", text, re.M)}
    documented |= set(vars(importlib.import_module("keras_nas_plugin.errors")))
    public = set(keras_nas_plugin.__all__) - {"__version__"}
    for package in PACKAGES:
        public |= set(importlib.import_module(f"keras_nas_plugin.{package}").__all__)
    constants = {"STRATEGIES"}
    assert public - documented - constants == set()

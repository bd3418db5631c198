"""`keras-nas promote` and `keras-nas rollback` as a user runs them."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest

from keras_nas_plugin.registry.aliases import details_of
from tests.integration import forkserver

RECIPE = """
import numpy as np

def build_model(hp):
    raise NotImplementedError("promotion builds nothing")

def rows(seed, n=400):
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype("float32")
    return x, (x[:, 0] + x[:, 1] > 0).astype("int32")

def load_data():
    print("loading")
    return rows(0), rows(1), rows(2)

def two_splits():
    return rows(0), rows(1)

def mapping():
    x, y = rows(0)
    return {"x": x, "y": y, "validation_data": rows(1), "test_data": rows(2)}

def datasets():
    import tensorflow as tf
    return tuple(tf.data.Dataset.from_tensor_slices(rows(n)).batch(150) for n in range(3))

def broken():
    raise OSError("no disk")

def recall(y, predictions):
    return float((predictions[:, 1] > 0.5)[y == 1].mean())

def first_row(y, predictions):
    return predictions[0]

THRESHOLD = 0.5
"""

MAX = "--direction max"


def make_models(uri, names=("toy", "new", "bare")):
    """`toy`: version 1 is a fair champion, 2 a good challenger, 3 has no alias; `new`: one
    challenger; `bare`: one version without an alias.
    """
    import keras
    from mlflow import MlflowClient

    from keras_nas_plugin.registry import register_model

    client = MlflowClient(uri)
    experiment = client.create_experiment("models")
    for name, weight, alias in (
        ("toy", 0.4, "champion"),
        ("toy", 1.0, "challenger"),
        ("toy", -1.0, None),
        ("new", 1.0, "challenger"),
        ("bare", 1.0, None),
    ):
        if name not in names:
            continue
        dense = keras.layers.Dense(2, activation="softmax")
        model = keras.Sequential([keras.Input((4,)), dense])
        kernel = np.zeros((4, 2))
        kernel[0], kernel[1] = (-1, 1), (-weight, weight)
        dense.set_weights([kernel, np.zeros(2)])
        run = client.create_run(experiment).info.run_id
        register_model(model, name=name, run_id=run, tracking_uri=uri, alias=alias)


@pytest.fixture(scope="module")
def models(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    uri = forkserver.new_store(folder)
    process = server.run("tests.cli.test_promote:make_models", cwd=folder, uri=uri)
    assert process.returncode == 0, process.err
    return folder


@pytest.fixture
def store(models, tmp_path, write, monkeypatch):
    """The models' store, copied into the test's folder, with a recipe and arrays."""
    from mlflow import MlflowClient

    shutil.copy(models / "mlflow.db", tmp_path / "mlflow.db")
    write(RECIPE)
    namespace = {}
    exec(RECIPE, namespace)
    x, y = namespace["rows"](2)
    np.savez(tmp_path / "held_out.npz", x=x, y=y)
    np.savez(tmp_path / "labels.npz", y=y)
    np.savez(tmp_path / "short.npz", x=x, y=y[:9])
    np.savez(tmp_path / "columns.npz", x=x[:, :2], y=y)
    (tmp_path / "text.npz").write_text("no archive")
    return MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def promote(nas, tmp_path):
    """Runs `keras-nas promote`, without the smoke test, whose process takes seconds."""

    def run(*words, command="promote", smoke_test=False, data="held_out.npz"):
        uri = f"--tracking-uri sqlite:///{tmp_path / 'mlflow.db'}"
        if command == "promote":
            uri += f" --data {data}" + ("" if smoke_test else " --no-smoke-test")
        return nas(command, *words, uri)

    return run


def aliases(store, name="toy"):
    by_alias = store.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in by_alias.items()}


def test_a_challenger_is_promoted_and_rolled_back(store, promote):
    process = promote("toy", "--max-class-drop 0.1 --why release", smoke_test=True)
    assert process.returncode == 0, process.err
    lines = process.out.splitlines()
    assert lines[0] == "toy: challenger version 2 against champion version 1"
    assert lines[-1] == "Champion: version 2 (models:/toy@champion)"
    assert [line.split()[0] for line in lines[1:-1]] == ["passed"] * 3
    assert "fresh process: loads and predicts 4 rows" in lines[1]
    assert "mcnemar, 400 rows" in lines[2]
    assert aliases(store) == {"champion": "2"}
    details = details_of(store.get_model_version("toy", "2").tags)
    assert details["why"] == "release" and "@" in details["by"]

    process = promote("toy --why regret", command="rollback")
    assert process.returncode == 0, process.err
    assert process.out == "Champion: version 1 of toy again, instead of 2\n"
    assert aliases(store) == {"champion": "1"}
    details = details_of(store.get_model_version("toy", "2").tags)
    assert details["rolled_back"]["why"] == "regret"
    assert_one_error(promote("toy", command="rollback"), 2, "champion replaced another")


def test_a_function_of_the_recipe_is_the_metric(store, promote):
    words = f"toy --metric recipe.py:recall {MAX} --require recall>=0.5 --json"
    process = promote(words, data="recipe.py")
    assert process.returncode == 0, process.err
    findings = {item["name"]: item for item in json.loads(process.out)["findings"]}
    assert "recall" in findings["thresholds"]["message"]
    details = findings["comparison"]["numbers"]
    assert details["metric"] == "recall" and details["method"] == "bootstrap"
    assert aliases(store) == {"champion": "2"}


def test_a_refused_promotion_exits_with_1_and_moves_no_alias(store, promote):
    process = promote("toy --min-improvement 0.5 --require accuracy>=0.8 --require size<=1kB")
    assert process.returncode == 1, process.err
    assert process.err == ""
    assert (
        "refused  comparison: accuracy" in process.out
        and "passed   thresholds: acc" in process.out
    )
    assert "refused  costs: size" in process.out
    assert process.out.endswith("Refused by costs, comparison; champion: version 1 stays.\n")
    assert aliases(store) == {"champion": "1", "challenger": "2"}


def test_json_is_the_only_standard_output(store, promote):
    process = promote(
        "toy --dry-run --json --metric loss --resamples 199 --seed 3", data="recipe.py"
    )
    assert process.returncode == 0, process.err
    verdict = json.loads(process.out)
    assert verdict["passed"] and not verdict["promoted"]
    (finding,) = verdict["findings"]
    assert (finding["numbers"]["method"], finding["numbers"]["seed"]) == ("bootstrap-t", 3)
    assert verdict["data"]["name"] == "recipe.py"
    assert "loading" in process.err
    assert aliases(store) == {"champion": "1", "challenger": "2"}
    process = promote("toy --json --dry-run", command="rollback")
    assert process.returncode == 2 and process.out == ""


def test_a_first_champion_needs_a_limit_on_a_metric(store, promote):
    assert_one_error(promote("new"), 2, "`thresholds` (`--require`) must hold a limit on a metric")
    process = promote("new --require accuracy>=0.9 --dry-run")
    assert process.returncode == 0 and "Nothing was written" in process.out
    process = promote("new --require accuracy>=0.9")
    assert process.returncode == 0, process.err
    assert process.out.startswith("new: challenger version 1 against no champion")
    assert aliases(store, "new") == {"champion": "1"}


@pytest.mark.parametrize("function", ["load_data", "mapping", "datasets"])
def test_the_test_rows_of_a_recipe_are_used(store, promote, function):
    """They are the rows of the `.npz` file, whatever the form of the recipe's data."""
    words = f"toy --dry-run --json --data-function {function}"
    expected, verdict = (
        json.loads(promote(words, data=data).out) for data in ("held_out.npz", "recipe.py")
    )
    assert verdict["findings"] == expected["findings"]


def test_validation_rows_are_used_on_request(store, promote):
    words = "toy --dry-run --data-function two_splits"
    assert_one_error(promote(words, data="recipe.py"), 2, "`--split validation` uses the rows")
    process = promote(words, "--split validation --json", data="recipe.py")
    numbers = json.loads(process.out)["findings"][0]["numbers"]
    assert numbers["rows"] == 400
    # Test rows give different numbers.
    test = json.loads(promote("toy --dry-run --json").out)["findings"][0]["numbers"]
    assert numbers["champion"] != test["champion"]


def assert_one_error(process, code, message):
    assert process.returncode == code, process.err
    assert "Traceback" not in process.err
    errors = [line for line in process.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, process.err
    assert message in process.err[process.err.index("Error: ") :]
    assert process.out == ""


@pytest.mark.parametrize(
    ("words", "data", "message"),
    [
        ("nothing", "held_out.npz", "registered model; got 'nothing'"),
        ("bare", "held_out.npz", "the alias 'challenger'"),
        ("toy", "nowhere.npz", "`--data` must be an existing file; got 'nowhere.npz'"),
        ("toy", "nowhere.py", "must be an existing Python file; got 'nowhere.py'"),
        ("toy", "text.npz", "`--data` must hold plain arrays; reading 'text.npz' failed"),
        ("toy", "labels.npz", "lacks x and holds y"),
        ("toy", "short.npz", "400 and 9"),
        ("toy", "columns.npz", "`x` must hold rows that version 2 can predict"),
        ("toy --data-function broken", "recipe.py", "it raised OSError: no disk"),
        ("toy --data-function other", "recipe.py", "must define `other`; it defines"),
        ("toy --data-function rows", "recipe.py", "it raised TypeError"),
        ("toy --metric loss --method mcnemar", "held_out.npz", "'mcnemar'"),
        ("toy --metric loss --direction max", "held_out.npz", "`direction` must be 'min'"),
        ("toy --metric recipe.py:recall", "held_out.npz", "`--direction` must be max or min"),
        (f"toy --metric nowhere.py:f {MAX}", "held_out.npz", "an existing Python file"),
        (f"toy --metric recipe.py:f1 {MAX}", "held_out.npz", "must define `f1`; it defines"),
        (f"toy --metric recipe.py:THRESHOLD {MAX}", "held_out.npz", "must be a function; got 0.5"),
        (
            f"toy --metric recipe.py:first_row {MAX}",
            "held_out.npz",
            "must return a number, or one",
        ),
        ("toy --alpha 7", "held_out.npz", "`alpha`"),
        ("toy --require f1>=0.5", "held_out.npz", "`thresholds` must be on one of accuracy"),
    ],
)
def test_a_promotion_that_cannot_be_judged_is_wrong_usage(store, promote, words, data, message):
    assert_one_error(promote(words, data=data), 2, message)
    assert aliases(store) == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "registered model; got 'nothing'"), ("new", "the alias 'champion'")],
)
def test_a_rollback_that_is_not_possible_is_wrong_usage(store, promote, name, message):
    assert_one_error(promote(name, command="rollback"), 2, message)


@pytest.mark.parametrize("command", ["promote toy --data held_out.npz", "rollback toy"])
def test_a_store_that_does_not_answer_or_cannot_be_used_is_an_error(store, nas, tmp_path, command):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    process = nas(command, "--tracking-uri", uri)
    assert_one_error(process, 1, "`tracking_uri` must be a server that answers")
    assert uri in process.err
    (tmp_path / "folder").mkdir()
    process = nas(command, f"--tracking-uri sqlite:///{tmp_path / 'folder'}")
    assert_one_error(process, 1, "`tracking_uri` must be")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("promote", "Missing argument 'NAME'"),
        ("promote toy", "Missing option '--data'"),
        ("promote toy --data x.npz --metric f1", "or FILE.py:FUNCTION with a function of"),
        ("promote toy --data x.npz --metric recipe.py:", "or FILE.py:FUNCTION with a function of"),
        ("promote toy --data x.npz --direction up", "'up' is not one of"),
        ("promote toy --data x.npz --require accuracy", "must be METRIC<=NUMBER"),
        ("promote toy --data x.npz --require size<=small", "must be METRIC<=NUMBER"),
        ("promote toy --data x.npz --split train", "'train' is not one of"),
        ("promote toy --data x.npz --alpha much", "'much' is not a valid float"),
        ("rollback", "Missing argument 'NAME'"),
    ],
)
def test_wrong_usage_exits_with_2(words, message, capsys):
    from keras_nas_plugin.cli.main import main

    with pytest.raises(SystemExit) as end:
        main(words.split())
    output = capsys.readouterr()
    assert end.value.code == 2 and message in output.err and output.out == ""
    assert "Traceback" not in output.err


def test_requirements_on_sizes_and_latency_have_units():
    from keras_nas_plugin import Constraint
    from keras_nas_plugin.cli.promote import Requirement

    convert = Requirement().convert
    assert convert("size<=4MB", None, None) == Constraint("size", max=4e6)
    assert convert("latency<=20ms", None, None) == Constraint("latency", max=20.0)
    assert convert("accuracy>=0.9", None, None) == Constraint("accuracy", min=0.9)

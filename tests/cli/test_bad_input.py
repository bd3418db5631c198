"""Invalid input ends with one error message that says what to change, never with a traceback."""

from __future__ import annotations

import json
import socket

import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.search import search
from tests.cli.conftest import DATASETS, RECIPE

FAST = "--max-trials 4 --epochs 1 --no-tracking --seed 0 --json"

BODY = 'model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)'
DATA = "return (x[:16], y[:16]), (x[16:], y[16:])"


def change(old, new):
    assert RECIPE.count(old) == 1
    return RECIPE.replace(old, new)


FILES = {
    "class names": (
        RECIPE + '\nCLASS_NAMES = "ab"\n',
        "`CLASS_NAMES` in `recipe.py` must be a list",
    ),
    "syntax error": ("def build_model(hp:\n", "cannot be loaded, line 1: SyntaxError"),
    "import error": ("\n\nimport not_there\n", "line 3: ModuleNotFoundError: No module named"),
    "error": ("x = 1\nx / 0\n", "line 2: ZeroDivisionError"),
    "exits": ("raise SystemExit(0)\n", "SystemExit"),
    "no builder": (
        "def load_data(): ...\ndef models(hp): ...\n",
        "must define `build_model`; it defines load_data, models",
    ),
    "no data": ("def build_model(hp): ...\n", "must define `load_data`; it defines build_model"),
    "builder": ("build_model = 3\ndef load_data(): ...\n", "function of hp or a HyperModel"),
    "data raises": (change(DATA, 'raise OSError("no disk")'), "it raised OSError: no disk"),
    "no data returned": (change(DATA, "return None"), "`load_data` must return"),
    "lengths": (change(DATA, "return (x[:16], y[:15]), (x, y)"), "16 inputs (16, 4) and 15"),
    "inputs": (change(DATA, "return (x, y), (x[:, :3], y)"), "(24, 4) and (24, 3)"),
    "pairs": (change(DATA, "return (x, y, y), (x, y)"), "must return a pair (x, y) as training"),
}


@pytest.mark.parametrize("kind", FILES)
def test_an_unusable_file_is_wrong_usage(write, nas, tmp_path, kind):
    text, message = FILES[kind]
    write(text)
    process = nas("search recipe.py", FAST)
    assert_one_error(process, 2, message)
    assert "recipe.py" in process.err or "load_data" in process.err or "build_model" in process.err
    assert not (tmp_path / "searches").exists()


def test_a_missing_file_is_wrong_usage(nas):
    process = nas("search nowhere.py", FAST)
    assert_one_error(process, 2, "`FILE` must be an existing Python file; got 'nowhere.py'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--register", "spam?"], "`name` must be a string that"),
        (["--register", "team/spam"], "`name` must be a string that"),
        (["--register", ""], "`name` must be a string that"),
        (["--register", "spam", "--alias", "v1"], "`alias` must consist of letters"),
        (["--register", "spam", "--class-names", "a,a"], "at least two different names"),
        (["--class-names", "a,b"], "`--class-names` must be combined with `--register`"),
        (["--workers", "none"], "must be an integer of at least 1, or auto; got 'none'"),
        (["--workers", "1", "--memory-per-worker", "much"], "must be a number of bytes above 0"),
        (["--gpus-per-worker", "1"], "`--gpus-per-worker` must be combined with `--workers`"),
        (["--address", "auto"], "`--address` must be combined with `--executor ray`"),
        (["--workers", "1", "--gpus-per-trial", "1"], "`--executor ray`; got `--executor local`"),
        (["--executor", "ray", "--threads-per-worker", "1"], "combined with `--executor local`"),
    ],
)
def test_bad_options_are_refused_before_training(write, tmp_path, monkeypatch, options, message):
    write(RECIPE)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(search, ["recipe.py", "--max-trials", "1", *options])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "searches").exists()


def assert_one_error(process, code, message):
    assert process.returncode == code, process.err
    assert "Traceback" not in process.err
    errors = [line for line in process.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, process.err
    assert message in process.err[process.err.index("Error: ") :]
    assert process.out == ""


SEARCHES = {
    "objective no epoch reports": (
        RECIPE,
        "--objective val_quality --direction max",
        "`objective` must be a metric that training reports; got 'val_quality'",
    ),
    "misread objective": (RECIPE, "--objective val_f1_score", "--direction max"),
    "always raises": (
        change(BODY, 'raise ValueError(f"no {units} units\\nand a second line")'),
        "",
        "3 trials in a row failed",
        "ValueError: no ",
    ),
    "returns None": (change("return model", "return None"), "", "got NoneType"),
    "shapes of data and model": (
        change("keras.Input((4,))", "keras.Input((5,))"),
        "",
        "`hypermodel` must accept the first rows of `x`; it raised ValueError: Exception",
        "incompatible with the layer: expected axis -1 of input shape to have value 5",
        "The data are x float32 (16, 4), y int32 (16,).",
    ),
    "not compiled": (
        change(BODY, "pass"),
        "",
        "must accept the first rows of `x`; it raised ValueError: You must call `compile()`",
    ),
    "directory": (RECIPE, "--directory recipe.py/below", "`directory` must be a writable folder"),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_that_cannot_train_ends_with_one_error(write, nas, kind):
    """The message about too many failures includes the first line of the last error."""
    text, words, *messages = SEARCHES[kind]
    write(text)
    process = nas("search recipe.py", FAST, words)
    for message in messages:
        assert_one_error(process, 1, message)


SOME_TRIALS_FAIL = {
    "raises": (
        change(BODY, f"if units % 4 == 3: raise ValueError('three')\n    {BODY}"),
        "",
        "ValueError: three",
    ),
    "not a number": (
        change('"sgd"', "keras.optimizers.SGD(float('inf') if units % 4 == 3 else 0.01)"),
        "--objective val_accuracy",
        "InvalidResultError: `val_accuracy` and the loss must be finite",
    ),
}


@pytest.mark.parametrize("kind", SOME_TRIALS_FAIL)
def test_a_trial_that_fails_does_not_end_the_search(write, nas, kind):
    text, words, message = SOME_TRIALS_FAIL[kind]
    file = write(text + DATASETS)
    process = nas("search recipe.py", FAST, "--max-trials 8 --strategy random", words)
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["trials"]["failed"] > 0 and sum(result["trials"].values()) == 8
    assert result["best"]["values"]["units"] % 4 != 3
    failed = json.loads(nas("trials --failed --json").out)
    assert len(failed) == result["trials"]["failed"]
    assert all(message in trial["error"] and trial["values"]["units"] % 4 == 3 for trial in failed)
    assert "Traceback" not in process.err
    if kind == "raises":
        place = f"{file}:{failed[0]['location']['line']}: if units % 4 == 3: raise ValueError("
        assert process.err.count(f"\n  at {place}") == len(failed)
        assert process.err.count("ValueError: three") == len(failed)
        heading, *rows = nas("trials --failed").out.splitlines()
        assert heading.split() == ["rank", "trial", "error", "where", "seconds", "values"]
        assert len(rows) == len(failed) and all(place in row for row in rows)


def test_the_exit_code_is_3_when_no_trial_finished(write, nas):
    write(change('"units", 2, 64', '"units", 2, 3'))
    process = nas("search recipe.py", FAST, "--max-model-size 1")
    # The space has two configurations, which are both too large.
    assert process.returncode == 3, process.err
    result = json.loads(process.out)
    assert result["best"] is None and result["trials"] == {"finished": 0, "failed": 2}
    best_command = nas("best")
    assert best_command.returncode == 3 and "No trial of recipe has finished" in best_command.err


def test_a_server_that_does_not_answer_loses_no_trial(write, nas, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    write()
    words = f"search recipe.py --max-trials 2 --epochs 1 --json --tracking-uri {uri}"
    process = nas(words)
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["trials"]["finished"] == 2 and result["best"]["run_id"] is None
    warnings = [line for line in process.err.splitlines() if "does not answer" in line]
    assert len(warnings) == 1 and uri in warnings[0] and "`tracking_uri`" in warnings[0]
    assert "Traceback" not in process.err
    waiting = sorted(path.stem for path in (tmp_path / "searches/recipe/outbox").glob("*.json"))
    assert waiting == ["0", "1"]
    # Registering needs the server; the search is unchanged.
    process = nas(words, "--register name")
    assert process.returncode == 1
    assert "must be a server that answers" in process.err and "--resume" in process.err
    assert "Traceback" not in process.err
    result = json.loads(process.out)
    assert result["trials"]["finished"] == 2 and result["model"] is None
    assert len(json.loads(nas("trials --json").out)) == 2


def test_an_address_that_mlflow_cannot_use_is_an_error(write, nas, tmp_path):
    write()
    process = nas("search recipe.py --max-trials 2 --epochs 1 --tracking-uri gopher://nowhere")
    assert_one_error(process, 1, "`tracking_uri` must be")
    assert "gopher://nowhere" in process.err
    # No trial was trained, and the search runs with another address.
    assert list(tmp_path.glob("searches/*/trial_*/record.json")) == []
    process = nas("search recipe.py --max-trials 2 --epochs 1 --no-tracking")
    assert process.returncode == 0, process.err

"""What cannot work ends with one sentence that names what to change, never with a traceback."""

from __future__ import annotations

import json
import socket

import pytest

from tests.cli.conftest import RECIPE

FAST = "--max-trials 4 --epochs 1 --no-tracking --seed 0 --json"

BODY = 'model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)'
DATA = "return (x[:16], y[:16]), (x[16:], y[16:])"


def change(old, new):
    assert RECIPE.count(old) == 1
    return RECIPE.replace(old, new)


FILES = {
    "syntax error": ("def build_model(hp:\n", "cannot be loaded, line 1: SyntaxError"),
    "import error": ("\n\nimport not_there\n", "line 3: ModuleNotFoundError: No module named"),
    "error": ("x = 1\nx / 0\n", "line 2: ZeroDivisionError"),
    "exits": ("raise SystemExit(0)\n", "SystemExit"),
    "no builder": ("def load_data(): ...\ndef models(hp): ...\n", "needs `build_model`; it defi"),
    "no data": ("def build_model(hp): ...\n", "needs `load_data`; it defines build_model"),
    "builder": ("build_model = 3\ndef load_data(): ...\n", "function of hp or a HyperModel"),
    "data raises": (change(DATA, 'raise OSError("no disk")'), "it raised OSError: no disk"),
    "no data returned": (change(DATA, "return None"), "`load_data` needs to return"),
    "lengths": (change(DATA, "return (x[:16], y[:15]), (x, y)"), "16 inputs (16, 4) and 15"),
    "inputs": (change(DATA, "return (x, y), (x[:, :3], y)"), "(24, 4) and (24, 3)"),
    "pairs": (change(DATA, "return (x, y, y), (x, y)"), "needs a pair (x, y) as training"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used(write, nas, tmp_path, kind):
    text, said = FILES[kind]
    write(text)
    done = nas("search recipe.py", FAST)
    assert_one_error(done, 2, said)
    assert "recipe.py" in done.err or "load_data" in done.err or "builder" in done.err
    assert not (tmp_path / "searches").exists()


def test_a_file_that_is_not_there(nas):
    done = nas("search nowhere.py", FAST)
    assert_one_error(done, 2, "`FILE` needs an existing Python file; received 'nowhere.py'")


def assert_one_error(done, code, said):
    assert done.returncode == code, done.err
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.err
    assert said in done.err[done.err.index("Error: ") :]
    assert done.out == ""


SEARCHES = {
    "objective no epoch reports": (
        RECIPE,
        "--objective val_quality --direction max",
        "`objective` needs a metric that training reports; received 'val_quality'",
    ),
    "misread objective": (RECIPE, "--objective val_f1_score", "--direction max"),
    "constant space": (
        change('hp.Int("units", 2, 64)', "8"),
        "",
        "`hypermodel` needs a hyperparameter with at least two values",
    ),
    "always raises": (
        change(BODY, 'raise ValueError(f"no {units} units\\nand a second line")'),
        "",
        "3 trials in a row failed",
    ),
    "returns None": (change("return model", "return None"), "", "received NoneType"),
    "shapes of data and model": (
        change("keras.Input((4,))", "keras.Input((5,))"),
        "",
        "3 trials in a row failed",
    ),
    "not compiled": (change(BODY, "pass"), "", "3 trials in a row failed"),
    "directory": (RECIPE, "--directory recipe.py/below", "`directory` needs a folder"),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_that_cannot_work(write, nas, kind):
    text, words, said = SEARCHES[kind]
    write(text)
    assert_one_error(nas("search recipe.py", FAST, words), 1, said)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("always raises", "ValueError: no "),
        ("shapes of data and model", "ValueError: "),
        ("not compiled", "ValueError: You must call `compile()`"),
    ],
)
def test_too_many_failures_name_the_first_line_of_the_last_error(write, nas, kind, said):
    write(SEARCHES[kind][0])
    done = nas("search recipe.py", FAST)
    assert said in done.err[done.err.index("Error: ") :]


SOMETIMES = {
    "raises": (
        change(BODY, f"if units % 4 == 3: raise ValueError('three')\n    {BODY}"),
        "",
        "ValueError: three",
    ),
    "not a number": (
        change('"sgd"', "keras.optimizers.SGD(float('inf') if units % 4 == 3 else 0.01)"),
        "--objective val_accuracy",
        "InvalidResultError: `val_accuracy` needs a finite value",
    ),
}


@pytest.mark.parametrize("kind", SOMETIMES)
def test_a_trial_that_fails_does_not_end_the_search(write, nas, kind):
    text, words, said = SOMETIMES[kind]
    write(text)
    done = nas("search recipe.py", FAST, "--max-trials 8 --strategy random", words)
    assert done.returncode == 0, done.err
    result = json.loads(done.out)
    assert result["trials"]["failed"] > 0 and sum(result["trials"].values()) == 8
    assert result["best"]["values"]["units"] % 4 != 3
    failed = json.loads(nas("trials --failed --json").out)
    assert len(failed) == result["trials"]["failed"]
    assert all(said in trial["error"] and trial["values"]["units"] % 4 == 3 for trial in failed)
    assert "Traceback" not in done.err


def test_no_trial_finished(write, nas):
    write(change('"units", 2, 64', '"units", 2, 3'))
    done = nas("search recipe.py", FAST, "--max-model-size 1")
    # Two configurations, and both are too large: the space is exhausted.
    assert done.returncode == 3, done.err
    result = json.loads(done.out)
    assert result["best"] is None and result["trials"] == {"finished": 0, "failed": 2}
    shown = nas("best")
    assert shown.returncode == 3 and "No trial of recipe has finished" in shown.err


def test_a_server_that_nobody_runs_costs_no_trial(write, nas, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    write()
    words = f"search recipe.py --max-trials 2 --epochs 1 --json --tracking-uri {uri}"
    done = nas(words)
    assert done.returncode == 0, done.err
    result = json.loads(done.out)
    assert result["trials"]["finished"] == 2 and result["best"]["run_id"] is None
    warnings = [line for line in done.err.splitlines() if "does not answer" in line]
    assert len(warnings) == 1 and uri in warnings[0] and "`tracking_uri`" in warnings[0]
    assert "Traceback" not in done.err
    waiting = sorted(path.stem for path in (tmp_path / "searches/recipe/outbox").glob("*.json"))
    assert waiting == ["0", "1"]
    # Registering needs the server; the search stays what it is.
    done = nas(words, "--register name")
    assert done.returncode == 1
    assert "needs a server that answers" in done.err and "--resume" in done.err
    assert "Traceback" not in done.err
    result = json.loads(done.out)
    assert result["trials"]["finished"] == 2 and result["model"] is None
    assert len(json.loads(nas("trials --json").out)) == 2


def test_an_address_that_mlflow_cannot_use(write, nas, tmp_path):
    write()
    done = nas("search recipe.py --max-trials 2 --epochs 1 --tracking-uri gopher://nowhere")
    assert_one_error(done, 1, "`tracking_uri` needs")
    assert "gopher://nowhere" in done.err
    # Nothing was trained for nothing, and the same search goes on with a better address.
    assert list(tmp_path.glob("searches/*/trial_*/record.json")) == []
    done = nas("search recipe.py --max-trials 2 --epochs 1 --no-tracking")
    assert done.returncode == 0, done.err

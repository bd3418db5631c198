"""Same seed, same search: in another process, and whatever the order of Python's sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGET = "tests.integration.forkserver:command_line"

RECIPE = """
import keras
from sklearn.datasets import load_digits

OBJECTIVE = "val_loss"

def build_model(hp):
    model = keras.Sequential([keras.Input((64,))])
    kind = hp.Choice("kind", ["plain", "deep", "noisy"])
    with hp.conditional_scope("kind", ["deep"]):
        if kind == "deep":
            model.add(keras.layers.Dense(hp.Int("inner", 4, 64), activation="relu"))
    with hp.conditional_scope("kind", ["noisy"]):
        if kind == "noisy":
            model.add(keras.layers.Dropout(hp.Float("rate", 0.1, 0.6)))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model

def load_data():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    return (x[:200], y[:200]), (x[200:300], y[200:300])
"""


def words(seed):
    return (
        f"search recipe.py --seed {seed} --deterministic --no-tracking --json --max-trials 6 "
        "--epochs 2"
    ).split()


def outcome(text, folder):
    """What has to be equal; how long it took need not be."""
    result = json.loads(text)
    trials = {}
    for path in sorted((folder / "searches" / "recipe").glob("trial_*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        names = ("values", "status", "score", "metrics", "best_step", "curves")
        trials[record["trial_id"]] = {name: record[name] for name in names}
    best = {name: result["best"][name] for name in ("trial_id", "values", "score", "metrics")}
    return {"trials": trials, "best": best}


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / name for name in ("first", "second", "third")]
    for folder in made:
        folder.mkdir()
        (folder / "recipe.py").write_text(RECIPE, encoding="utf-8")
    return made


def test_same_seed_same_search(folders, server):
    # Real processes: those of one fork server would share the order of their sets.
    script = Path(sys.executable).with_name("keras-nas")
    processes = [
        subprocess.Popen(
            [script, *words(0)],
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, seed in zip(folders[:2], "12", strict=True)
    ]
    other = server.run(TARGET, cwd=folders[2], words=words(1))
    shown = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    assert other.returncode == 0, other.err
    first, second = (outcome(out, dir_) for (out, _), dir_ in zip(shown, folders[:2], strict=True))
    assert len(first["trials"]) == 6
    assert first == second
    third = outcome(other.out, folders[2])
    assert len(third["trials"]) == 6
    assert [trial["values"] for trial in third["trials"].values()] != [
        trial["values"] for trial in first["trials"].values()
    ]

"""The same seed gives the same search, in another process and with other hash seeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.forkserver import HASH_SEED, NUMERICS

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


def arguments(seed, trials=6):
    return (
        f"search recipe.py --seed {seed} --deterministic --no-tracking --json "
        f"--max-trials {trials} --epochs 2"
    ).split()


def outcome(text, folder):
    """The results that must be equal, which excludes durations."""
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
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for folder in paths:
        folder.mkdir()
        (folder / "recipe.py").write_text(RECIPE, encoding="utf-8")
    return paths


def test_the_same_seed_gives_the_same_search_in_every_process(folders, server):
    # A new interpreter: processes of the fork server share a hash seed and so the order of sets.
    assert HASH_SEED != "2"
    settings = {"PYTHONHASHSEED": "2", "TF_CPP_MIN_LOG_LEVEL": "3", **NUMERICS}
    process = subprocess.run(
        [Path(sys.executable).with_name("keras-nas"), *arguments(0)],
        cwd=folders[0],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert process.returncode == 0, process.stderr
    assert "\x1b" not in process.stderr and "\r" not in process.stderr, "plain when piped"
    same, other_seed = (
        server.run(TARGET, cwd=folder, words=words)
        for folder, words in zip(folders[1:], (arguments(0), arguments(1, trials=2)), strict=True)
    )
    for child in (same, other_seed):
        assert child.returncode == 0, child.err
    first, second = outcome(process.stdout, folders[0]), outcome(same.out, folders[1])
    assert len(first["trials"]) == 6
    assert first == second
    third = outcome(other_seed.out, folders[2])
    assert len(third["trials"]) == 2
    for trial_id, trial in third["trials"].items():
        assert trial["values"] != first["trials"][trial_id]["values"]

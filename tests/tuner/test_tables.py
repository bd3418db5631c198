"""Trials as a table of pandas, and results as HTML for notebooks."""

import re

import keras
import numpy as np
import pandas as pd
import pytest

from keras_nas_plugin import NASTuner, RandomOracle
from keras_nas_plugin.records.dataframe import trials_dataframe
from keras_nas_plugin.records.retraining import RetrainedModel, Retraining
from keras_nas_plugin.registry.gates.base import Finding
from keras_nas_plugin.registry.verdict import Verdict
from keras_nas_plugin.tracking import load_records


def build(hp):
    """Half of the models have a dropout; one size fails."""
    units = hp.Choice("units", [2, 4, 8])
    layers = [keras.layers.Dense(units)]
    if hp.Boolean("drop"):
        with hp.conditional_scope("drop", [True]):
            layers.append(keras.layers.Dropout(hp.Float("rate", 0.1, 0.5)))
    if units == 8:
        raise ValueError("8 <units> are too many")
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    rng_rows = keras.random.normal((16, 4), seed=0)
    labels = [0, 1] * 8
    x, y = keras.ops.convert_to_numpy(rng_rows), keras.ops.convert_to_numpy(labels)
    oracle = RandomOracle("val_loss", 6, seed=1, max_consecutive_failed_trials=9)
    tuner = NASTuner(build, oracle, directory=tmp_path_factory.mktemp("s"), project_name="p")
    tuner.search(x, y, validation_data=(x, y), epochs=1, batch_size=16, verbose=0)
    return tuner


def test_every_trial_is_a_row_of_the_dataframe(searched):
    frame = searched.trials_dataframe()
    records = {record.trial_id: record for record in load_records(searched.project_dir)}
    assert list(frame.index) == list(records) and frame.index.name == "trial_id"
    assert set(frame["status"]) == {"FINISHED", "FAILED"}
    finished = frame[frame["status"] == "FINISHED"]
    assert finished.sort_values("rank").index[0] == finished["score"].idxmin()
    assert frame.loc[frame["status"] == "FAILED", "rank"].isna().all()
    assert str(frame["started"].dtype).startswith("datetime64") and frame["started"].dt.tz
    for trial_id, record in records.items():
        row = frame.loc[trial_id]
        assert row["values.units"] == record.values["units"]
        assert pd.isna(row["values.rate"]) == ("rate" not in record.values)
        if record.status == "FINISHED":
            assert row["metrics.val_loss"] == record.score == row["score"]
            assert row["costs.parameters"] == record.costs["parameters"]


def test_a_folder_without_a_search_gives_an_empty_dataframe(tmp_path):
    frame = trials_dataframe(tmp_path)
    assert len(frame) == 0 and {"status", "score", "rank"} <= set(frame.columns)


def test_the_html_of_a_tuner_lists_its_best_trials(searched):
    html = searched._repr_html_()
    best = searched.trials_dataframe().sort_values("rank").index[0]
    rows = re.findall(r"<tr><td>(\w+)</td>", html)
    assert rows[0] == best
    assert len(rows) == (searched.trials_dataframe()["status"] == "FINISHED").sum()
    assert "RandomOracle" in html and "val_loss (min)" in html and "nan" not in html


def test_the_html_of_a_trial_shows_its_values_and_escapes_its_error(searched):
    failed = next(r for r in load_records(searched.project_dir) if r.status == "FAILED")
    html = failed._repr_html_()
    assert "8 &lt;units&gt; are too many" in html and "<td>units</td><td>8</td>" in html


def test_the_html_of_a_retraining_shows_searched_and_retrained_scores():
    models = tuple(
        RetrainedModel(seed=seed, curve=(), weights="w", scores={"accuracy": score})
        for seed, score in ((0, 0.8), (1, 0.9))
    )
    retraining = Retraining(
        search_id="s",
        trial_id="07",
        key="k",
        objective="val_accuracy",
        direction="max",
        epochs=3,
        rows=100,
        searched={},
        models=models,
        measured_on="test",
        searched_scores={"accuracy": 0.75},
    )
    html = retraining._repr_html_()
    assert "<td>searched model</td><td>0.75</td>" in html
    assert "<td>retrained, seed 1</td><td>0.9</td>" in html
    assert "accuracy on test rows" in html and "0.85 ± 0.071" in html


def test_the_html_of_a_verdict_shows_the_finding_of_each_gate():
    verdict = Verdict(
        name="toy",
        version="3",
        champion="2",
        passed=False,
        findings=(Finding("thresholds", True, "a >= b"), Finding("comparison", False, "p = .4")),
        data={},
        costs={},
        by="ann",
        at="2026-01-01T00:00:00",
        why="",
    )
    html = verdict._repr_html_()
    assert "toy version 3: refused" in html and "a &gt;= b" in html
    assert "<td>comparison</td><td>refused</td><td>p = .4</td>" in html


def test_the_summary_of_a_search_in_which_all_trials_failed_says_why(tmp_path, capsys):
    def broken(hp):
        hp.Int("units", 1, 3)
        raise ValueError("these models cannot be built")

    oracle = RandomOracle("val_loss", 3, seed=0, max_consecutive_failed_trials=9)
    tuner = NASTuner(broken, oracle, directory=tmp_path, project_name="p")
    tuner.search(np.ones((1, 1)), np.zeros(1), epochs=1, verbose=0)
    capsys.readouterr()
    tuner.results_summary()
    text = capsys.readouterr().out
    assert "No trial has completed; 3 failed:" in text
    assert "3 trials, for example 0: ValueError: these models cannot be built" in text
    assert f"at {__file__}" in text and "traceback: " in text


def test_the_summary_before_any_trial_says_so(tmp_path, capsys):
    tuner = NASTuner(
        build, RandomOracle("val_loss", 3, seed=0), directory=tmp_path, project_name="p"
    )
    tuner.results_summary()
    assert "No trial has completed yet." in capsys.readouterr().out

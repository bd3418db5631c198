"""The recipe for medical images: smoke test, thresholds, calibration, bad input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import medical_imaging as recipe


def test_the_smoke_test_judges_a_rare_finding(smoke) -> None:
    scores = smoke(recipe, "--limit", "128", values={"stages": 2})
    values = scores["search"]
    assert set(values) == {"auc", "sensitivity", "specificity", "ece", "ece_calibrated"}
    assert all(0 <= value <= 1 for value in values.values())


def test_both_classes_weigh_the_same() -> None:
    data = recipe.load_data()
    counts = np.bincount(data["y"])
    assert counts[0] > 8 * counts[1]
    weights = data["class_weight"]
    assert weights[0] * counts[0] == pytest.approx(weights[1] * counts[1])
    assert len(data["class_names"]) == 2


def test_the_weights_reach_the_training_of_each_trial() -> None:
    splits = running.Splits.of(recipe.load_data())
    budget = running.Budget(trials=1, epochs=1, batch_size=8, seconds=None, seed=0)
    arguments: dict = {}
    tuner = SimpleNamespace(search=lambda *_, **given: arguments.update(given))
    running._search(tuner, splits, budget)
    assert arguments["class_weight"] == recipe.load_data()["class_weight"]


def test_the_threshold_has_the_specificity_and_no_lower_one_has_it() -> None:
    y = np.array([0] * 10 + [1] * 2)
    probabilities = np.array([0.1 * i for i in range(10)] + [0.85, 0.95])
    threshold = recipe.threshold_of(y, probabilities, 0.9)
    assert 0.8 < threshold <= 0.85  # the negative row at 0.9 is above it
    assert recipe.rates(y, probabilities >= threshold) == (1.0, 0.9)
    assert recipe.rates(y, probabilities >= 0.8)[1] < 0.9
    assert recipe.rates(y, probabilities >= recipe.threshold_of(y, probabilities, 1.0)) == (0.5, 1)
    # Rows of the same probability are on the same side.
    tied = np.full(12, 0.5)
    assert recipe.rates(y, tied >= recipe.threshold_of(y, tied, 0.9)) == (0, 1)
    with pytest.raises(ValueError, match="rows with the label 0"):
        recipe.threshold_of(np.ones(3), np.ones(3), 0.9)


def test_calibration_errors() -> None:
    error = recipe.calibration_error
    assert error(np.array([1, 0]), np.array([1.0, 0.0])) == 0
    assert error(np.array([1, 0]), np.array([0.0, 1.0])) == 1
    # Two bins: |1/2 - 0.3| for two rows, |1 - 0.9| for two.
    y, probabilities = np.array([1, 0, 1, 1]), np.array([0.3, 0.3, 0.9, 0.9])
    assert error(y, probabilities, bins=2) == pytest.approx(0.15)
    # In one bin, errors in both directions cancel.
    assert error(np.array([1, 0]), np.array([0.4, 0.6]), bins=1) == 0


def test_calibration_undoes_the_weights_of_classes() -> None:
    rng = np.random.default_rng(0)
    right = rng.beta(0.5, 4, 20_000)
    y = rng.random(len(right)) < right
    odds = 9 * right / (1 - right)  # as with a weight of 9 for findings
    weighted = odds / (1 + odds)
    calibrated = recipe.calibrated(y[:10_000], weighted[:10_000], weighted[10_000:])
    before = recipe.calibration_error(y[10_000:], weighted[10_000:])
    after = recipe.calibration_error(y[10_000:], calibrated)
    assert before > 0.15
    assert after < 0.02


def test_more_than_two_classes_are_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((30, 8, 8), "uint8"), y_train=np.arange(30) % 3)
    monkeypatch.setenv("NAS_DATASET", str(path))
    with pytest.raises(ValueError, match=r"classes 0 and 1 in the training images; got \[0, 1, 2"):
        recipe.load_data()

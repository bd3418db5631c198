"""The fast part of the benchmark: its bar and its learning curves."""

import numpy as np
import pytest

from benchmarks import successive_halving as benchmark
from keras_nas_plugin.space.hyperparameters import spec_of


def test_halving_reaches_the_best_score_with_a_third_of_the_epochs():
    runs = [benchmark.compare_curves(seed) for seed in range(6)]
    halving = benchmark.summary(runs, benchmark.HALVING)
    assert halving["part"] <= benchmark.BAR
    assert halving["lost"] <= benchmark.SAME
    assert all(run[benchmark.FULL]["epochs"] == 50 * 27 for run in runs)
    # The space is not trivial: under a tenth of its configurations come this near to the best.
    rng = np.random.default_rng(0)
    spec = spec_of(benchmark.curve_space())
    scores = [benchmark.curve(spec.sample(rng), 0, 27).max() for _ in range(300)]
    assert np.mean(np.array(scores) > max(scores) - benchmark.SAME) < 0.1


def test_learning_curves_cross():
    """The order after the first rung differs from the final order."""
    rng, spec = np.random.default_rng(1), spec_of(benchmark.curve_space())
    curves = np.array([benchmark.curve(spec.sample(rng), 0, 27) for _ in range(100)])
    first, last = curves[:, :3].max(axis=1), curves.max(axis=1)
    crossed = np.sign(first[:, None] - first) != np.sign(last[:, None] - last)
    assert 0.05 < crossed[np.triu_indices(100, 1)].mean() < 0.5


@pytest.mark.parametrize(
    ("epochs", "best", "verdict"), [(300, 0.9, "MET"), (500, 0.9, "MISSED"), (300, 0.8, "MISSED")]
)
def test_the_report_states_whether_the_bar_is_met(epochs, best, verdict):
    run = {
        benchmark.FULL: {"epochs": 1000, "best": 0.9},
        benchmark.HALVING: {"epochs": epochs, "best": best},
    }
    text = benchmark.report({"digits": [run]})
    assert f"bar: {verdict}" in text and f"{epochs / 1000:.3f}" in text

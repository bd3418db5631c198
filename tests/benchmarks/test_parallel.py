"""The reports of the benchmarks of parallel trials, and their simulated workers."""

import math

import keras_tuner
import numpy as np
import pytest

from benchmarks import many_workers, parallel
from keras_nas_plugin import RandomOracle


def run(training, *, startup=2.0, driver=0.01, scores=(0.5, 0.25)):
    return {
        "startup": startup,
        "training": training,
        "driver": driver,
        "worker_mb": 300.0,
        "total_mb": 0.0,
        "scores": list(scores),
        "trials": 12,
    }


def test_the_report_compares_with_the_sequential_search_of_the_same_turn():
    runs = {
        "sequential": [run(100.0), run(200.0), run(100.0)],
        "local": [run(50.0), run(100.0), run(80.0)],
        "ray": [run(90.0), run(180.0, scores=(0.5, 0.5)), run(90.0)],
    }
    sequential, local, ray = parallel._report("digits", runs).splitlines()[2:]
    assert "2.00" in local and local.endswith("True  PASS (ratio >= 1.7, driver <= 5%)")
    assert "1.11" in ray and ray.endswith("False  FAIL (ratio >= 1.5, driver <= 5%)")
    assert "PASS" not in sequential and "FAIL" not in sequential


def test_a_driver_that_is_busy_fails():
    runs = {"sequential": [run(100.0)], "local": [run(50.0, driver=0.06)]}
    assert "FAIL" in parallel._report("digits", runs).splitlines()[-1]


def test_the_array_of_the_driver_is_no_copy():
    runs = {"1MB": {"total_mb": 1000.0}, "200MB": {"total_mb": 1398.0}}
    assert "1.00 copies beside the driver's own array PASS" in parallel._memory_report(runs)
    runs["200MB"]["total_mb"] = 1597.0
    assert "2.00 copies beside the driver's own array FAIL" in parallel._memory_report(runs)


@pytest.mark.parametrize("workers", [1, 3])
def test_simulated_workers_run_every_trial_once(workers):
    space = keras_tuner.HyperParameters()
    space.Float("x", 0, 1)
    oracle = RandomOracle(
        keras_tuner.Objective("score", "max"), max_trials=7, seed=1, hyperparameters=space
    )
    pending = []

    def score(values):
        pending.append(len(oracle.ongoing_trials))
        return values["x"]

    ended = list(many_workers.simulate(oracle, score, "score", workers, seed=0))
    assert sorted(values["x"] for values, _, _ in ended) == sorted(
        trial.hyperparameters.values["x"] for trial in oracle.trials.values()
    )
    assert len(ended) == len(oracle.end_order) == 7
    assert max(pending) == workers
    assert all(seconds >= 0 for _, _, seconds in ended)
    # With one worker in the order of the proposals, with several in that of the durations.
    assert (list(oracle.end_order) == list(oracle.start_order)) == (workers == 1)


def test_losses_are_counted_from_the_first_evaluation_with_the_mean():
    rising = np.minimum(np.arange(1.0, 301.0), 90.0)
    late = np.concatenate([np.zeros(45), rising[:-45]])
    losses = many_workers._losses([rising, rising, late, np.zeros(300)])
    assert losses == [0.0, pytest.approx(0.5), math.inf]
    # All repetitions are the same, so that every sample has the same loss.
    curves = [np.array([curve] * 3) for curve in (rising, rising, late, np.zeros(300))]
    intervals = many_workers._losses_with_intervals(curves)
    assert intervals == [(loss, loss, loss) for loss in losses]
    # One of two repetitions is late: in a quarter of the samples both are, in a quarter none.
    curves = [np.array([rising, rising]), np.array([rising, late])]
    ((loss, low, high),) = many_workers._losses_with_intervals(curves)
    assert (low, high) == (0.0, pytest.approx(0.5)) and low < loss <= high


def test_a_strategy_that_never_reaches_the_mean_is_reported():
    losses = [(math.inf, 0.2, math.inf), (0.5, 0.25, 0.75)]
    text = many_workers._pending_report({"cifar10": {"random": losses}})
    assert "never (20% to never)" in text and "50% (25% to 75%)" in text and "FAIL" in text

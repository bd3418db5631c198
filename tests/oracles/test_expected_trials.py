"""Strategies whose defaults follow the number of trials that a time budget allows."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import (
    LocalSearchOracle,
    NASTuner,
    NSGA2Oracle,
    RegularizedEvolutionOracle,
    SurrogateOracle,
)
from keras_nas_plugin.training import budget as budget_module
from keras_nas_plugin.training.budget import Budget

SETTINGS = {
    RegularizedEvolutionOracle: {"population_size": (20, 4), "tournament_size": (5, 2)},
    SurrogateOracle: {"initial_trials": (10, 4)},
    LocalSearchOracle: {"initial_samples": (10, 3)},
    NSGA2Oracle: {"population_size": (40, 3)},
}


def space():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("a", 0, 99)
    hyperparameters.Int("b", 0, 99)
    return hyperparameters


def new(cls, folder=None, max_trials=1_000, **options):
    objective = keras_tuner.Objective("loss", "min")
    oracle = cls(objective, max_trials, hyperparameters=space(), seed=1, **options)
    if folder is not None:
        oracle._set_project_dir(folder, "search")
    return oracle


def run(oracle, trials):
    for _ in range(trials):
        trial = oracle.create_trial("tuner0")
        oracle.update_trial(trial.trial_id, {"loss": trial.hyperparameters.get("a")})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)
def test_defaults_follow_the_expected_number_of_trials(cls):
    oracle = new(cls)
    for name, (before, _) in SETTINGS[cls].items():
        assert getattr(oracle.strategy, name) == before
    oracle.expect_trials(12)
    for name, (_, after) in SETTINGS[cls].items():
        assert getattr(oracle.strategy, name) == after
    oracle.expect_trials(5_000)  # the first trial was slow
    for name, (before, _) in SETTINGS[cls].items():
        assert getattr(oracle.strategy, name) == before


def test_arguments_of_the_caller_stay():
    oracle = new(RegularizedEvolutionOracle, population_size=15)
    oracle.expect_trials(12)
    assert oracle.strategy.population_size == 15
    assert oracle.strategy.tournament_size == 4  # the default for that population


def test_no_more_trials_than_the_largest_number_are_expected():
    oracle = new(RegularizedEvolutionOracle, max_trials=25)
    oracle.expect_trials(10_000)
    assert oracle.strategy.population_size == 5


def test_the_number_is_settled_when_the_first_trials_have_ended():
    oracle = new(RegularizedEvolutionOracle)
    oracle.expect_trials(30)
    run(oracle, 11)
    oracle.expect_trials(1_000)
    assert oracle.strategy.population_size == 6


def test_a_resumed_search_expects_the_same_number(tmp_path):
    oracle = new(RegularizedEvolutionOracle, tmp_path)
    run(oracle, 3)
    oracle.expect_trials(9)
    run(oracle, 5)
    again = new(RegularizedEvolutionOracle, tmp_path)
    again.reload()
    assert again.strategy.population_size == oracle.strategy.population_size == 4
    members = [[member.trial_id for member in o.strategy.population] for o in (oracle, again)]
    assert members[0] == members[1]
    assert again.create_trial("t").hyperparameters.values == (
        oracle.create_trial("t").hyperparameters.values
    )


def test_the_budget_knows_how_many_trials_remain(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(budget_module.time, "monotonic", lambda: now[0])
    budget = Budget(60.0)
    budget.start()
    assert budget.remaining_trials() is None
    assert budget.scoring_seconds() == pytest.approx(3.0)
    now[0] += 10.0
    budget.record_trial(10.0)
    assert budget.remaining_trials() == 5
    now[0] += 10.0
    for _ in range(3):  # of several workers
        budget.record_trial(10.0)
    assert budget.remaining_trials() == 8
    assert budget.scoring_seconds() == pytest.approx(6.0)
    now[0] += 100.0
    assert budget.remaining_trials() == 0
    assert Budget(None).remaining_trials() is None
    assert Budget(None).scoring_seconds() == float("inf")


def test_a_search_by_time_leaves_its_random_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Budget, "remaining_trials", lambda self: 10)

    def build(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 99))])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    oracle = RegularizedEvolutionOracle("loss", max_trials=7, seed=0)
    large = RegularizedEvolutionOracle("loss", max_trials=1_000, seed=0)
    assert (oracle.strategy.population_size, large.strategy.population_size) == (4, 20)
    tuner = NASTuner(build, oracle=large, directory=tmp_path, budget=3_600)
    create = large.create_trial

    def stop_after(tuner_id):
        if len(large.end_order) == 6:
            raise KeyboardInterrupt
        return create(tuner_id)

    monkeypatch.setattr(large, "create_trial", stop_after)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(np.zeros((4, 2)), np.zeros((4, 1)), epochs=1, verbose=0)
    assert large.strategy.population_size == 4
    assert any(large.ledger.parents[trial_id] for trial_id in large.end_order)

"""The first trials of a search by time: the default, then cheap and different configurations."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import (
    GradientProxyOracle,
    LocalSearchOracle,
    NASTuner,
    NSGA2Oracle,
    PPOOracle,
    RandomOracle,
    RegularizedEvolutionOracle,
    ReinforceOracle,
    SuccessiveHalvingOracle,
    SurrogateOracle,
)
from keras_nas_plugin.oracles.opening import Opening
from keras_nas_plugin.space.encoding import distances, encoding_of
from keras_nas_plugin.training.opening import ParameterCounts

OBJECTIVE = keras_tuner.Objective("loss", "min")


def space():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 1, 1_000, default=500)
    hyperparameters.Choice("activation", ["relu", "tanh", "gelu"], default="gelu")
    return hyperparameters


def new(cls=SurrogateOracle, count=lambda hp: hp.get("units"), folder=None, **options):
    oracle = cls(OBJECTIVE, 1_000, hyperparameters=space(), seed=3, **options)
    if folder is not None:
        oracle._set_project_dir(folder, "search")
    oracle.opening = Opening(count, oracle.strategy.opening_trials)
    return oracle


def run(oracle, trials):
    values = []
    for _ in range(trials):
        trial = oracle.create_trial("tuner0")
        values.append(dict(trial.hyperparameters.values))
        oracle.update_trial(trial.trial_id, {"loss": trial.hyperparameters.get("units")})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return values


@pytest.mark.parametrize(
    "cls", [SurrogateOracle, RegularizedEvolutionOracle, LocalSearchOracle, NSGA2Oracle]
)
def test_the_default_comes_first_then_what_is_cheap_and_different(cls):
    counted = []

    def count(hp):
        counted.append(dict(hp.values))
        return hp.get("units")

    oracle = new(cls, count)
    (default,) = run(oracle, 1)
    assert default == {"units": 500, "activation": "gelu"} and counted == []
    oracle.expect_trials(40)
    tried = [default]
    for _ in range(3):
        (values,) = run(oracle, 1)
        assert len(counted) == 8
        cheap = sorted(counted, key=lambda candidate: candidate["units"])[:4]
        assert values in cheap
        encoding = encoding_of(oracle.spec)
        apart = distances(encoding, encoding.encode_many(cheap), encoding.encode_many(tried))
        assert values == cheap[int(apart.min(axis=1).argmax())]
        tried.append(values)
        counted.clear()
    run(oracle, 3)  # the strategy's
    assert counted == []


@pytest.mark.parametrize("expected, trials", [(None, 2), (9, 3), (100, 4)])
def test_its_length_follows_the_number_of_trials_that_the_time_allows(expected, trials):
    counted = []

    def count(hp):
        counted.append(hp.get("units"))
        return hp.get("units")

    oracle = new(count=count)
    if expected is not None:
        oracle.expect_trials(expected)
    run(oracle, 6)
    assert len(counted) == 8 * (trials - 1)


def test_a_resumed_search_continues_its_opening(tmp_path):
    expected = new(folder=tmp_path / "a")
    expected.expect_trials(100)
    values = run(expected, 4)
    oracle = new(folder=tmp_path / "b")
    oracle.expect_trials(100)
    assert run(oracle, 2) == values[:2]
    again = new(folder=tmp_path / "b")
    again.reload()
    assert run(again, 2) == values[2:]


def test_initial_configurations_come_before_and_earlier_trials_replace_it():
    oracle = new(initial=[{"units": 7, "activation": "relu"}])
    assert run(oracle, 1) == [{"units": 7, "activation": "relu"}]
    assert run(oracle, 1)[0]["units"] != 500  # cheap and different
    earlier = [({"units": 5, "activation": "relu"}, 1.0)]
    with_opening = new(RegularizedEvolutionOracle, warm_start=earlier)
    without = new(RegularizedEvolutionOracle, warm_start=earlier)
    without.opening = None
    assert run(with_opening, 2) == run(without, 2)


@pytest.mark.parametrize("count", [lambda hp: None, lambda hp: 1 / 0], ids=["unknown", "raises"])
def test_different_candidates_are_tried_where_nothing_is_known_of_their_size(count):
    oracle = new(count=count)
    oracle.expect_trials(100)
    values = run(oracle, 4)
    assert values[0]["units"] == 500
    assert {item["activation"] for item in values} == {"relu", "tanh", "gelu"}


def test_a_small_space_is_exhausted():
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("units", [1, 2], default=2)
    oracle = SurrogateOracle(OBJECTIVE, 10, hyperparameters=hyperparameters, seed=0)
    oracle.opening = Opening(lambda hp: hp.get("units"), 4)
    oracle.expect_trials(10)
    assert [item["units"] for item in run(oracle, 2)] == [2, 1]
    assert oracle.create_trial("tuner0").status == "STOPPED"


def test_what_models_discover_is_searched():
    def count(hp):
        return hp.get("units") * (2 if hp.Boolean("wide") else 1)

    oracle = new(count=count)
    run(oracle, 2)
    assert "wide" in oracle.spec.names


def test_a_rejected_default_is_not_proposed_again():
    from keras_nas_plugin.oracles.screening import Screening

    oracle = new()
    oracle.set_screen(lambda hp: Screening(violation=float(hp.get("units") > 400)))
    assert all(values["units"] <= 400 for values in run(oracle, 3))


@pytest.mark.parametrize(
    "cls, trials",
    [
        (RandomOracle, 0),
        (GradientProxyOracle, 1),
        (PPOOracle, 4),
        (ReinforceOracle, 4),
        (SurrogateOracle, 4),
    ],
)
def test_strategies_say_how_many_trials_they_leave_to_it(cls, trials):
    assert cls(OBJECTIVE, 10).strategy.opening_trials == trials


def test_halving_has_the_opening_of_its_source():
    oracle = SuccessiveHalvingOracle(source=SurrogateOracle(OBJECTIVE, 10))
    assert oracle.strategy.opening_trials == 4


# ---------------------------------------------------------------------- in a tuner


def build(hp):
    units = hp.Int("units", 1, 99, default=64)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def search(folder, oracle, **options):
    tuner = NASTuner(build, oracle=oracle, directory=folder, **options)
    tuner.search(np.zeros((4, 2)), np.zeros((4, 1)), epochs=1, verbose=0)
    return [oracle.trials[key].hyperparameters.get("units") for key in oracle.start_order]


def test_a_search_by_time_starts_with_the_default(tmp_path):
    by_time = search(tmp_path / "a", SurrogateOracle("loss", 2, seed=0), budget=3_600)
    assert by_time[0] == 64
    random = search(tmp_path / "b", RandomOracle("loss", 2, seed=0), budget=3_600)
    assert random == search(tmp_path / "c", RandomOracle("loss", 2, seed=0))


def test_a_search_by_trials_is_what_its_strategy_proposes(tmp_path):
    oracle = SurrogateOracle("loss", 2, seed=0)
    assert search(tmp_path / "a", oracle) == search(
        tmp_path / "b", SurrogateOracle("loss", 2, seed=0)
    )
    assert oracle.opening is None


def test_models_are_built_for_a_share_of_the_time_only():
    class Counted(keras_tuner.HyperModel):
        built = 0

        def build(self, hp):
            self.built += 1
            return build(hp)

    hypermodel = Counted()
    hp = keras_tuner.HyperParameters()
    assert ParameterCounts(hypermodel, 3_600.0)(hp) == 2 * 64 + 64 + 64 + 1
    assert ParameterCounts(hypermodel, 0.0)(hp) is None
    assert hypermodel.built == 1


def test_the_distance_of_configurations():
    oracle = new()
    encoding = encoding_of(oracle.spec)
    codes = encoding.encode_many(
        [
            {"units": 1, "activation": "relu"},
            {"units": 1_000, "activation": "relu"},
            {"units": 1, "activation": "tanh"},
        ]
    )
    actual = distances(encoding, codes, codes)
    assert actual == pytest.approx(
        np.array([[0, 0.4995, 0.5], [0.4995, 0, 0.9995], [0.5, 0.9995, 0]])
    )

"""The strategy that is chosen for a search."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import (
    NASTuner,
    NSGA2Oracle,
    SuccessiveHalvingOracle,
    SurrogateOracle,
)
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles import make_oracle
from keras_nas_plugin.oracles.auto import choose_strategy

TWO = [keras_tuner.Objective("val_loss", "min"), keras_tuner.Objective("parameters", "min")]


@pytest.mark.parametrize(
    ("objective", "epochs", "expected", "reason"),
    [
        (TWO, 10, NSGA2Oracle, "nsga2, because there are 2 objectives"),
        ("val_loss", 10, SuccessiveHalvingOracle, "halving around surrogate, because poor"),
        (["val_loss"], 3, SuccessiveHalvingOracle, "halving around surrogate"),
        ("val_loss", 2, SurrogateOracle, "surrogate, because trainings are too short"),
        ("val_loss", None, SurrogateOracle, "surrogate"),
    ],
)
def test_a_strategy_is_chosen_and_the_reason_is_said(objective, epochs, expected, reason, caplog):
    oracle = make_oracle("auto", objective, 20, seed=1, epochs=epochs)
    assert type(oracle) is expected
    assert oracle.max_trials == 20 and oracle.seed == 1
    assert f"Strategy: {reason}" in caplog.text


def test_the_choice_does_not_depend_on_what_a_resumed_search_may_change():
    choices = {make_oracle("auto", "val_loss", n, epochs=5).strategy_name for n in (1, 1_000)}
    assert len(choices) == 1
    assert choose_strategy(1, 5) == choose_strategy(1, 5)


def test_the_default_architecture_is_tried_first(tmp_path):
    def build(hp):
        units = hp.Int("units", 1, 64, default=17)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
        model.compile("sgd", hp.Choice("loss", ["mse", "mae"], default="mae"), run_eagerly=True)
        return model

    oracle = make_oracle("auto", "loss", 2, seed=3, epochs=1)
    tuner = NASTuner(build, oracle=oracle, directory=tmp_path)
    tuner.search(np.zeros((4, 2)), np.zeros((4, 1)), epochs=1, verbose=0)
    first, second = (oracle.trials[name].hyperparameters.values for name in oracle.start_order)
    assert first == {"units": 17, "loss": "mae"}
    assert second != first


def test_objectives_are_checked():
    with pytest.raises(ObjectiveError):
        make_oracle("auto", [])

"""The recipe for small devices: smoke test with its Pareto front, limits, the space."""

from __future__ import annotations

import keras_tuner
import numpy as np
import pandas as pd
import pytest

from keras_nas_plugin import count_parameters
from keras_nas_plugin.recipes import running
from recipes import edge_device as recipe

pytest.importorskip("ai_edge_litert")


def test_the_smoke_test_stays_below_the_limits(smoke) -> None:
    values = smoke(recipe, "--limit", "32", values={"blocks": 1})["search"]
    assert set(values) == {"int8_accuracy", "accuracy", "kilobytes", "latency_ms"}
    assert 1 < values["kilobytes"] < 50
    assert values["latency_ms"] > 0


def test_models_take_spectrograms_and_the_baseline_is_below_the_limit(monkeypatch) -> None:
    monkeypatch.setenv("NAS_LIMIT", "40")
    data = recipe.load_data()
    assert data["x"].shape[2:] == (40, 1)
    assert abs(data["x"].mean()) < 0.1
    hp = keras_tuner.HyperParameters()
    model = recipe.build_model(hp)
    assert running.predict(model, data["x"][:2]).shape == (2, 10)
    names = {parameter.name for parameter in hp.space}
    assert f"block{recipe.MOST_BLOCKS}_width" in names  # one build declares all blocks
    baseline = recipe.baseline_model(keras_tuner.HyperParameters())
    assert 20_000 < count_parameters(baseline) < 40_000


def test_the_program_searches_with_the_limits_and_all_objectives(monkeypatch, capsys) -> None:
    class Asked(Exception):
        pass

    def ask(*arguments, **options):
        raise Asked(*arguments, options)

    monkeypatch.setattr("keras_nas_plugin.oracles.registry.make_oracle", ask)
    with pytest.raises(Asked) as asked:
        recipe.main(["--smoke", "--limit", "40"])
    strategy, objectives, _, options = asked.value.args
    assert strategy == "nsga2"
    assert objectives == [
        "litert_int8_accuracy",
        "litert_int8_bytes",
        "litert_int8_latency_ms",
    ]
    limits = {limit.name: limit.max for limit in options["constraints"]}
    assert limits == {"litert_int8_bytes": 50_000, "litert_int8_latency_ms": 5}
    assert options["initial"][0]["blocks"] == 3


def test_the_front_has_the_trials_that_no_other_beats() -> None:
    table = pd.DataFrame(
        {
            "rank": [1, 2, 3, np.nan, 4],
            "metrics.val_accuracy": [0.9, 0.8, 0.7, 0.95, 0.85],
            "costs.parameters": [100.0, 50.0, 60.0, 1.0, 100.0],
        },
        index=list("abcde"),
    )
    front = running.pareto_front(table, ["val_accuracy", "parameters"])
    # c is beaten by b, and e by a; d did not count.
    assert [line.split() for line in front.splitlines()[1:]] == [
        ["trial", "val_accuracy", "parameters"],
        ["a", "0.9", "100"],
        ["b", "0.8", "50"],
    ]

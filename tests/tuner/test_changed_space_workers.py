"""A chief whose program was edited, with two worker processes."""

import keras

from keras_nas_plugin import NASTuner, RandomOracle
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.testing.searches import digits
from tests.contracts.clusters import run_forked


def test_a_chief_continues_in_the_space_of_its_program(tmp_path):
    def earlier(hp):
        layers = [keras.layers.Dense(hp.Choice("width", [2, 4])), keras.layers.Dense(10)]
        model = keras.Sequential([keras.Input((64,)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
        return model

    oracle = RandomOracle("val_accuracy", max_trials=2, seed=0)
    options = {"directory": tmp_path, "project_name": "search", "tuner_id": "chief"}
    tuner = NASTuner(earlier, oracle, **options)
    tuner.search(**{**digits(), "epochs": 1, "batch_size": 512})
    cluster = run_forked("keras_nas_plugin.oracles.random:RandomOracle", tmp_path, trials=2)
    assert set(cluster.exit_codes.values()) == {0}, cluster.output
    assert "`width` removed" in cluster.output["chief"]
    assert "2 of 2 earlier trials are not in the space now" in cluster.output["chief"]
    assert not any("earlier trials" in cluster.output[name] for name in cluster.runs)
    assert sorted(trial for ids in cluster.runs.values() for trial in ids) == ["2", "3"]
    assert set(cluster.report["best"]) <= {"2", "3"}
    assert SearchInfo.load(tmp_path / "search").exclusions.reasons.keys() == {"0", "1"}

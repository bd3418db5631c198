"""Candidates that are really built and scored, with `NASTuner` and without."""

import json
import math
import time

import keras
import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import GradientProxyOracle, MLflowTracker, NASTuner
from keras_nas_plugin.errors import NASError, StrategyError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.gradient_proxy import DEFAULT_PROXIES, default_pool
from keras_nas_plugin.space import (
    Identity,
    Layer,
    LayerChoice,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
)
from keras_nas_plugin.tracking.records import load_records
from tests.integration import forkserver

NAMES = ["synflow", "naswot", "jacob_cov", "params", "flops"]
PLACES = ["predicted_rank"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 6)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    return {"x": x[:64], "y": y[:64], "validation_data": (x[64:], y[64:])}


def build(hp):
    model = keras.Sequential([keras.Input((6,))])
    for layer in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Choice(f"units{layer}", [2, 8, 32]), "relu"))
    model.add(keras.layers.Dense(2, "softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def space():
    block = LayerChoice(
        {
            "dense": Layer("Dense", units=ValueChoice([4, 16]), activation="relu"),
            "tanh": Layer("Dense", units=8, activation="tanh"),
            "skip": Identity(),
        }
    )
    return SpaceHyperModel(
        Sequential(Repeat(block, 1, 3), Layer("Dense", units=2, activation="softmax")),
        inputs=(6,),
        compile={
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
        },
    )


def tuner(folder, hypermodel, *, max_trials=6, tracker=None, resume=False, **options):
    oracle = GradientProxyOracle(
        "val_accuracy",
        max_trials,
        seed=0,
        **{"pool_size": 10, "initial_trials": 3, **options},
    )
    return NASTuner(
        hypermodel,
        oracle=oracle,
        directory=folder,
        project_name="search",
        tracker=tracker,
        overwrite=not resume,
        deterministic=True,
    )


def lines(folder):
    text = (folder / "search" / "proxies.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("strategy", ["ranker", "gradient"])
def test_a_search_is_scored_logged_and_calibrated(tmp_path, data, strategy):
    uri = forkserver.new_store(tmp_path)
    tracker = MLflowTracker(experiment="proxies", tracking_uri=uri)
    search = tuner(tmp_path, build, tracker=tracker, strategy=strategy)
    search.search(epochs=1, verbose=0, **data)
    records = list(load_records(search.project_dir))
    assert [one.status for one in records] == ["FINISHED"] * 6
    for number, one in enumerate(records):
        # A network may be as bad as can be by a proxy; that is not a number to log.
        assert {"params", "flops"} <= set(one.proxies) <= set(NAMES + PLACES), one.trial_id
        assert ("predicted_rank" in one.proxies) == (number >= 3)
        assert all(map(math.isfinite, one.proxies.values()))
    # The pool, and what was scored for the proposals that the model made.
    header, *scored = lines(tmp_path)
    assert header["proxies"] == NAMES
    architectures = [line["architecture"] for line in scored]
    assert len(set(architectures)) == len(architectures) >= 10

    client = mlflow.MlflowClient(uri)
    runs = [client.get_run(tracker.run_id(one.trial_id)) for one in records]
    for one, run in zip(records, runs, strict=True):
        logged = run.data.metrics
        for name, value in one.proxies.items():
            assert logged[f"proxy/{name}"] == pytest.approx(value)
        assert 1 <= logged["proxy/observed_rank"] <= 6
    parent = client.get_run(tracker.parent_run_id).data.metrics
    ranking = {name for name in parent if name.startswith("proxy_ranking/")}
    assert ranking <= {f"proxy_ranking/{name}" for name in NAMES} and ranking
    history = client.get_metric_history(tracker.parent_run_id, sorted(ranking)[0])
    assert [point.step for point in history] == [4, 5, 6]


def test_the_best_by_their_proxies_come_first(tmp_path, data):
    """With the number of parameters as the only proxy."""
    search = tuner(tmp_path, build, max_trials=3, proxies=["params"], pool_size=20)
    search.search(epochs=1, verbose=0, **data)
    known = sorted((line["scores"]["params"] for line in lines(tmp_path)[1:]), reverse=True)
    ran = [one.proxies["params"] for one in load_records(search.project_dir)]
    # The second is a random one.
    assert ran[0] == known[0] and ran[2] == next(one for one in known[1:] if one != ran[1])
    assert ran == [one.costs["parameters"] for one in load_records(search.project_dir)]


def test_a_resumed_search_scores_nothing_again_and_goes_on_the_same(tmp_path, data, monkeypatch):
    straight = tuner(tmp_path / "straight", space())
    straight.search(epochs=1, verbose=0, **data)
    first = tuner(tmp_path / "resumed", space(), max_trials=4)
    first.search(epochs=1, verbose=0, **data)
    before = lines(tmp_path / "resumed")
    # A process that was killed while it wrote.
    with open(tmp_path / "resumed" / "search" / "proxies.jsonl", "a") as file:
        file.write('{"architecture": "ha')
    second = tuner(tmp_path / "resumed", space(), resume=True)
    built = []
    score = second.oracle.scores._compute
    monkeypatch.setattr(
        second.oracle.scores, "_compute", lambda values: built.append(values) or score(values)
    )
    second.search(epochs=1, verbose=0, **data)
    after = lines(tmp_path / "resumed")
    assert after[: len(before)] == before
    assert len(after) == len(before) + len(built)
    proposals = [
        [one.values for one in load_records(search.project_dir)] for search in (straight, second)
    ]
    assert proposals[0] == proposals[1]


def test_equal_architectures_are_scored_once(tmp_path, data):
    hypermodel = space()
    search = tuner(tmp_path, hypermodel, max_trials=2, pool_size=40)
    search.search(epochs=1, verbose=0, **data)
    pool = search.oracle.strategy.pool(search.oracle.spec)
    assert len(lines(tmp_path)) - 1 < len(pool.codes)


def test_a_stock_tuner_takes_it_with_a_hypermodel_and_a_batch(tmp_path, data):
    batch = (data["x"][:16], data["y"][:16])
    options = {"pool_size": 5, "initial_trials": 2, "seed": 0}
    oracle = GradientProxyOracle("val_accuracy", 3, hypermodel=build, batch=batch, **options)
    search = keras_tuner.Tuner(oracle, build, directory=tmp_path, project_name="search")
    search.search(epochs=1, verbose=0, **data)
    assert len(search.oracle.get_best_trials(3)) == 3
    assert search.oracle.get_best_trials(1)[0].metrics.get_best_value("proxy/params") > 0
    bare = GradientProxyOracle("val_accuracy", 3, **options)
    search = keras_tuner.Tuner(bare, build, directory=tmp_path, project_name="other")
    with pytest.raises(NASError, match="needs `hypermodel` and `batch`"):
        search.search(epochs=1, verbose=0, **data)


def test_data_sets_give_a_batch_and_generators_need_one(tmp_path, data):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((data["x"], data["y"])).batch(8)
    search = tuner(tmp_path, build, max_trials=1, proxies=["naswot"])
    search.search(dataset, epochs=1, verbose=0, validation_data=data["validation_data"])
    assert search.oracle.scores.batch[0].shape == (8, 6)

    def rows():
        while True:
            yield data["x"][:8], data["y"][:8]

    search = tuner(tmp_path / "generator", build, max_trials=1)
    with pytest.raises(NASError, match="received no `batch`"):
        search.search(
            rows(), steps_per_epoch=1, epochs=1, verbose=0, validation_data=data["validation_data"]
        )


def test_what_cannot_be_built_or_scored_is_the_worst(tmp_path, data, caplog):
    def fragile(hp):
        model = build(hp)
        if hp.get("layers") == 3:
            raise ValueError("three layers are too many")
        return model

    search = tuner(tmp_path, fragile, max_trials=3, pool_size=20)
    search.search(epochs=1, verbose=0, **data)
    assert "counts as the worst: three layers are too many" in caplog.text
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    lost = [one for one in scores if one["params"] is None]
    assert 0 < len(lost) < len(scores) and all(set(one.values()) == {None} for one in lost)
    assert all(one.values["layers"] < 3 for one in load_records(search.project_dir))


def test_what_a_constraint_refuses_is_not_scored(tmp_path, data):
    """And may be scored in the same search under another constraint."""
    small = [Constraint("params", max=150)]
    search = tuner(tmp_path, build, max_trials=4, constraints=small)
    search.search(epochs=1, verbose=0, **data)
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    known = [one["params"] for one in scores if one["params"] is not None]
    assert 0 < len(known) < len(scores) and max(known) <= 150
    pool = search.oracle.strategy.pool(search.oracle.spec)
    assert len(pool.codes) <= len(known)
    ran = [one.costs["parameters"] for one in load_records(search.project_dir)]
    assert len(ran) == 4 and max(ran) <= 150

    search = tuner(tmp_path, build, max_trials=8, resume=True, constraints=[])
    search.search(epochs=1, verbose=0, **data)
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    assert None not in [one["params"] for one in scores]
    assert max(one["params"] for one in scores) > 150


def test_the_budget_ends_a_search_that_scores(tmp_path, data):
    def slow(hp):
        time.sleep(0.3)
        return build(hp)

    oracle = GradientProxyOracle("val_accuracy", 3, seed=0, pool_size=100, proxies=["params"])
    search = NASTuner(slow, oracle=oracle, directory=tmp_path, project_name="search", budget=2.0)
    search.search(epochs=1, verbose=0, **data)
    assert search.stopped_by == "budget"
    assert not search.oracle.trials
    assert len(lines(tmp_path)) < 30


def test_a_batch_that_suits_no_model_is_an_error(tmp_path, data):
    wrong = (data["x"][:8, :3], data["y"][:8])
    search = tuner(tmp_path, build, batch=wrong, pool_size=12)
    with pytest.raises(NASError, match="none of the first 10 candidates can be scored"):
        search.search(epochs=1, verbose=0, **data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "bayes"}, "`strategy` needs one of ranker, gradient; received 'bayes'"),
        ({"batch": np.zeros((3, 4))}, "`batch` needs a pair"),
        ({"proxies": "synflow"}, "`proxies` needs a list"),
        ({"proxies": []}, "`proxies` needs a list"),
        ({"proxies": ["synfow"]}, "`proxies` needs .* received 'synfow'"),
        ({"initialisations": 0}, "`initialisations` needs at least 1"),
        ({"pool_size": 1}, "`pool_size` needs at least 2"),
        ({"hypermodel": 3}, "`hypermodel` needs a function"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(NASError, match=message):
        GradientProxyOracle("val_accuracy", **options)


def test_defaults():
    oracle = GradientProxyOracle("val_accuracy")
    assert list(oracle.scores.names) == NAMES and len(DEFAULT_PROXIES) == 5
    assert oracle.strategy.pool_size == default_pool(100) == 200
    with pytest.raises(StrategyError):
        oracle.scores({"units": 3})

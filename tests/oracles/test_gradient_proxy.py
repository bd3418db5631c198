"""Candidates that are built and scored, with `NASTuner` and with a plain tuner."""

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
from keras_nas_plugin.oracles.gradient_proxy import DEFAULT_PROXIES
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.space import (
    Identity,
    Layer,
    LayerChoice,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
)
from tests.integration import forkserver

NAMES = ["synflow", "naswot", "jacob_cov", "params", "flops"]
RANK_NAMES = ["predicted_rank"]


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
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
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
            "optimizer": "sgd",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
            "run_eagerly": True,
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
def test_proxies_are_recorded_logged_and_compared_with_scores(tmp_path, data, strategy):
    uri = forkserver.new_store(tmp_path)
    tracker = MLflowTracker(experiment="proxies", tracking_uri=uri)
    search = tuner(tmp_path, build, tracker=tracker, strategy=strategy)
    search.search(epochs=1, verbose=0, **data)
    records = list(load_records(search.project_dir))
    assert [record.status for record in records] == ["FINISHED"] * 6
    for number, record in enumerate(records):
        # The worst value of a proxy is infinite, and only finite values are recorded.
        assert {"params", "flops"} <= set(record.proxies) <= set(NAMES + RANK_NAMES), (
            record.trial_id
        )
        assert ("predicted_rank" in record.proxies) == (number >= 3)
        assert all(map(math.isfinite, record.proxies.values()))
    # The pool, and the candidates scored for proposals of the model.
    header, *scored = lines(tmp_path)
    assert header["proxies"] == NAMES
    architectures = [line["architecture"] for line in scored]
    assert len(set(architectures)) == len(architectures) >= 10

    client = mlflow.MlflowClient(uri)
    runs = [client.get_run(tracker.run_id(record.trial_id)) for record in records]
    for record, run in zip(records, runs, strict=True):
        logged = run.data.metrics
        for name, value in record.proxies.items():
            assert logged[f"proxy/{name}"] == pytest.approx(value)
        assert 1 <= logged["proxy/observed_rank"] <= 6
    parent = client.get_run(tracker.parent_run_id).data.metrics
    ranking = {name for name in parent if name.startswith("proxy_ranking/")}
    assert ranking <= {f"proxy_ranking/{name}" for name in NAMES} and ranking
    history = client.get_metric_history(tracker.parent_run_id, sorted(ranking)[0])
    assert [point.step for point in history] == [4, 5, 6]


def test_the_first_trials_are_the_best_by_their_proxies(tmp_path, data):
    """The number of parameters is the only proxy."""
    search = tuner(tmp_path, build, max_trials=3, proxies=["params"], pool_size=20)
    search.search(epochs=1, verbose=0, **data)
    parameters = sorted((line["scores"]["params"] for line in lines(tmp_path)[1:]), reverse=True)
    trained = [record.proxies["params"] for record in load_records(search.project_dir)]
    # The second trial is random.
    assert trained[0] == parameters[0] and trained[2] == next(
        count for count in parameters[1:] if count != trained[1]
    )
    assert trained == [record.costs["parameters"] for record in load_records(search.project_dir)]


def test_a_resumed_search_reuses_scores_and_makes_the_same_proposals(tmp_path, data, monkeypatch):
    few = {"proxies": ["naswot", "params"], "max_trials": 5}
    straight = tuner(tmp_path / "straight", space(), **few)
    straight.search(epochs=1, verbose=0, **data)
    first = tuner(tmp_path / "resumed", space(), **few | {"max_trials": 4})
    first.search(epochs=1, verbose=0, **data)
    before = lines(tmp_path / "resumed")
    # As if the process was killed while writing.
    with open(tmp_path / "resumed" / "search" / "proxies.jsonl", "a") as file:
        file.write('{"architecture": "ha')
    second = tuner(tmp_path / "resumed", space(), resume=True, **few)
    built = []
    score = second.oracle.scores._compute
    monkeypatch.setattr(
        second.oracle.scores, "_compute", lambda *args: built.append(args) or score(*args)
    )
    second.search(epochs=1, verbose=0, **data)
    after = lines(tmp_path / "resumed")
    assert after[: len(before)] == before
    assert len(after) == len(before) + len(built)
    proposals = [
        [record.values for record in load_records(search.project_dir)]
        for search in (straight, second)
    ]
    assert proposals[0] == proposals[1]


def test_equal_architectures_are_scored_once(tmp_path, data):
    hypermodel = space()
    search = tuner(tmp_path, hypermodel, max_trials=2, pool_size=40, proxies=["params"])
    search.search(epochs=1, verbose=0, **data)
    pool = search.oracle.strategy.pool(search.oracle.spec)
    assert len(lines(tmp_path)) - 1 < len(pool.codes)


def test_a_plain_keras_tuner_search_requires_a_hypermodel_and_a_batch(tmp_path, data):
    batch = (data["x"][:16], data["y"][:16])
    options = {"pool_size": 5, "initial_trials": 2, "seed": 0}
    options["proxies"] = ["naswot", "params"]
    oracle = GradientProxyOracle("val_accuracy", 3, hypermodel=build, batch=batch, **options)
    search = keras_tuner.Tuner(oracle, build, directory=tmp_path, project_name="search")
    search.search(epochs=1, verbose=0, **data)
    assert len(search.oracle.get_best_trials(3)) == 3
    assert search.oracle.get_best_trials(1)[0].metrics.get_best_value("proxy/params") > 0
    bare = GradientProxyOracle("val_accuracy", 3, **options)
    search = keras_tuner.Tuner(bare, build, directory=tmp_path, project_name="other")
    with pytest.raises(
        NASError,
        match="`(hypermodel|batch)` must be set .* `NASTuner` sets `hypermodel` and `batch`",
    ):
        search.search(epochs=1, verbose=0, **data)


def test_datasets_provide_a_batch_and_generators_require_one(tmp_path, data):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((data["x"], data["y"])).batch(8)
    search = tuner(tmp_path, build, max_trials=1, proxies=["naswot"])
    search.search(dataset, epochs=1, verbose=0, validation_data=data["validation_data"])
    assert search.oracle.scores.batch[0].shape == (8, 6)

    def rows():
        while True:
            yield data["x"][:8], data["y"][:8]

    search = tuner(tmp_path / "generator", build, max_trials=1)
    with pytest.raises(NASError, match="`batch` must be set"):
        search.search(
            rows(), steps_per_epoch=1, epochs=1, verbose=0, validation_data=data["validation_data"]
        )


def test_candidates_that_cannot_be_built_rank_worst(tmp_path, data, caplog):
    def fragile(hp):
        model = build(hp)
        if hp.get("layers") == 3:
            raise ValueError("three layers are too many")
        return model

    few = ["naswot", "params"]
    search = tuner(tmp_path, fragile, max_trials=3, pool_size=20, proxies=few)
    search.search(epochs=1, verbose=0, **data)
    assert "counts as the worst: three layers are too many" in caplog.text
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    unscored = [proxies for proxies in scores if proxies["params"] is None]
    assert 0 < len(unscored) < len(scores) and all(
        set(proxies.values()) == {None} for proxies in unscored
    )
    assert all(record.values["layers"] < 3 for record in load_records(search.project_dir))


def test_infeasible_candidates_are_not_scored(tmp_path, data):
    """They are scored once the search is resumed without the constraint."""
    small = [Constraint("params", max=150)]
    few = ["params"]
    search = tuner(tmp_path, build, max_trials=4, constraints=small, proxies=few)
    search.search(epochs=1, verbose=0, **data)
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    feasible = [proxies["params"] for proxies in scores if proxies["params"] is not None]
    assert 0 < len(feasible) < len(scores) and max(feasible) <= 150
    pool = search.oracle.strategy.pool(search.oracle.spec)
    assert len(pool.codes) <= len(feasible)
    trained = [record.costs["parameters"] for record in load_records(search.project_dir)]
    assert len(trained) == 4 and max(trained) <= 150

    search = tuner(tmp_path, build, max_trials=6, resume=True, constraints=[], proxies=few)
    search.search(epochs=1, verbose=0, **data)
    scores = [line["scores"] for line in lines(tmp_path)[1:]]
    assert None not in [proxies["params"] for proxies in scores]
    assert max(proxies["params"] for proxies in scores) > 150


def test_the_time_budget_stops_the_scoring_of_candidates(tmp_path, data):
    def slow(hp):
        time.sleep(0.3)
        return build(hp)

    oracle = GradientProxyOracle("val_accuracy", 3, seed=0, pool_size=100, proxies=["params"])
    oracle.strategy.opening_trials = 0  # the default would be trained before
    search = NASTuner(slow, oracle=oracle, directory=tmp_path, project_name="search", budget=2.0)
    search.search(epochs=1, verbose=0, **data)
    assert search.stopped_by == "budget"
    assert not search.oracle.trials
    assert len(lines(tmp_path)) < 30


def test_a_batch_that_fits_no_candidate_is_an_error(tmp_path, data):
    wrong = (data["x"][:8, :3], data["y"][:8])
    search = tuner(tmp_path, build, batch=wrong, pool_size=12, proxies=["naswot"])
    with pytest.raises(NASError, match="none of the first 10 candidates can be scored"):
        search.search(epochs=1, verbose=0, **data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "bayes"}, "`strategy` must be one of ranker, gradient; got 'bayes'"),
        ({"batch": np.zeros((3, 4))}, "`batch` must be a pair"),
        ({"proxies": "synflow"}, "`proxies` must be a list"),
        ({"proxies": []}, "`proxies` must be a list"),
        ({"proxies": ["synfow"]}, "`proxies` must be .* got 'synfow'"),
        ({"initialisations": 0}, "`initialisations` must be at least 1"),
        ({"pool_size": 1}, "`pool_size` must be at least 2"),
        ({"hypermodel": 3}, "`hypermodel` must be a function"),
    ],
)
def test_invalid_arguments_are_rejected(options, message):
    with pytest.raises(NASError, match=message):
        GradientProxyOracle("val_accuracy", **options)


def test_default_proxies_and_pool_sizes():
    oracle = GradientProxyOracle("val_accuracy")
    assert list(oracle.scores.names) == NAMES and len(DEFAULT_PROXIES) == 5
    assert (oracle.strategy.pool_size, oracle.strategy.first_pool) == (200, 16)
    with pytest.raises(StrategyError):
        oracle.scores({"units": 3})

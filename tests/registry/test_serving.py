"""Registered models are served over HTTP with raw rows, and loaded as pyfunc and Keras models."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from mlflow import MlflowClient
from mlflow.pyfunc import scoring_server

from keras_nas_plugin import Constraint, PromotionPolicy, promote
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry import register_model
from keras_nas_plugin.registry.gates import smoke
from keras_nas_plugin.registry.gates.base import Candidate, Evidence
from keras_nas_plugin.registry.interface import interface_of
from keras_nas_plugin.registry.rows import as_arrays
from tests.servers import model_server


class Scaled(keras.layers.Layer):
    """A custom layer, which the server cannot import."""

    def __init__(self, factor=3.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


TEXTS = tf.constant([["free prize now"], ["see you at noon"], ["prize"], ["noon"]])
NUMBERS = np.random.default_rng(1).random((4, 3)).astype("float32")


def words_of(texts):
    layer = keras.layers.TextVectorization(20, output_sequence_length=4)
    layer.adapt(texts)
    return layer


def registered(uri, model, name, rows, **options):
    client = MlflowClient(uri)
    run = client.create_run(client.get_experiment_by_name("models").experiment_id).info.run_id
    return register_model(
        model, name=name, run_id=run, tracking_uri=uri, sample=rows, input_example=True, **options
    )


@contextlib.contextmanager
def tracking(uri):
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def champion(tmp_path_factory, empty_store):
    """A champion in a registry: folder, the store's URI, rows, and the model's predictions."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("models", (folder / "artifacts").as_uri())
    keras.utils.set_random_seed(0)
    layers = [Scaled(0.5), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    predicted = model.predict(x, verbose=0)
    run = client.create_run(experiment).info.run_id
    register_model(model, name="served", run_id=run, tracking_uri=uri, sample=x[:2])
    verdict = promote(
        "served",
        (x, predicted.argmax(axis=-1)),
        policy=PromotionPolicy(
            thresholds=[Constraint("accuracy", min=1.0)],
            smoke_test=False,  # the server below loads the model in a new process too
        ),
        tracking_uri=uri,
    )
    assert verdict.promoted
    return folder, uri, x, predicted


@pytest.fixture(scope="module")
def spam(champion):
    """A version with strings and numbers as inputs, and class names; rows and predictions."""
    _, uri, _, _ = champion
    inputs = {
        "text": keras.Input((1,), dtype="string", name="text"),
        "age": keras.Input((1,), name="age"),
    }
    words = keras.layers.Embedding(20, 2)(words_of(TEXTS)(inputs["text"]))
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(words), Scaled()(inputs["age"])])
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(joined))
    # Keras takes no arrays beside tensors when it runs eagerly.
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    rows = {"text": TEXTS, "age": np.array([[3.0], [1.5], [0.0], [2.0]], "float32")}
    version = registered(uri, model, "spam", rows, class_names=["ham", "spam"])
    return version, rows, model({**rows, "age": tf.constant(rows["age"])}).numpy()


def test_a_server_answers_raw_rows_with_class_names_and_probabilities(champion, spam):
    folder, uri, _, _ = champion
    version, _, predicted = spam
    rows = [{"text": "free prize now", "age": 3}, {"age": 1.5, "text": "see you at noon"}]
    with model_server(folder, version.model_uri, uri).running() as server:
        request = urllib.request.Request(
            f"{server.uri}/invocations",
            json.dumps({"dataframe_records": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answers = json.load(response)["predictions"]
    for answer, expected in zip(answers, predicted[:2], strict=True):
        assert answer["class"] == ["ham", "spam"][expected.argmax()]
        assert answer["probability"] == pytest.approx(expected.max(), rel=1e-5)
        assert [*answer["probabilities"]] == ["ham", "spam"]
        assert [*answer["probabilities"].values()] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.parametrize("flavour", ["pyfunc", "tensorflow"])
def test_the_champion_can_be_loaded_by_its_alias(champion, flavour):
    _, uri, x, predicted = champion
    with tracking(uri):
        model = getattr(mlflow, flavour).load_model("models:/served@champion")
    np.testing.assert_allclose(model.predict(x), predicted, rtol=1e-5, atol=1e-6)


class Dense(keras.layers.Layer):
    """Ragged rows, filled up with zeros."""

    def call(self, x):
        return x.to_tensor() if hasattr(x, "to_tensor") else x


def text(shape):
    inputs = keras.Input(shape, dtype="string", name="text")
    words = keras.layers.Embedding(20, 2)(words_of(TEXTS)(inputs))
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(words)))


def ragged():
    inputs = keras.Input((None,), dtype="int32", ragged=True, name="tokens")
    embedded = keras.layers.Embedding(10, 2, mask_zero=True)(Dense()(inputs))
    hidden = keras.layers.GlobalAveragePooling1D()(embedded)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def sequence():
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(10, 2)(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling1D()(embedded))


class Nested(keras.Model):
    """Subclassed, with a dictionary inside a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs):
        numbers, other = inputs
        return self.head(keras.ops.concatenate([numbers, other["b"]], axis=-1))


RAGGED = tf.ragged.constant([[1, 2], [3], [4, 5, 6], [1]])

# Model, rows, class names, and requests for the first two rows.
SERVED = {
    "text": (
        lambda: text((1,)),
        TEXTS,
        None,
        [
            {"inputs": ["free prize now", "see you at noon"]},
            {"instances": ["free prize now", "see you at noon"]},
            {"dataframe_records": [{"text": "free prize now"}, {"text": "see you at noon"}]},
        ],
    ),
    "text without a dimension": (
        lambda: text(()),
        tf.reshape(TEXTS, [-1]),
        None,
        [{"inputs": ["free prize now", "see you at noon"]}],
    ),
    "ragged": (
        ragged,
        RAGGED,
        ["a", "b", "c"],
        [
            {"inputs": [[1, 2], [3]]},
            {"dataframe_records": [{"tokens": [1, 2]}, {"tokens": [3]}]},
        ],
    ),
    "another length": (
        sequence,
        np.array([[1, 2, 3], [4, 5, 6]], "int32"),
        None,
        [{"inputs": [[1, 2, 3], [4, 5, 6]]}, {"instances": [[1, 2, 3, 0], [4, 5, 6, 0]]}],
    ),
    "nested": (
        Nested,
        [NUMBERS, {"b": NUMBERS[:, :1]}],
        ["no", "yes"],
        [{"inputs": {"0": NUMBERS[:2].tolist(), "1_b": NUMBERS[:2, :1].tolist()}}],
    ),
}


@pytest.fixture(scope="module")
def served(champion):
    """Registers one of these models, once, and loads it as a server does."""
    _, uri, _, _ = champion

    @functools.cache
    def load(kind):
        build, rows, names, requests = SERVED[kind]
        model = build()
        model(rows)
        version = registered(uri, model, kind.replace(" ", "-"), rows, class_names=names)
        with tracking(uri):
            loaded = mlflow.pyfunc.load_model(version.model_uri)
        return loaded, model, rows, names, requests

    return load


def answers(loaded, request):
    """What the server's code returns for a request."""
    data = json.dumps(request)
    schema = loaded.metadata.get_input_schema()
    response = scoring_server.invocations(data, "application/json", loaded, schema)
    assert response.status == 200, response.response
    return json.loads(response.response)["predictions"]


@pytest.mark.parametrize("kind", SERVED)
def test_requests_of_every_form_are_answered(served, kind):
    loaded, model, rows, names, requests = served(kind)
    expected = np.asarray(model.predict_on_batch(rows), "float64")
    if kind == "ragged":
        expected = np.exp(expected) / np.exp(expected).sum(axis=-1, keepdims=True)
    elif kind == "nested":
        expected = np.concatenate([1 - expected, expected], axis=-1)
    for number, request in enumerate(requests):
        predicted = answers(loaded, request)
        if names is not None:
            assert [names.index(answer["class"]) for answer in predicted] == [
                int(row.argmax()) for row in expected[:2]
            ]
            predicted = [list(answer["probabilities"].values()) for answer in predicted]
        if kind != "another length" or number == 0:  # zeros at its end change the mean
            np.testing.assert_allclose(predicted, expected[:2], rtol=1e-4)
    example = loaded.predict(loaded.input_example)
    assert len(example) == len(expected)


TABLE = pd.DataFrame({"income": [3.5, 1.0, 2.0, 0.5], "age": [20, 31, 42, 53]})


@pytest.fixture(scope="module")
def table(champion):
    """A version of a model that was trained on a DataFrame."""
    _, uri, _, _ = champion
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    version = registered(uri, model, "table", TABLE, class_names=["no", "yes"])
    with tracking(uri):
        loaded = mlflow.pyfunc.load_model(version.model_uri)
    return version, loaded, model.predict(TABLE.to_numpy(), verbose=0)


RECORDS = TABLE.to_dict("records")


@pytest.mark.parametrize(
    "request_",
    [
        {"dataframe_records": RECORDS},
        {"dataframe_records": [dict(reversed(row.items())) for row in RECORDS]},
        {
            "dataframe_split": {
                "columns": ["age", "income"],
                "data": TABLE[["age", "income"]].values.tolist(),
            }
        },
        {"inputs": {"age": TABLE["age"].tolist(), "income": TABLE["income"].tolist()}},
        {"instances": RECORDS},
    ],
    ids=["records", "another order", "split", "columns", "instances"],
)
def test_the_columns_of_a_table_are_found_by_their_names(table, request_):
    _, loaded, expected = table
    predicted = [list(answer["probabilities"].values()) for answer in answers(loaded, request_)]
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)


def test_a_table_without_a_column_is_refused(table):
    _, loaded, expected = table
    swapped = loaded.predict(TABLE[["age", "income"]])
    assert [row["yes"] for row in swapped["probabilities"]] == pytest.approx(
        expected[:, 1].tolist()
    )
    assert list(loaded.input_example.columns) == ["income", "age"]
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs \['age'\]"):
        loaded.predict(TABLE[["income"]])


@pytest.mark.parametrize(
    "rows",
    [
        TABLE.to_numpy(),
        TABLE.rename(columns={"income": 0}),
        TABLE.rename(columns={"income": "age"}),
    ],
    ids=["an array", "a number as a name", "equal names"],
)
def test_rows_without_names_of_columns_are_an_array(rows):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    interface = interface_of(model, rows)
    assert interface.table is None and not interface.needs_server
    assert interface.signature().inputs.is_tensor_spec()


@pytest.mark.parametrize("name", ["spam", "text", "ragged", "table"])
def test_the_smoke_test_predicts_rows_that_are_not_numbers(
    champion, spam, table, served, tmp_path, monkeypatch, name
):
    _, uri, _, _ = champion
    if name == "table":
        (version, _, expected), rows = table, TABLE
        source = MlflowClient(uri).get_model_version("table", version.version).source
    elif name == "spam":
        version, rows, expected = spam
        source = MlflowClient(uri).get_model_version("spam", version.version).source
    else:
        _, model, rows, _, _ = served(name)
        expected = model.predict_on_batch(rows)
        source = MlflowClient(uri).get_model_version(name, "1").source
    folder = Path(source.removeprefix("file://"))

    def run_here(command, **_):
        monkeypatch.setattr(sys, "argv", ["-c", *command[3:]])
        exec(command[2], {})
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(smoke.subprocess, "run", run_here)
    candidate = Candidate("1", expected, {}, folder)
    evidence = Evidence(as_arrays(rows, "x"), np.zeros(4), candidate)
    finding = smoke.FreshProcess().check(evidence)
    assert finding.passed, finding


def test_a_model_with_strings_is_promoted(champion, spam):
    _, uri, _, _ = champion
    _, rows, predicted = spam
    policy = PromotionPolicy(thresholds=[Constraint("accuracy", min=1.0)], smoke_test=False)
    verdict = promote(
        "spam", (rows, predicted.argmax(axis=-1)), policy=policy, tracking_uri=uri, dry_run=True
    )
    assert verdict.passed


@pytest.mark.parametrize(
    ("names", "outputs", "message"),
    [
        (["a"], 2, "at least two strings"),
        ("ab", 2, "at least two strings"),
        (["a", "a"], 2, "'a' more than once"),
        (["a", "b", "c"], 2, r"one name for each output .* got 3 names .* \(4, 2\)"),
        (["a", "b"], 2, "does not predict probabilities; its outputs are between"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(champion, names, outputs, message):
    _, uri, x, _ = champion
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)])
    with pytest.raises(TrackingError, match=message):
        registered(uri, model, "refused", 9 * x[:4], class_names=names)


def test_a_model_with_several_labels_per_row_answers_with_all_that_are_likely(champion):
    _, uri, x, _ = champion
    layer = keras.layers.Dense(3, activation="sigmoid")
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.set_weights([np.zeros((4, 3)), np.array([2.0, -2.0, 1.0])])
    version = registered(uri, model, "labels", x[:4], class_names=["a", "b", "c"])
    with tracking(uri):
        loaded = mlflow.pyfunc.load_model(version.model_uri)
    first = loaded.predict(x[:1]).iloc[0]
    assert first["classes"] == ["a", "c"]
    assert first["probabilities"]["b"] == pytest.approx(1 / (1 + np.exp(2.0)))
    assert loaded.metadata.metadata == {"class_names": ["a", "b", "c"]}

"""Checkpoints of models of every kind: what was trained is what is loaded."""

from __future__ import annotations

import h5py
import keras
import keras_tuner
import mlflow
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from mlflow import MlflowClient

from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle
from keras_nas_plugin.errors import HyperModelError
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.training.weights import load_state, load_weights, save_state, save_weights
from tests import stores

TEXTS = tf.constant([["free prize now"], ["see you at noon"], ["prize money"], ["at noon"]])
NUMBERS = np.random.default_rng(0).random((4, 3)).astype("float32")
TARGETS = np.array([[1.0], [0.0], [1.0], [0.0]], "float32")


def fitted(model, x, y=TARGETS):
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(x, y, verbose=0)
    return model


class TwoInputs(keras.Model):
    """Takes a dictionary, creates its layers in `__init__`, and has no `build`."""

    def __init__(self):
        super().__init__()
        self.head = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])

    def call(self, inputs):
        return self.head(keras.ops.concatenate([inputs["a"], inputs["b"]], axis=-1))


class OwnBuild(TwoInputs):
    """Has a `build` that creates weights and another layer."""

    def build(self, shapes):
        self.scale = self.add_weight(shape=(shapes["a"][-1],), initializer="ones")
        self.last = keras.layers.Dense(1)

    def call(self, inputs):
        return self.last(super().call({**inputs, "a": inputs["a"] * self.scale}))


class OwnStep(TwoInputs):
    """Has its own `train_step`."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


class TwoArguments(TwoInputs):
    """Its `call` has two arguments, so that it cannot be built from one shape."""

    def call(self, inputs, weights=None):
        if weights is None:
            weights = keras.ops.ones_like(inputs["b"])
        return super().call({"a": inputs["a"], "b": inputs["b"] * weights})


class Text(keras.Model):
    """A subclassed model with strings and numbers as inputs."""

    def __init__(self):
        super().__init__()
        self.words = keras.layers.TextVectorization(20, output_sequence_length=4)
        self.embedding = keras.layers.Embedding(20, 2)
        self.head = keras.layers.Dense(1)

    def call(self, inputs):
        words = keras.ops.mean(self.embedding(self.words(inputs["text"])), axis=1)
        return self.head(keras.ops.concatenate([words, inputs["b"]], axis=-1))


class GAN(keras.Model):
    """Trained by its own step; its `call` is never used and not defined."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
        self.discriminator = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(self.discriminator(self.generator(data)) ** 2)
        variables = [
            *self.generator.trainable_variables,
            *self.discriminator.trainable_variables,
        ]
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


BOTH = {"a": NUMBERS, "b": NUMBERS[:, :2]}


@pytest.mark.parametrize("save, load", [(save_weights, load_weights), (save_state, load_state)])
@pytest.mark.parametrize("cls", [TwoInputs, OwnBuild, OwnStep, TwoArguments, Text])
def test_a_subclassed_model_is_loaded_without_a_call(tmp_path, cls, save, load):
    x = {"text": TEXTS, "b": NUMBERS} if cls is Text else BOTH
    model = cls()
    if cls is Text:
        model.words.adapt(TEXTS)
    fitted(model, x)
    save(model, tmp_path / "a.weights.h5")
    loaded = cls()
    loaded.compile("adam", "mse")
    load(loaded, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))
    assert len(loaded.weights) == len(model.weights)


def test_a_gan_whose_call_is_never_used_is_saved_and_loaded(tmp_path):
    model = GAN()
    model.unused = keras.layers.Dense(5)
    model.compile("adam", run_eagerly=True)
    model.fit(NUMBERS, verbose=0)
    assert not model.built
    save_weights(model, tmp_path / "a.weights.h5")
    assert not model.built
    loaded = GAN()
    loaded.unused = keras.layers.Dense(5)
    load_weights(loaded, tmp_path / "a.weights.h5")
    for weight, trained in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, trained)
    np.testing.assert_array_equal(
        loaded.discriminator(loaded.generator(NUMBERS)),
        model.discriminator(model.generator(NUMBERS)),
    )


def test_the_optimizers_of_a_gan_are_not_part_of_its_weights(tmp_path, recwarn):
    """Keras would warn that it cannot load their variables, which nobody needs."""
    models = GAN(), GAN()
    for model in models:
        model.compile("adam", run_eagerly=True)
        model.second = keras.optimizers.Adam()
    trained, loaded = models
    trained.fit(NUMBERS, verbose=0)
    trained.second.build(trained.discriminator.trainable_variables)
    optimizers = trained.optimizer, trained.second
    save_weights(trained, tmp_path / "a.weights.h5")
    assert (trained.optimizer, trained.second) == optimizers
    load_weights(loaded, tmp_path / "a.weights.h5")
    assert not [str(warning.message) for warning in recwarn if "optimizer" in str(warning.message)]
    with h5py.File(tmp_path / "a.weights.h5") as file:
        assert not {"optimizer", "second"} & set(file)
    for weight, expected in zip(loaded.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def preprocessing():
    """A layer of each kind whose state is no variable, and data for it."""
    layers = keras.layers
    words = tf.constant([["a"], ["b"], ["a"], ["c"]])
    numbers = np.array([[3], [5], [3], [9]])
    return {
        "text": (lambda: layers.TextVectorization(9, output_sequence_length=3), TEXTS),
        "tf-idf": (
            lambda: layers.TextVectorization(9, output_mode="tf_idf", pad_to_max_tokens=True),
            TEXTS,
        ),
        "strings": (lambda: layers.StringLookup(), words),
        "one-hot strings": (
            lambda: layers.StringLookup(max_tokens=4, output_mode="one_hot"),
            words,
        ),
        "integers": (lambda: layers.IntegerLookup(), numbers),
        "bins": (lambda: layers.Discretization(num_bins=3), numbers.astype("float32")),
        "statistics": (lambda: layers.Normalization(), numbers.astype("float32")),
    }


@pytest.mark.parametrize("kind", preprocessing())
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_layer_was_adapted_to_is_saved(tmp_path, kind, nested):
    create, x = preprocessing()[kind]

    def build(layer):
        inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
        outputs = keras.layers.Rescaling(0.5)(layer(inputs))
        model = keras.Model(inputs, outputs)
        return (
            keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), model])
            if nested
            else model
        )

    layer = create()
    # Adapted after the model was built, as `HyperModel.fit` does it.
    model = build(layer)
    layer.adapt(x)
    save_weights(model, tmp_path / "a.weights.h5")
    loaded = build(create())
    load_weights(loaded, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(loaded(x), model(x))


class Remembering(keras.layers.Layer):
    """A user's layer with assets."""

    def __init__(self, word="?"):
        super().__init__()
        self.word = word

    def call(self, x):
        return x + len(self.word)

    def save_assets(self, dir_path):
        with open(f"{dir_path}/word.txt", "w") as file:
            file.write(self.word)

    def load_assets(self, dir_path):
        with open(f"{dir_path}/word.txt") as file:
            self.word = file.read()


def test_assets_of_a_users_layer_are_saved(tmp_path):
    model = keras.Sequential([keras.Input((3,)), Remembering("long word")])
    save_weights(model, tmp_path / "a.weights.h5")
    loaded = keras.Sequential([keras.Input((3,)), Remembering()])
    load_weights(loaded, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(loaded(NUMBERS), model(NUMBERS))


class Calibrated(keras.layers.Layer):
    """A user's layer with attributes that `HyperModel.fit` sets."""

    def __init__(self):
        super().__init__()
        self.shift, self.bounds, self.offsets = 0.0, (0.0, 1.0), np.zeros(3)
        self.limit = None

    def call(self, x):
        low, high = self.bounds
        return keras.ops.clip(x + self.shift + keras.ops.cast(self.offsets, x.dtype), low, high)


def test_attributes_that_training_set_are_saved(tmp_path):
    layer = Calibrated()
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.shift, layer.bounds, layer.offsets = 0.25, (0.1, 0.9), np.array([0.0, 0.5, 1.0])
    layer.limit = 3
    save_weights(model, tmp_path / "a.weights.h5")
    fresh = Calibrated()
    loaded = keras.Sequential([keras.Input((3,)), fresh])
    load_weights(loaded, tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(loaded(NUMBERS), model(NUMBERS))
    assert isinstance(fresh.bounds, tuple) and fresh.limit == 3


def test_a_plain_model_has_the_file_that_keras_writes(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    save_weights(model, tmp_path / "a.weights.h5")
    model.save_weights(tmp_path / "keras.weights.h5")
    sizes = [(tmp_path / name).stat().st_size for name in ("a.weights.h5", "keras.weights.h5")]
    assert sizes[0] == sizes[1]


# ---------------------------------------------------------------- through a search


class TextSearch(keras_tuner.HyperModel):
    """Adapts the layer in `fit`, where it sees the data."""

    def build(self, hp):
        inputs = keras.Input((1,), dtype="string", name="text")
        words = keras.layers.TextVectorization(20, output_sequence_length=4, name="words")(inputs)
        embedded = keras.layers.Embedding(20, hp.Int("width", 2, 3))(words)
        head = keras.layers.Dense(1, activation="sigmoid")
        outputs = head(keras.layers.Flatten()(embedded))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, x, y, **kwargs):
        model.get_layer("words").adapt(x)
        return model.fit(x, y, **kwargs)


def test_the_vocabulary_survives_in_best_retrained_and_registered_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # artifacts
    uri = stores.new_database(tmp_path)
    oracle = RandomOracle("val_loss", max_trials=1, seed=0)
    tuner = NASTuner(
        TextSearch(),
        oracle=oracle,
        tracker=MLflowTracker("texts", tracking_uri=uri),
        directory=tmp_path,
        project_name="p",
    )
    tuner.search(TEXTS, TARGETS, epochs=1, validation_data=(TEXTS, TARGETS), verbose=0)
    (trial,) = oracle.get_best_trials(1)
    (model,) = tuner.get_best_models()
    assert "prize" in model.get_layer("words").get_vocabulary()
    loss = float(np.mean((model.predict_on_batch(TEXTS) - TARGETS) ** 2))
    assert loss == pytest.approx(trial.score, rel=1e-5)
    retraining = tuner.retrain_best(epochs=1, test_data=(TEXTS, TARGETS))
    retrained = tuner.load_retrained(trial, retraining.kept)
    assert "prize" in retrained.get_layer("words").get_vocabulary()
    loss = float(np.mean((retrained.predict_on_batch(TEXTS) - TARGETS) ** 2))
    assert loss == pytest.approx(retraining.kept.scores["loss"], rel=1e-5)
    version = tuner.register_best("texts", retrained=True, class_names=["ham", "spam"])
    source = MlflowClient(uri).get_model_version("texts", version.version).source
    served = mlflow.pyfunc.load_model(source)
    answers = served.predict(pd.DataFrame({"text": ["free prize now", "at noon"]}))
    expected = retrained.predict_on_batch(tf.gather(TEXTS, [0, 3]))[:, 0]
    assert [row["spam"] for row in answers["probabilities"]] == pytest.approx(expected.tolist())


class TwoOptimizers(GAN):
    """A GAN with an optimizer for each part, made when it is compiled."""

    def compile(self, **options):
        super().compile(**options)
        self.of_discriminator = keras.optimizers.Adam(1e-2)
        self.of_generator = keras.optimizers.SGD(1e-2, momentum=0.9)

    def train_step(self, data):
        with tf.GradientTape(persistent=True) as tape:
            judged = self.discriminator(self.generator(data))
            loss, other = keras.ops.mean(judged**2), keras.ops.mean((judged - 1) ** 2)
        for optimizer, part, objective in (
            (self.of_discriminator, self.discriminator, loss),
            (self.of_generator, self.generator, other),
        ):
            variables = part.trainable_variables
            optimizer.apply(tape.gradient(objective, variables), variables)
        return {"loss": loss}


def test_training_continues_with_the_moments_of_every_optimizer(tmp_path, recwarn):
    models = TwoOptimizers(), TwoOptimizers()
    for model in models:
        model.compile(run_eagerly=True)
    trained, loaded = models
    trained.fit(NUMBERS, verbose=0)
    save_state(trained, tmp_path / "a.weights.h5")
    load_state(loaded, tmp_path / "a.weights.h5")
    for name in ("of_discriminator", "of_generator"):
        values = [getattr(model, name).variables for model in models]
        assert len(values[0]) == len(values[1])
        for value, copy in zip(*values, strict=True):
            np.testing.assert_array_equal(value.numpy(), copy.numpy())
    assert not [warning for warning in recwarn if "optimizer" in str(warning.message)]
    for model in models:  # both continue in the same way
        model.fit(NUMBERS, verbose=0, shuffle=False)
    for value, copy in zip(trained.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(value.numpy(), copy.numpy(), rtol=1e-6)


@pytest.mark.parametrize("cls", [OwnStep, GAN])
def test_the_best_model_of_a_subclassed_search_has_its_trained_weights(tmp_path, cls):
    trained = []

    def build(hp):
        hp.Int("a", 1, 2)
        model = cls()
        model.compile("adam", "mse", run_eagerly=True)
        trained.append(model)
        return model

    oracle = RandomOracle(keras_tuner.Objective("loss", "min"), max_trials=1, seed=0)
    tuner = NASTuner(build, oracle=oracle, directory=tmp_path, project_name="p")
    x, y = (NUMBERS, None) if cls is GAN else (BOTH, TARGETS)
    tuner.search(x, y, epochs=1, verbose=0)
    model = trained[-1]
    (loaded,) = tuner.get_best_models()
    for weight, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)
    costs = TrialRecord.load(tuner.get_trial_dir("0")).costs
    assert costs["parameters"] == sum(weight.numpy().size for weight in model.weights) > 20
    assert ("flops" in costs) is (cls is OwnStep)


def test_a_model_that_does_not_fit_its_checkpoint_is_named(tmp_path):
    sizes = {"units": 2}

    def build(hp):
        hp.Int("a", 1, 2)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(sizes["units"])])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    oracle = RandomOracle("loss", max_trials=1, seed=0)
    tuner = NASTuner(build, oracle=oracle, directory=tmp_path, project_name="p")
    tuner.search(NUMBERS, NUMBERS[:, :2], epochs=1, verbose=0)
    sizes["units"] = 1
    with pytest.raises(HyperModelError, match="must build the model that trial .* trained"):
        tuner.get_best_models()

"""What is registered is the model in memory: its files are loaded back and compared first."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from mlflow import MlflowClient

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry import register_model
from tests import stores

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """URI of a store, and the id of a run in it."""
    folder = tmp_path_factory.mktemp("loaded_back")
    uri = stores.new_database(folder)
    client = MlflowClient(uri)
    experiment = client.create_experiment("models", (folder / "artifacts").as_uri())
    return uri, client.create_run(experiment).info.run_id


@pytest.fixture
def register(store):
    """Registers a model; afterwards, a refused one must have left no version and no alias."""
    uri, run_id = store
    client = MlflowClient(uri)

    def run(model, sample=X, name="m", refused=None, **options):
        arguments = {"name": name, "run_id": run_id, "tracking_uri": uri, "sample": sample}
        if refused is None:
            return register_model(model, **arguments, **options)
        before = _state(client)
        with pytest.raises(TrackingError, match=refused):
            register_model(model, **arguments, **options)
        assert _state(client) == before
        return None

    return run


def _state(client):
    versions = client.search_model_versions("name LIKE '%'")
    models = client.search_registered_models()
    return (
        sorted((version.name, version.version) for version in versions),
        [dict(client.get_registered_model(model.name).aliases) for model in models],
    )


def sequential(*layers):
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


class Forgetful(keras.layers.Layer):
    """Its `get_config` forgets an argument that has a default."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return super().get_config()


class Required(Forgetful):
    """Its `get_config` forgets an argument that has no default."""

    def __init__(self, factor, **kwargs):
        super().__init__(factor, **kwargs)


class Private(Forgetful):
    """It keeps the argument that it forgets in a private attribute, as an array."""

    def __init__(self, offsets=(0.0, 0.0, 0.0), **kwargs):
        super().__init__(**kwargs)
        self._offsets = np.array(offsets)

    def call(self, x):
        return x + keras.ops.cast(self._offsets, x.dtype)


class NoKeywords(keras.layers.Layer):
    """Its constructor does not accept the name that Keras passes."""

    def __init__(self, name_it="x"):
        super().__init__(name=name_it)

    def call(self, x):
        return x


class Counting(keras.layers.Layer):
    """Its state is an attribute that training changes."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.shift = 0.0

    def call(self, x):
        return x + self.shift


class Reset(keras.layers.Layer):
    """Its weight is not restored."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x * self.scale

    def load_own_variables(self, store):
        """Ignore the stored weight."""


def test_a_forgotten_argument_is_named_with_what_to_write(register):
    model = sequential(Forgetful(0.5, name="scaled"))
    register(
        model,
        refused=r"`factor` of layer 'scaled' \(Forgetful\) is 0.5 in the trained model and 1.0 "
        r"after loading: its `get_config` must return every argument of `__init__`: "
        r'`return \{\*\*super\(\).get_config\(\), "factor": self.factor\}`',
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Required(0.5, name="a"), r"layer 'a' \(Required\): .* \"factor\": self.factor"),
        (
            Private([1.0, 2.0, 3.0], name="b"),
            r"`_offsets` of layer 'b' \(Private\) is .* \"offsets\"",
        ),
        (
            keras.layers.Lambda(lambda x: x + 1, name="c"),
            r"layer 'c' \(Lambda\) holds a Python lambda",
        ),
    ],
)
def test_other_layers_that_cannot_be_loaded_are_named(register, layer, message):
    register(sequential(layer), refused=message)


def test_state_that_training_left_in_an_attribute_is_named(register):
    layer = Counting(name="counting")
    model = sequential(layer)
    layer.shift = 2.0
    register(model, refused="`shift` of layer 'counting' .* or a weight")


def test_weights_that_are_not_restored_are_named(register):
    layer = Reset(name="reset")
    model = sequential(layer)
    layer.scale.assign(2.0)
    register(model, refused="weights of layer 'reset' .Reset. are others after loading")


def test_a_nested_layer_is_named(register):
    inner = keras.Sequential([keras.Input((3,)), Forgetful(0.5, name="inside")])
    register(sequential(inner), refused="`factor` of layer 'inside'")


def test_a_model_that_predicts_at_random_is_compared_by_its_weights(register):
    class Noisy(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x))

    assert register(sequential(Noisy())).version


class OwnModel(keras.Model):
    """Subclassed, with its own `train_step`, and a dictionary of inputs."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.head = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(units)])

    def call(self, inputs):
        return self.head(keras.ops.concatenate([inputs["a"], inputs["b"]], axis=-1))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}

    def get_config(self):
        return {"units": self.units}


class OwnText(OwnModel):
    """Takes strings, so that Keras cannot build it when it loads it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = keras.layers.TextVectorization(10, output_sequence_length=3)
        self.embedding = keras.layers.Embedding(10, 2)

    def call(self, inputs):
        words = keras.ops.mean(self.embedding(self.words(inputs["text"])), axis=1)
        return super().call({"a": words, "b": inputs["b"]})


class GAN(keras.Model):
    """Its `call` is never used."""

    def __init__(self, declared=True, **kwargs):
        super().__init__(**kwargs)
        self.declared = declared
        self.generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        inputs = [keras.Input((2,))] if declared else []
        layers = [*inputs, keras.layers.Dense(1)]
        self.discriminator = keras.Sequential(layers, name="discriminator")

    def get_config(self):
        return {"declared": self.declared}


TEXTS = tf.constant([["a b"], ["b c"], ["c"], ["d a"]])


@pytest.mark.parametrize("cls", [OwnModel, OwnText])
def test_a_subclassed_model_is_registered(register, store, cls):
    import mlflow

    model = cls(units=2)
    x = {"a": X, "b": X[:, :1]}
    if cls is OwnText:
        model.words.adapt(TEXTS)
        x = {"text": TEXTS, "b": X[:, :1]}
    model.compile("sgd", run_eagerly=True)
    model.fit(x, np.ones((4, 2), "float32"), verbose=0)
    version = register(model, x, name=cls.__name__, input_example=True)
    mlflow.set_tracking_uri(store[0])
    try:
        loaded = mlflow.tensorflow.load_model(version.model_uri)
        served = mlflow.pyfunc.load_model(version.model_uri)
    finally:
        mlflow.set_tracking_uri(None)
    expected = model.predict_on_batch(x)
    np.testing.assert_allclose(loaded.predict_on_batch(x), expected, rtol=1e-5)
    np.testing.assert_allclose(served.predict(served.input_example), expected, rtol=1e-5)


def test_a_gan_with_a_part_that_keras_does_not_build_is_refused(register):
    model = GAN(declared=False)
    model.discriminator(model.generator(X))
    model.built = True  # as after loading a checkpoint
    register(model, refused="layer 'discriminator' .Sequential. has weights .* `keras.Input`")


def test_a_gan_is_registered_without_predictions(register):
    assert register(GAN(), name="gan").version == "1"

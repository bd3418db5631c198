"""`score`: any kind of model, shared passes, unchanged models and helpful errors."""

import math

import keras
import numpy as np
import pytest

from keras_nas_plugin import proxies
from keras_nas_plugin.proxies import ProxyError, score
from tests.proxies import networks
from tests.proxies.networks import L

LOSS = "sparse_categorical_crossentropy"
ALL = tuple(proxies.names())


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(1)
    return networks.residual()


@pytest.fixture(scope="module")
def batch():
    return networks.images()


@pytest.fixture(scope="module")
def scores(network, batch):
    return score(network, *batch, ALL, loss=LOSS)


def test_every_proxy_gives_a_finite_number(scores):
    assert list(scores) == list(ALL)
    assert all(isinstance(value, float) and math.isfinite(value) for value in scores.values())


@pytest.mark.parametrize("name", ALL)
def test_a_proxy_scores_the_same_alone_as_with_others(name, network, batch, scores):
    assert score(network, *batch, (name,), loss=LOSS)[name] == pytest.approx(scores[name])


def test_all_batch_proxies_share_one_forward_pass(network, batch):
    calls = []

    class Counted(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = network

        def call(self, x, training=False):
            calls.append(x.shape[0])
            return self.inner(x, training=training)

    counted = Counted()
    counted(batch[0])
    calls.clear()
    names = ("grad_norm", "snip", "fisher", "jacob_cov", "naswot", "meco")
    score(counted, *batch, names, loss=LOSS)
    assert calls == [len(batch[0])]


def test_score_leaves_the_model_unchanged(batch):
    model = networks.residual()
    model.compile(keras.optimizers.Adam(), LOSS, metrics=["accuracy"])
    model.fit(*batch, epochs=1, verbose=0)
    before = networks.values(model)
    optimizer = [networks.array(variable) for variable in model.optimizer.variables]
    calls = [(layer.call, getattr(layer, "activation", None)) for layer in model.layers]
    score(model, *batch, ALL, initialisations=2)
    after = [*networks.values(model), *(networks.array(v) for v in model.optimizer.variables)]
    for old, new in zip([*before, *optimizer], after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert calls == [(layer.call, getattr(layer, "activation", None)) for layer in model.layers]
    assert not any("call" in vars(layer) for layer in model.layers)
    assert model.compiled and model.loss == LOSS
    model.fit(*batch, epochs=1, verbose=0)


def test_an_error_leaves_the_model_unchanged(batch):
    class Broken(L.Layer):
        def call(self, x):
            if tuple(x.shape)[0] is not None:
                raise RuntimeError("broken")
            return x

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((6, 6, 2))
    x = L.BatchNormalization()(L.Conv2D(3, 3)(inputs))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(Broken()(x))))
    before = networks.values(model)
    with pytest.raises(RuntimeError, match="broken"):
        score(model, *batch, ("grad_norm",), loss="mse")
    for old, new in zip(before, networks.values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_scores_of_new_initialisations_depend_only_on_the_seed(batch):
    first = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=4)
    repeated = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=4)
    other_seed = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=5)
    assert first == repeated
    # Another seed changes weights and noise, but not the number of parameters.
    assert [name for name in ALL if first[name] == other_seed[name]] == ["params"]


def test_scores_are_averaged_over_initialisations(batch, network):
    names = ("synflow", "grad_norm", "naswot")
    mean = score(network, *batch, names, loss=LOSS, initialisations=3, seed=7)
    draws = []
    from keras_nas_plugin.proxies.state import redraw, untouched

    with untouched(network):
        for draw in range(3):
            redraw(network, np.random.default_rng([7, draw, 0]))
            draws.append(score(network, *batch, names, loss=LOSS))
    for name in names:
        values = [draw_scores[name] for draw_scores in draws]
        assert len(set(values)) == 3
        assert mean[name] == pytest.approx(np.mean(values))


def test_dropout_does_not_change_the_scores(batch):
    inputs = keras.Input((6, 6, 2))
    layers = [L.Flatten(), L.Dense(8, activation="relu"), L.Dense(3)]
    plain, dropped = inputs, inputs
    for layer in layers:
        plain, dropped = layer(plain), L.Dropout(0.5)(layer(dropped))
    options = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    names = ("grad_norm", "synflow", "jacob_cov")
    expected = score(keras.Model(inputs, plain), *batch, names, **options)
    assert score(keras.Model(inputs, dropped), *batch, names, **options) == expected


def test_the_loss_defaults_to_that_of_the_compiled_model(network, batch):
    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(name="anything")
    model.compile("sgd", loss, loss_weights=None)
    expected = score(network, *batch, ("grad_norm",), loss=LOSS)
    assert score(model, *batch, ("grad_norm",)) == pytest.approx(expected)
    targets = np.eye(3, dtype="float32")[batch[1]]
    model.compile("sgd", "mse")
    regression = score(model, batch[0], targets, ("grad_norm",))
    assert regression == pytest.approx(
        score(network, batch[0], targets, ("grad_norm",), loss="mse")
    )
    assert regression != pytest.approx(expected)


# ------------------------------------------------------------------ other kinds of models


def test_models_with_dictionaries_of_inputs_and_outputs_are_scored():
    """Also with loss weights, and without changing the metrics of a compiled loss."""
    image = keras.Input((6, 6, 2), name="image")
    token = keras.Input((4,), dtype="int32", name="token")
    x = L.GlobalAveragePooling2D()(L.Conv2D(16, 3, activation="relu")(image))
    z = L.GlobalAveragePooling1D()(L.Embedding(10, 4)(token))
    x = L.Concatenate()([x, z])
    outputs = {
        "kind": L.Dense(3, activation="softmax", name="kind")(x),
        "size": L.Dense(1, name="size")(x),
    }
    model = keras.Model({"image": image, "token": token}, outputs)
    rng = np.random.default_rng(0)
    x = {"image": networks.images()[0], "token": rng.integers(0, 10, (8, 4))}
    y = {"kind": networks.images()[1], "size": rng.standard_normal((8, 1))}
    names = tuple(name for name in ALL if name not in proxies.AZ_NAS)
    losses = {"kind": LOSS, "size": "mse"}
    scores = score(model, x, y, names, loss=losses)
    assert all(math.isfinite(value) for value in scores.values())
    model.compile("sgd", losses)
    assert score(model, x, y, names) == pytest.approx(scores, rel=1e-5)
    assert all(float(networks.array(metric).sum()) == 0 for metric in model.metrics_variables)
    model.compile("sgd", losses, loss_weights={"kind": 2.0, "size": 0.0})
    weighted = score(model, x, y, ("grad_norm",))["grad_norm"]
    kind = score(keras.Model(model.inputs, outputs["kind"]), [x["image"], x["token"]], y["kind"],
                 ("grad_norm",), loss=LOSS)["grad_norm"]  # fmt: skip
    assert weighted == pytest.approx(2 * kind, rel=1e-5)


def test_models_with_lists_of_inputs_and_outputs_are_scored():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    x = L.Dense(64, activation="relu")(L.Add()(inputs))
    model = keras.Model(inputs, [L.Dense(2)(x), L.Dense(1)(x)])
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((6, 3)) for _ in inputs]
    y = [rng.standard_normal((6, 2)), rng.standard_normal((6, 1))]
    names = ("grad_norm", "snip", "grasp", "fisher", "synflow", "jacob_cov", "naswot", "zico")
    scores = score(model, x, y, names, loss=["mse", "mae"])
    assert all(math.isfinite(value) for value in scores.values())


def test_custom_layers_and_subclassed_models_are_scored(batch):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.stem = L.Conv2D(4, 3, activation="relu")
            self.parts = [networks.Block(5), networks.Block(5)]
            self.head = L.Dense(3, activation="softmax")

        def call(self, x):
            x = keras.ops.mean(self.stem(x), axis=(1, 2))
            for part in self.parts:
                x = part(x)
            return self.head(x)

    model = Subclassed()
    names = tuple(name for name in ALL if name not in proxies.AZ_NAS)
    scores = score(model, *batch, names, loss=LOSS, initialisations=1)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores == score(model, *batch, names, loss=LOSS, initialisations=1)
    ends = [part.name for part in model.parts]
    assert all(map(math.isfinite, score(model, *batch, proxies.AZ_NAS, blocks=ends).values()))
    with pytest.raises(ProxyError, match="`blocks` must name at least two layers"):
        score(model, *batch, ("trainability",))


def test_recurrent_and_attention_layers_are_scored():
    inputs = keras.Input((5, 4))
    x = L.MultiHeadAttention(2, 2)(inputs, inputs)
    x = L.LayerNormalization()(L.Add()([x, inputs]))
    model = keras.Model(inputs, L.Dense(2)(L.Dense(64, activation="gelu")(L.LSTM(3)(x))))
    rng = np.random.default_rng(0)
    data = rng.standard_normal((6, 5, 4)), rng.standard_normal((6, 2))
    names = ("grad_norm", "snip", "fisher", "jacob_cov", "naswot", "zico", "meco", "zen")
    scores = score(model, *data, names, loss="mse", initialisations=1)
    assert all(math.isfinite(value) for value in scores.values())


# ------------------------------------------------------------------ errors


def test_an_unsupported_proxy_is_an_error_or_skipped():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(3)(inputs)))
    data = np.ones((4, 5, 4)), np.ones((4, 2))
    with pytest.raises(ProxyError, match="`synflow` requires layers that are linear.*LSTM"):
        score(model, *data, ("synflow",), loss="mse")
    with pytest.raises(ProxyError, match="`naswot` requires an activation"):
        score(model, *data, ("naswot",), loss="mse")
    with pytest.warns(UserWarning, match="'synflow' was skipped.*LSTM") as warnings_issued:
        scores = score(
            model,
            *data,
            ("synflow", "grad_norm"),
            loss="mse",
            unsupported="skip",
            initialisations=2,
        )
    assert list(scores) == ["grad_norm"]
    assert len(warnings_issued) == 1


def test_collapsed_networks_score_worst_without_nan(batch):
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, padding="same")(inputs)
    x = L.Add()([x, L.ReLU()(x)])
    x = L.Rescaling(0.0)(x)
    x = L.BatchNormalization()(L.Add()([x, x]))
    x = L.ReLU()(x)
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    scores = score(model, *batch, ALL, loss=LOSS)
    assert not any(math.isnan(value) for value in scores.values())
    for name in ("synflow", "jacob_cov", "zen"):
        assert scores[name] == -math.inf


def test_an_overflow_scores_worst_with_a_warning(batch):
    model = networks.residual(norm=False)
    model.set_weights([np.full_like(weight, 1e30) for weight in model.get_weights()])
    with pytest.warns(UserWarning, match="'grad_norm' is nan for the model"):
        assert score(model, *batch, ("grad_norm",), loss=LOSS) == {"grad_norm": -math.inf}


def test_functions_of_the_model_are_accepted_as_proxies(network, batch):
    def layers(model):
        return len(model.layers)

    scores = score(network, *batch, (layers, "params"), loss=LOSS)
    assert scores == {"layers": len(network.layers), "params": scores["params"]}
    assert list(scores) == ["layers", "params"]
    assert score(network, *batch, (layers,)) == {"layers": len(network.layers)}


def wrong(**options):
    return {"proxies": ("grad_norm",), "loss": LOSS} | options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (wrong(proxies=("synflow", "best")), "names of grad_norm, .*; got 'best'"),
        (wrong(proxies="synflow"), "`proxies` must be a list .*; got 'synflow'"),
        (wrong(proxies=()), "`proxies` must be a list of at least one"),
        (wrong(proxies=(3,)), "`proxies` must be names or callables; got 3"),
        (wrong(proxies=("snip", "snip")), "`proxies` must have unique names"),
        (wrong(initialisations=0), "`initialisations` must be at least 1 or None; got 0"),
        (wrong(unsupported="ignore"), "`unsupported` must be one of .*; got 'ignore'"),
        (
            wrong(loss=None),
            "`loss` must be a Keras loss for a model that was compiled without one",
        ),
        (wrong(y=None), "`y` must be the labels"),
        (wrong(y=np.zeros(3)), "the same number of samples, at least 1; got \\[8, 3\\]"),
        (wrong(x=np.zeros((8, 5, 6, 2))), "shape \\(None, 6, 6, 2\\).*got \\(8, 5, 6, 2\\)"),
        (wrong(x=np.zeros((8, 6, 6))), "`x` must have the shape"),
        (wrong(x=[np.zeros((8, 6, 6, 2))] * 2), "`x` must have 1 inputs; got 2"),
        (wrong(x={"else": np.zeros((8, 6, 6, 2))}), "`x` must have the inputs .*'else'"),
        (wrong(x=np.full((8, 6, 6, 2), np.nan)), "`x` must be finite"),
        (wrong(x=np.float32(1)), "`x` must be arrays with a batch axis"),
        (wrong(x=np.zeros((0, 6, 6, 2)), y=np.zeros(0)), "the same number of samples"),
        (
            wrong(blocks=("nothing",), proxies=proxies.AZ_NAS),
            "`blocks` must name at least two layers",
        ),
    ],
)
def test_errors_name_the_argument(options, message, network, batch):
    options = {"x": batch[0], "y": batch[1]} | options
    with pytest.raises(ProxyError, match=message):
        score(network, **options)


@pytest.mark.parametrize(("name", "least"), [("jacob_cov", 2), ("naswot", 2), ("zico", 4)])
def test_too_few_samples_are_rejected(name, least, network, batch):
    x, y = (array[: least - 1] for array in batch)
    with pytest.raises(ProxyError, match=f"`x` must have at least {least} samples for `{name}`"):
        score(network, x, y, (name,), loss=LOSS)


def test_models_with_integer_inputs_have_no_input_gradient_or_noise():
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), L.Embedding(9, 3), L.Flatten(), L.Dense(2)]
    )
    x = np.arange(16).reshape(4, 4) % 9
    for name in ("jacob_cov", "zen"):
        with pytest.raises(ProxyError, match="an input of real numbers"):
            score(model, x, None, (name,))
    assert math.isfinite(score(model, x, None, ("synflow",))["synflow"])


def test_a_model_without_kernels_is_rejected():
    model = keras.Sequential([keras.Input((4,)), L.ReLU()])
    with pytest.raises(ProxyError, match="weights with two or more axes; .* has none"):
        score(model, np.ones((4, 4)), np.ones((4, 4)), ("grad_norm",), loss="mse")

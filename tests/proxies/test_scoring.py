"""What `score` promises: any model, shared passes, nothing left behind, errors that help."""

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
    assert all(isinstance(one, float) and math.isfinite(one) for one in scores.values())


@pytest.mark.parametrize("name", ALL)
def test_sharing_passes_changes_nothing(name, network, batch, scores):
    assert score(network, *batch, (name,), loss=LOSS)[name] == pytest.approx(scores[name])


def test_one_forward_pass_serves_all_that_look_at_the_batch(network, batch):
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


def test_the_model_is_as_it_was(batch):
    model = networks.residual()
    model.compile(keras.optimizers.Adam(), LOSS, metrics=["accuracy"])
    model.fit(*batch, epochs=1, verbose=0)
    before = networks.values(model)
    optimizer = [networks.array(one) for one in model.optimizer.variables]
    calls = [(one.call, getattr(one, "activation", None)) for one in model.layers]
    score(model, *batch, ALL, initialisations=2)
    after = [*networks.values(model), *(networks.array(v) for v in model.optimizer.variables)]
    for old, new in zip([*before, *optimizer], after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert calls == [(one.call, getattr(one, "activation", None)) for one in model.layers]
    assert not any("call" in vars(one) for one in model.layers)
    assert model.compiled and model.loss == LOSS
    model.fit(*batch, epochs=1, verbose=0)


def test_the_model_is_as_it_was_after_an_error(batch):
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
    assert not any("call" in vars(one) for one in model.layers)


def test_one_seed_gives_the_same_scores_whatever_the_weights(batch):
    first = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=4)
    again = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=4)
    other = score(networks.residual(), *batch, ALL, loss=LOSS, initialisations=1, seed=5)
    assert first == again
    # Other weights and noise; the number of parameters stays.
    assert [name for name in ALL if first[name] == other[name]] == ["params"]


def test_initialisations_are_averaged(batch, network):
    names = ("synflow", "grad_norm", "naswot")
    mean = score(network, *batch, names, loss=LOSS, initialisations=3, seed=7)
    draws = []
    from keras_nas_plugin.proxies.state import redraw, untouched

    with untouched(network):
        for draw in range(3):
            redraw(network, np.random.default_rng([7, draw, 0]))
            draws.append(score(network, *batch, names, loss=LOSS))
    for name in names:
        values = [one[name] for one in draws]
        assert len(set(values)) == 3
        assert mean[name] == pytest.approx(np.mean(values))


def test_dropout_does_not_speak(batch):
    inputs = keras.Input((6, 6, 2))
    layers = [L.Flatten(), L.Dense(8, activation="relu"), L.Dense(3)]
    plain, dropped = inputs, inputs
    for layer in layers:
        plain, dropped = layer(plain), L.Dropout(0.5)(layer(dropped))
    options = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    names = ("grad_norm", "synflow", "jacob_cov")
    expected = score(keras.Model(inputs, plain), *batch, names, **options)
    assert score(keras.Model(inputs, dropped), *batch, names, **options) == expected


def test_the_loss_of_the_compiled_model_counts(network, batch):
    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(name="anything")
    model.compile("sgd", loss, loss_weights=None)
    expected = score(network, *batch, ("grad_norm",), loss=LOSS)
    assert score(model, *batch, ("grad_norm",)) == pytest.approx(expected)
    targets = np.eye(3, dtype="float32")[batch[1]]
    model.compile("sgd", "mse")
    other = score(model, batch[0], targets, ("grad_norm",))
    assert other == pytest.approx(score(network, batch[0], targets, ("grad_norm",), loss="mse"))
    assert other != pytest.approx(expected)


# ------------------------------------------------------------------ other kinds of models


def test_several_inputs_and_outputs_as_dictionaries():
    """Also with weights of the losses, and metrics that a compiled loss creates by itself."""
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
    names = tuple(one for one in ALL if one not in proxies.AZ_NAS)
    losses = {"kind": LOSS, "size": "mse"}
    found = score(model, x, y, names, loss=losses)
    assert all(math.isfinite(one) for one in found.values())
    model.compile("sgd", losses)
    assert score(model, x, y, names) == pytest.approx(found, rel=1e-5)
    assert all(float(networks.array(one).sum()) == 0 for one in model.metrics_variables)
    model.compile("sgd", losses, loss_weights={"kind": 2.0, "size": 0.0})
    alone = score(model, x, y, ("grad_norm",))["grad_norm"]
    kind = score(keras.Model(model.inputs, outputs["kind"]), [x["image"], x["token"]], y["kind"],
                 ("grad_norm",), loss=LOSS)["grad_norm"]  # fmt: skip
    assert alone == pytest.approx(2 * kind, rel=1e-5)


def test_several_inputs_and_outputs_as_lists():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    x = L.Dense(64, activation="relu")(L.Add()(inputs))
    model = keras.Model(inputs, [L.Dense(2)(x), L.Dense(1)(x)])
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((6, 3)) for _ in inputs]
    y = [rng.standard_normal((6, 2)), rng.standard_normal((6, 1))]
    names = ("grad_norm", "snip", "grasp", "fisher", "synflow", "jacob_cov", "naswot", "zico")
    found = score(model, x, y, names, loss=["mse", "mae"])
    assert all(math.isfinite(one) for one in found.values())


def test_custom_layers_and_subclassed_models(batch):
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
    names = tuple(one for one in ALL if one not in proxies.AZ_NAS)
    found = score(model, *batch, names, loss=LOSS, initialisations=1)
    assert all(math.isfinite(one) for one in found.values())
    assert found == score(model, *batch, names, loss=LOSS, initialisations=1)
    ends = [one.name for one in model.parts]
    assert all(map(math.isfinite, score(model, *batch, proxies.AZ_NAS, blocks=ends).values()))
    with pytest.raises(ProxyError, match="`blocks` needs the names"):
        score(model, *batch, ("trainability",))


def test_recurrent_layers_and_attention():
    inputs = keras.Input((5, 4))
    x = L.MultiHeadAttention(2, 2)(inputs, inputs)
    x = L.LayerNormalization()(L.Add()([x, inputs]))
    model = keras.Model(inputs, L.Dense(2)(L.Dense(64, activation="gelu")(L.LSTM(3)(x))))
    rng = np.random.default_rng(0)
    data = rng.standard_normal((6, 5, 4)), rng.standard_normal((6, 2))
    names = ("grad_norm", "snip", "fisher", "jacob_cov", "naswot", "zico", "meco", "zen")
    found = score(model, *data, names, loss="mse", initialisations=1)
    assert all(math.isfinite(one) for one in found.values())


# ------------------------------------------------------------------ what cannot be scored


def test_a_proxy_that_cannot_handle_the_network_is_an_error_or_left_out():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(3)(inputs)))
    data = np.ones((4, 5, 4)), np.ones((4, 2))
    with pytest.raises(ProxyError, match="`synflow` needs layers that are linear.*LSTM"):
        score(model, *data, ("synflow",), loss="mse")
    with pytest.raises(ProxyError, match="`naswot` needs an activation"):
        score(model, *data, ("naswot",), loss="mse")
    with pytest.warns(UserWarning, match="'synflow' was left out.*LSTM") as told:
        found = score(
            model,
            *data,
            ("synflow", "grad_norm"),
            loss="mse",
            unsupported="skip",
            initialisations=2,
        )
    assert list(found) == ["grad_norm"]
    assert len(told) == 1


def test_collapsed_networks_are_worst_and_never_nan(batch):
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, padding="same")(inputs)
    x = L.Add()([x, L.ReLU()(x)])
    x = L.Rescaling(0.0)(x)
    x = L.BatchNormalization()(L.Add()([x, x]))
    x = L.ReLU()(x)
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))
    found = score(model, *batch, ALL, loss=LOSS)
    assert not any(math.isnan(one) for one in found.values())
    for name in ("synflow", "jacob_cov", "zen"):
        assert found[name] == -math.inf


def test_what_overflows_is_worst_with_a_warning(batch):
    model = networks.residual(norm=False)
    model.set_weights([np.full_like(one, 1e30) for one in model.get_weights()])
    with pytest.warns(UserWarning, match="'grad_norm' is nan for the model"):
        assert score(model, *batch, ("grad_norm",), loss=LOSS) == {"grad_norm": -math.inf}


def test_functions_of_the_model_are_proxies_too(network, batch):
    def layers(model):
        return len(model.layers)

    found = score(network, *batch, (layers, "params"), loss=LOSS)
    assert found == {"layers": len(network.layers), "params": found["params"]}
    assert list(found) == ["layers", "params"]
    assert score(network, *batch, (layers,)) == {"layers": len(network.layers)}


def wrong(**options):
    return {"proxies": ("grad_norm",), "loss": LOSS} | options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (wrong(proxies=("synflow", "best")), "names of grad_norm, .*; received 'best'"),
        (wrong(proxies="synflow"), "`proxies` needs a list .*; received 'synflow'"),
        (wrong(proxies=()), "`proxies` needs a list of at least one"),
        (wrong(proxies=(3,)), "`proxies` needs names or callables; received 3"),
        (wrong(proxies=("snip", "snip")), "`proxies` needs each name once"),
        (wrong(initialisations=0), "`initialisations` needs at least 1 or None; received 0"),
        (wrong(unsupported="ignore"), "`unsupported` needs one of .*; received 'ignore'"),
        (wrong(loss=None), "`loss` needs a Keras loss for a model that was not compiled"),
        (wrong(y=None), "`y` needs the labels"),
        (wrong(y=np.zeros(3)), "the same number of samples; received \\[8, 3\\]"),
        (wrong(x=np.zeros((8, 5, 6, 2))), "shape \\(None, 6, 6, 2\\).*received \\(8, 5, 6, 2\\)"),
        (wrong(x=np.zeros((8, 6, 6))), "`x` needs the shape"),
        (wrong(x=[np.zeros((8, 6, 6, 2))] * 2), "`x` needs 1 inputs; received 2"),
        (wrong(x={"else": np.zeros((8, 6, 6, 2))}), "`x` needs the inputs .*'else'"),
        (wrong(x=np.full((8, 6, 6, 2), np.nan)), "`x` needs finite numbers"),
        (wrong(x=np.float32(1)), "`x` needs arrays with a batch axis"),
        (wrong(x=np.zeros((0, 6, 6, 2)), y=np.zeros(0)), "the same number of samples"),
        (wrong(blocks=("nothing",), proxies=proxies.AZ_NAS), "`blocks` needs the names"),
    ],
)
def test_errors_name_the_argument(options, message, network, batch):
    options = {"x": batch[0], "y": batch[1]} | options
    with pytest.raises(ProxyError, match=message):
        score(network, **options)


@pytest.mark.parametrize(("name", "least"), [("jacob_cov", 2), ("naswot", 2), ("zico", 4)])
def test_too_few_samples(name, least, network, batch):
    x, y = (one[: least - 1] for one in batch)
    with pytest.raises(ProxyError, match=f"`x` needs at least {least} samples for `{name}`"):
        score(network, x, y, (name,), loss=LOSS)


def test_integers_alone_have_no_gradient_and_no_noise():
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), L.Embedding(9, 3), L.Flatten(), L.Dense(2)]
    )
    x = np.arange(16).reshape(4, 4) % 9
    for name in ("jacob_cov", "zen"):
        with pytest.raises(ProxyError, match="an input of real numbers"):
            score(model, x, None, (name,))
    assert math.isfinite(score(model, x, None, ("synflow",))["synflow"])


def test_a_model_without_kernels():
    model = keras.Sequential([keras.Input((4,)), L.ReLU()])
    with pytest.raises(ProxyError, match="weights with two or more axes; .* has none"):
        score(model, np.ones((4, 4)), np.ones((4, 4)), ("grad_norm",), loss="mse")

"""Differentiable search: gradients, masks, costs, guards, and the choice of the best operation."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_nas_plugin.errors import BackendError, StrategyError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.space import (
    Cell,
    Identity,
    Layer,
    LayerChoice,
    Optional,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
    Zero,
)
from keras_nas_plugin.supernet import DifferentiableTrainer, Guards, MaskLayout, Supernet
from keras_nas_plugin.supernet.differentiable import CostTerm, check_backend, perturbed
from keras_nas_plugin.supernet.expected_cost import ExpectedCost
from keras_nas_plugin.supernet.relaxation import METHODS

ROWS, FEATURES = 256, 4


def compiled(space, inputs, **options):
    return SpaceHyperModel(
        space,
        inputs=inputs,
        compile={"optimizer": options.get("optimizer", "adam"), "loss": options["loss"]},
    )


@pytest.fixture(scope="module")
def parity():
    """Two classes that no linear function separates: the sign of a product."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * ROWS, FEATURES)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    return x, y


def batches(x, y, size=32):
    return [(x[i : i + size], y[i : i + size], None) for i in range(0, len(x), size)]


def operations():
    """Only one of the operations can separate the classes."""
    return LayerChoice(
        {
            "linear": Layer("Dense", units=16),
            "relu": Layer("Dense", units=16, activation="relu"),
            "zero": Zero(),
        }
    )


def parity_supernet():
    keras.utils.set_random_seed(0)
    space = Sequential(operations(), Layer("Dense", units=2, activation="softmax"))
    loss = "sparse_categorical_crossentropy"
    return Supernet(compiled(space, (FEATURES,), loss=loss, optimizer=keras.optimizers.Adam(0.01)))


def trainer_of(supernet, method, *, epochs=1, steps=ROWS // 32, **options):
    relaxation = METHODS[method](supernet.layout)
    rng = np.random.default_rng(0)
    return DifferentiableTrainer(supernet, relaxation, rng, epochs=epochs, steps=steps, **options)


# ---------------------------------------------------------------------- gradients


@pytest.fixture(scope="module")
def smooth():
    """A supernet of smooth functions in which every kind of decision is mixed."""
    keras.utils.set_random_seed(1)
    block = LayerChoice(
        {"tanh": Layer("Dense", units=5, activation="tanh"), "skip": Identity(), "no": Zero()}
    )
    space = Sequential(
        Layer("Dense", units=ValueChoice([2, 5]), activation="tanh"),
        Layer("Dense", units=5),
        Repeat(block, 1, 2),
        "BatchNormalization",
        Layer("Dense", units=1),
    )
    optimizer = keras.optimizers.SGD(0.05)
    supernet = Supernet(compiled(space, (FEATURES,), loss="mse", optimizer=optimizer))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(32, FEATURES)).astype("float32")
    y = np.sin(x.sum(1, keepdims=True))
    return supernet, (x[:16], y[:16], None), (x[16:], y[16:], None)


def loss_of(supernet, batch, alphas, relaxation):
    x, y, _ = batch
    mask = np.asarray(relaxation.weights(ops.convert_to_tensor(alphas)))
    outputs = supernet.model(supernet.inputs(tf.constant(x), tf.constant(mask)), training=True)
    return supernet.model.compute_loss(x, tf.constant(y), outputs)


def differences(function, alphas, step=1e-2):
    """Central differences, whose error is of the order of ``step`` squared."""
    gradient = np.zeros_like(alphas)
    for index in range(len(alphas)):
        moved = np.zeros_like(alphas)
        moved[index] = step
        gradient[index] = (function(alphas + moved) - function(alphas - moved)) / (2 * step)
    return gradient


@pytest.mark.parametrize("method", ["darts", "darts-second-order"])
def test_gradients_of_alphas_are_those_of_finite_differences(smooth, method):
    supernet, training, validation = smooth
    trainer = trainer_of(supernet, method)
    rng = np.random.default_rng(3)
    alphas = rng.normal(size=supernet.layout.size).astype("float32")
    state = trainer.get_state()
    trainer.set_state({**state, "alphas": alphas.tolist()})
    variables = [variable.value for variable in supernet.model.trainable_variables]
    before = [variable.numpy() for variable in variables]
    rate = 0.05

    def ahead(moved):
        """Equation 7 of Liu et al. 2019, without an approximation."""
        if method == "darts-second-order":
            with tf.GradientTape() as tape:
                loss = loss_of(supernet, training, moved, trainer.relaxation)
            gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
            for variable, gradient in zip(variables, gradients, strict=True):
                variable.assign_sub(rate * gradient)
        loss = float(loss_of(supernet, validation, moved, trainer.relaxation))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return loss

    loss, gradient = trainer.gradient(training, validation)
    after = [variable.numpy() for variable in variables]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    expected = differences(ahead, alphas)
    # Float32 losses near 1 are exact to 1e-7, so that their differences are to 1e-5.
    np.testing.assert_allclose(gradient, expected, atol=2e-4 * max(1.0, np.abs(expected).max()))
    assert np.abs(expected).max() > 1e-2
    if method == "darts":
        assert loss == pytest.approx(ahead(alphas), rel=1e-5)


def test_gdas_computes_one_option_and_has_the_gradient_of_a_softmax():
    layout = MaskLayout({"a": ("x", "y", "z"), "b": (1, 2)})
    relaxation = METHODS["gdas"](layout)
    rng = np.random.default_rng(0)
    alphas = tf.constant(rng.normal(size=5), tf.float32)
    noise, factors = (
        tf.constant(relaxation.noise(rng)),
        tf.constant(rng.normal(size=5), tf.float32),
    )
    temperature = 0.7
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(alphas)
        mask = relaxation.sample(alphas, noise, temperature)
        parts = [
            tf.nn.softmax((tf.nn.log_softmax(alphas[s]) + noise[s]) / temperature)
            for s in (slice(0, 3), slice(3, 5))
        ]
        soft = tf.reduce_sum(factors * tf.concat(parts, 0))
        value = tf.reduce_sum(factors * mask)
    assert sorted(mask.numpy().tolist()) == [0.0, 0.0, 0.0, 1.0, 1.0]
    np.testing.assert_allclose(
        tape.gradient(value, alphas), tape.gradient(soft, alphas), rtol=1e-5, atol=1e-7
    )
    temperatures = [relaxation.temperature(epoch, 3) for epoch in range(3)]
    assert temperatures == pytest.approx([10.0, 5.05, 0.1])


def test_draws_of_drnas_have_the_mean_and_the_gradient_of_a_dirichlet_distribution():
    layout = MaskLayout({"a": ("x", "y", "z")})
    relaxation = METHODS["drnas"](layout)
    alphas = tf.constant([0.5, -0.5, 0.2])
    factors = tf.constant([1.0, -2.0, 3.0])
    draws = 4000

    @tf.function
    def drawn(seed):
        with tf.GradientTape() as tape:
            tape.watch(alphas)
            mask = relaxation.sample(alphas, seed, 1.0)
            value = tf.reduce_sum(factors * mask)
        return mask, tape.gradient(value, alphas)

    seeds = tf.constant(np.arange(2 * draws, dtype="int32").reshape(draws, 2))
    masks, gradients = (part.numpy() for part in tf.map_fn(drawn, seeds, (tf.float32, tf.float32)))
    np.testing.assert_allclose(masks.sum(1), 1.0, atol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(alphas)
        weights = relaxation.weights(alphas)
        mean = tf.reduce_sum(factors * weights)
    for samples, expected in ((masks, weights), (gradients, tape.gradient(mean, alphas))):
        error = samples.std(0) / np.sqrt(draws)
        assert (np.abs(samples.mean(0) - np.asarray(expected)) < 4.5 * error).all()
    uniform = tf.zeros(3)
    assert float(relaxation.penalty(uniform)) == 0.0
    assert float(relaxation.penalty(alphas)) > 0.0


# ---------------------------------------------------------------------- the search


@pytest.mark.parametrize("method", METHODS)
def test_the_only_operation_that_separates_the_classes_is_chosen(parity, method):
    x, y = parity
    trainer = trainer_of(parity_supernet(), method, epochs=12, warmup=2)
    held_out = itertools.cycle(batches(x[ROWS:], y[ROWS:]))
    losses = [trainer.epoch(batches(x[:ROWS], y[:ROWS]), held_out)["loss"] for _ in range(12)]
    layout, weights = trainer.supernet.layout, trainer.weights
    assert layout.strongest(weights) == {"0": "relu"}
    assert weights.max() > 0.5  # more than the two others together
    assert losses[-1] < losses[0]


def test_perturbation_chooses_what_the_supernet_misses_most(parity):
    x, y = parity
    supernet = parity_supernet()
    trainer = trainer_of(supernet, "darts", epochs=8, warmup=8)
    held_out = itertools.cycle(batches(x[ROWS:], y[ROWS:]))
    for _ in range(8):
        logs = trainer.epoch(batches(x[:ROWS], y[:ROWS]), held_out)
    assert "val_loss" not in logs  # the alphas were not trained
    assert trainer.weights.max() < 0.34
    masks, tuned = [], []

    def loss_of_mask(mask):
        masks.append(mask)
        return trainer.score_mask(mask, [x[:32]], batches(x[ROWS:], y[ROWS:]))["loss"]

    values = perturbed(trainer, loss_of_mask, tuned.append)
    assert values == {"0": "relu"}
    assert [mask.tolist().count(0.0) for mask in masks] == [1, 1, 1]
    np.testing.assert_allclose([mask.sum() for mask in masks], 1.0, rtol=1e-6)
    assert [mask.tolist() for mask in tuned] == [[0.0, 1.0, 0.0]]


def test_a_state_continues_as_the_trainer_that_it_is_of(parity):
    x, y = parity
    states = []
    for restart in (False, True):
        trainer = trainer_of(parity_supernet(), "gdas", epochs=3)
        data = batches(x[:64], y[:64]), batches(x[ROWS:], y[ROWS:])
        trainer.epoch(data[0], iter(data[1]))
        if restart:
            state, generator = trainer.get_state(), trainer.rng.bit_generator.state
            kept = [np.array(w) for w in trainer.supernet.model.get_weights()]
            moments = [v.numpy() for v in trainer.supernet.model.optimizer.variables]
            trainer = trainer_of(parity_supernet(), "gdas", epochs=3)
            trainer.supernet.model.optimizer.build(trainer.supernet.model.trainable_variables)
            trainer.supernet.model.set_weights(kept)
            for variable, value in zip(
                trainer.supernet.model.optimizer.variables, moments, strict=True
            ):
                variable.assign(value)
            trainer.set_state(state)
            trainer.rng.bit_generator.state = generator
        trainer.epoch(data[0], iter(data[1]))
        states.append(trainer.get_state())
    np.testing.assert_allclose(states[0]["alphas"], states[1]["alphas"], rtol=1e-4, atol=1e-6)
    assert states[0]["epoch"] == states[1]["epoch"] == 2
    assert states[0]["optimizer"][0] == states[1]["optimizer"][0] == 4  # its steps


# ---------------------------------------------------------------------- costs


def costly():
    """Nested decisions, widths, kernels, depths, and cells that share their decisions."""
    cell = {
        "none": Zero(),
        "skip": Identity(),
        "conv": Layer("Conv2D", filters=4, kernel_size=3, padding="same"),
    }
    block = LayerChoice(
        {
            "conv": Layer(
                "Conv2D",
                filters=ValueChoice([2, 4]),
                kernel_size=ValueChoice([1, 3]),
                padding="same",
            ),
            "separable": Layer("SeparableConv2D", filters=4, kernel_size=3, padding="same"),
            "depthwise": Layer("DepthwiseConv2D", kernel_size=3, padding="same"),
            "skip": Identity(),
        }
    )
    return Sequential(
        Layer("Conv2D", filters=ValueChoice([2, 4]), kernel_size=1),
        Repeat(block, 0, 2),
        Layer("Conv2D", filters=4, kernel_size=1),
        Cell(cell, nodes=2, name="cell"),
        Optional(Layer("Conv2D", filters=4, kernel_size=3, padding="same")),
        "Flatten",
        Layer("Dense", units=2),
    )


@pytest.fixture(scope="module")
def priced():
    supernet = Supernet(compiled(costly(), (5, 5, 2), loss="mse"))
    return supernet, ExpectedCost(supernet.graph, supernet.layout, count_flops, count_flops)


def test_the_expected_cost_of_one_architecture_is_its_cost(priced):
    supernet, expected = priced
    rng = np.random.default_rng(0)
    for _ in range(12):
        values = supernet.spec.sample(rng)
        network = supernet.hypermodel.build_values(values)
        cost = float(expected(tf.constant(supernet.mask(values))))
        # A layer whose input is zero everywhere is computed alone, and not in the supernet.
        computed = float(count_flops(network))
        assert cost <= computed * (1 + 1e-5)
        if all(values[name] != "none" for name in values if name.startswith("cell")):
            assert cost == pytest.approx(computed, rel=1e-5)


def test_the_expected_cost_is_the_mean_over_independent_decisions():
    space = Sequential(
        Optional(Layer("Dense", units=4)),
        LayerChoice({"a": Layer("Dense", units=4), "b": Identity()}),
        Layer("Dense", units=ValueChoice([1, 3])),
        Layer("Dense", units=1),
    )
    supernet = Supernet(compiled(space, (4,), loss="mse"))
    expected = ExpectedCost(supernet.graph, supernet.layout, count_flops, count_flops)
    names = list(supernet.layout.options)
    costs = [
        float(expected(tf.constant(supernet.mask(values))))
        for values in supernet.layout.combinations(names)
    ]
    mean = float(expected(tf.constant(supernet.layout.uniform())))
    assert mean == pytest.approx(np.mean(costs), rel=1e-5)
    term = CostTerm(expected, 2.0, None, mean)
    assert float(term(tf.constant(supernet.layout.uniform()))) == pytest.approx(2.0, rel=1e-5)
    limited = CostTerm(expected, 2.0, mean / 1.5, mean)
    assert float(limited(tf.constant(supernet.layout.uniform()))) == pytest.approx(1.0, rel=1e-4)
    satisfied = CostTerm(expected, 2.0, mean + 1, mean)
    assert float(satisfied(tf.constant(supernet.layout.uniform()))) == 0.0


def test_a_limit_on_the_cost_changes_what_is_chosen(parity):
    """The best operation is too expensive: the loss of the alphas contains the excess."""
    x, y = parity
    supernet = parity_supernet()
    expected = ExpectedCost(supernet.graph, supernet.layout, count_flops, count_flops)
    cheap = {
        name: float(expected(tf.constant(supernet.mask({"0": name}))))
        for name in ("linear", "relu", "zero")
    }
    assert cheap["zero"] < cheap["relu"] == cheap["linear"]
    uniform = float(expected(tf.constant(supernet.layout.uniform())))
    term = CostTerm(expected, 10.0, cheap["zero"], uniform)
    trainer = trainer_of(supernet, "darts", epochs=6, cost=term)
    held_out = itertools.cycle(batches(x[ROWS:], y[ROWS:]))
    for _ in range(6):
        trainer.epoch(batches(x[:ROWS], y[:ROWS]), held_out)
    assert supernet.layout.strongest(trainer.weights) == {"0": "zero"}
    assert cheap["zero"] <= trainer.expected_cost < uniform


# ---------------------------------------------------------------------- guards

LAYOUT = MaskLayout(dict.fromkeys("abcd", ("conv", "pool", "skip", "none")))
EMPTY = dict.fromkeys("abcd", ("skip", "none"))


def weights_of(*rows):
    return np.array(rows, "float32").ravel()


def test_a_collapse_to_options_that_compute_nothing_is_reported():
    guards = Guards(LAYOUT, EMPTY, epochs=50)
    uniform = LAYOUT.uniform()
    noise = uniform + np.tile([0.0, 0.0, 1e-3, -1e-3], 4)
    assert guards.check([uniform, noise], {"loss": 1.0}) is None  # all skips, by chance
    skips, conv = (0.2, 0.1, 0.6, 0.1), (0.5, 0.2, 0.2, 0.1)
    half = weights_of(skips, skips, conv, conv)
    assert guards.check([uniform, half], {"loss": 1.0}) is None
    collapsed = weights_of(skips, skips, skips, conv)
    verdict = guards.check([uniform, collapsed], {"loss": 1.0})
    assert verdict.discard
    assert verdict.sentence == (
        "identity or zero is the strongest option of 75% of the decisions with operations after "
        "epoch 2, more than `skip_limit`=50%"
    )
    # Before the first epoch, there is no better state.
    assert not guards.check([collapsed], {"loss": 1.0}).discard
    lenient = Guards(LAYOUT, EMPTY, epochs=50, skip_limit=0.75)
    assert lenient.check([uniform, collapsed], {"loss": 1.0}) is None
    assert guards.skips(collapsed) == (0.75, pytest.approx((0.6 - 0.5) / 0.5))
    assert guards.skips(uniform)[1] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(StrategyError, match="`skip_limit` must be between 0 and 1; got 1.5"):
        Guards(LAYOUT, EMPTY, epochs=5, skip_limit=1.5)


def test_stable_and_decided_weights_end_the_training_and_are_good():
    guards = Guards(LAYOUT, EMPTY, epochs=15)
    assert guards.patience == 3
    first, second = (0.4, 0.3, 0.2, 0.1), (0.3, 0.4, 0.2, 0.1)
    moving = [weights_of(first, first, first, row) for row in (first, second) * 3]
    assert guards.check(moving, {"loss": 1.0}) is None
    # The weight of a skip may change: the order of the operations counts.
    skip = (0.35, 0.25, 0.1, 0.3)
    steady = [weights_of(first, first, first, row) for row in (second, first, skip, first, skip)]
    assert guards.check(steady[:4], {"loss": 1.0}) is None
    verdict = guards.check(steady, {"loss": 1.0})
    assert not verdict.discard
    assert verdict.sentence == "the order of the operations has not changed for 3 epochs"
    decided = weights_of(*[(0.999, 0.0005, 0.0003, 0.0002)] * 4)
    assert "the weights are decided after epoch 1" in guards.check([decided], {}).sentence
    assert guards.entropy(LAYOUT.uniform()) == pytest.approx(1.0)
    assert "hardly differ (entropy 1.00" in guards.undecided(LAYOUT.uniform())
    assert guards.undecided(decided) is None


def test_a_loss_that_is_not_finite_ends_the_training():
    guards = Guards(LAYOUT, EMPTY, epochs=5)
    for name in ("loss", "val_loss"):
        verdict = guards.check([LAYOUT.uniform()], {name: float("nan")})
        assert verdict.discard
        assert verdict.sentence == "the loss was not finite in epoch 1"
    broken = np.full(LAYOUT.size, np.nan, "float32")
    assert guards.check([broken], {"loss": 1.0}).discard


def test_a_supernet_names_the_options_that_compute_nothing(priced):
    supernet, _ = priced
    edges = ("cell/0to1", "cell/0to2", "cell/1to2")
    assert supernet.empty == {
        "1/0": ("skip",),
        "1/1": ("skip",),
        "1/count": (0,),
        **dict.fromkeys(edges, ("none", "skip")),
        "4": ("without",),
    }
    assert parity_supernet().empty == {"0": ("zero",)}


# ---------------------------------------------------------------------- what is refused


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(BackendError, match=r"must be TensorFlow .* got jax\. `OneShotOracle`"):
        check_backend()


def test_second_order_in_float16_is_refused():
    supernet = parity_supernet()
    hypermodel = supernet.hypermodel
    compile_model = hypermodel.compile_model

    def scaled(model, values):
        compile_model(model, values)
        model.optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer)

    hypermodel.compile_model = scaled
    with pytest.raises(StrategyError, match="`precision` must be float32 or mixed_bfloat16"):
        trainer_of(supernet, "darts-second-order")

"""Paths that are trained on the predictions of the largest."""

import logging

import keras
import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles import OneShotOracle
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.supernet import (
    SandwichSampler,
    Supernet,
    SupernetTrainer,
    UniformSampler,
)
from keras_nas_plugin.supernet.distillation import soft_targets

X = np.array([[1.0, 2.0], [0.5, -1.0]], "float32")


def widths(loss, activation=None, units=3, **compiled):
    """One hidden layer of one to three units, trained by plain gradient descent."""
    return SpaceHyperModel(
        Sequential(
            Layer("Dense", units=ValueChoice([1, 2, 3]), use_bias=False),
            Layer("Dense", units=units, use_bias=False, activation=activation),
        ),
        inputs=(2,),
        compile={"optimizer": keras.optimizers.SGD(0.1), "loss": loss, **compiled},
    )


def trained(hypermodel, y, **options):
    """Weights before and after one step of the largest and the smallest path."""
    keras.utils.set_random_seed(0)
    supernet = Supernet(hypermodel)
    sampler = SandwichSampler(supernet.spec, random=0)
    trainer = SupernetTrainer(supernet, sampler, np.random.default_rng(0), **options)
    before = [variable.numpy() for variable in supernet.model.trainable_variables]
    logs = trainer.epoch([(X, y, None)])
    after = [variable.numpy() for variable in supernet.model.trainable_variables]
    return trainer, before, after, logs


def softmax(values):
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def expected_weights(inner, head, error_of):
    """The weights after the mean of the gradients of both paths.

    Args:
        inner: Weights of the hidden layer.
        head: Weights of the output.
        error_of: Gradient of the summed loss with respect to the outputs of the largest path, and
            of the smallest path.
    """
    largest, smallest = X @ inner @ head, X @ inner[:, :1] @ head[:1]
    of_largest, of_smallest = error_of(largest, smallest)
    inner_gradient, head_gradient = X.T @ of_largest @ head.T, (X @ inner).T @ of_largest
    inner_gradient[:, :1] += X.T @ of_smallest @ head[:1].T
    head_gradient[:1] += (X @ inner[:, :1]).T @ of_smallest
    return inner - 0.1 * inner_gradient / 2, head - 0.1 * head_gradient / 2


def test_the_smallest_path_learns_the_probabilities_of_the_largest():
    """A step of gradient descent, derived by hand, with weights of the rows."""
    y = np.array([2, 0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer, before, after, logs = trained(widths(loss), y, class_weight={0: 3.0})
    weights = np.array([1.0, 3.0])[:, None]

    def error_of(largest, smallest):
        labels, teacher = np.eye(3)[y], softmax(largest)
        rows = weights / len(X)
        return rows * (teacher - labels), rows * (softmax(smallest) - teacher)

    expected = expected_weights(*before, error_of)
    for own, value in zip(after, expected, strict=True):
        np.testing.assert_allclose(own, value, rtol=1e-4, atol=1e-6)
    teacher, student = (
        softmax(X @ before[0] @ before[1]),
        softmax(X @ before[0][:, :1] @ before[1][:1]),
    )
    entropy = -(weights * teacher * np.log(student)).sum() / len(X)
    assert logs["distillation_loss"] == pytest.approx(entropy, rel=1e-4)
    assert trainer.distillation is not None


def test_the_smallest_path_learns_the_numbers_of_the_largest():
    y = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
    _, before, after, _ = trained(widths("mse"), y)

    def error_of(largest, smallest):
        return 2 * (largest - y) / y.size, 2 * (smallest - largest) / y.size

    for own, value in zip(after, expected_weights(*before, error_of), strict=True):
        np.testing.assert_allclose(own, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "loss_weights"),
    [("mse", 0.25), (["mse"], [0.25])],
    ids=["number", "list"],
)
def test_the_weight_of_the_loss_applies_to_both_paths(loss, loss_weights):
    y = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
    _, before, after, _ = trained(widths(loss, loss_weights=loss_weights), y)

    def error_of(largest, smallest):
        return 0.5 * (largest - y) / y.size, 0.5 * (smallest - largest) / y.size

    for own, value in zip(after, expected_weights(*before, error_of), strict=True):
        np.testing.assert_allclose(own, value, rtol=1e-4, atol=1e-6)


def test_without_distillation_the_smallest_path_learns_labels():
    y = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
    trainer, before, after, logs = trained(widths("mse"), y, distill=False)

    def error_of(largest, smallest):
        return 2 * (largest - y) / y.size, 2 * (smallest - y) / y.size

    for own, value in zip(after, expected_weights(*before, error_of), strict=True):
        np.testing.assert_allclose(own, value, rtol=1e-4, atol=1e-6)
    assert trainer.distillation is None
    assert "distillation_loss" not in logs


@pytest.mark.parametrize(
    ("loss", "kind", "name"),
    [
        ("sparse_categorical_crossentropy", "CategoricalCrossentropy", "categorical_crossentropy"),
        (keras.losses.binary_crossentropy, "BinaryCrossentropy", "binary_crossentropy"),
        ("categorical_focal_crossentropy", "CategoricalCrossentropy", "categorical_crossentropy"),
        (["mae"], "MeanAbsoluteError", "mean_absolute_error"),
        ({"output": "kld"}, "KLDivergence", "kl_divergence"),
        (keras.losses.LogCosh(), "LogCosh", "log_cosh"),
        ("huber", "Huber", "huber_loss"),
    ],
)
def test_losses_on_predictions(loss, kind, name):
    soft = soft_targets(loss)
    assert (type(soft.loss).__name__, soft.loss.name) == (kind, name)
    outputs = np.array([[0.25, 0.75]], "float32")
    np.testing.assert_array_equal(soft.targets(outputs), outputs)


def test_logits_become_probabilities_and_labels_are_not_smoothed():
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)
    soft = soft_targets(loss)
    outputs = np.array([[0.0, 2.0]], "float32")
    np.testing.assert_allclose(soft.targets(outputs), softmax(outputs), rtol=1e-5)
    assert soft.loss.get_config()["label_smoothing"] == 0
    binary = soft_targets(keras.losses.BinaryCrossentropy(from_logits=True))
    np.testing.assert_allclose(binary.targets(outputs), 1 / (1 + np.exp(-outputs)), rtol=1e-5)


def squared(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2, -1)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (squared, "the targets of the loss squared may have to be labels"),
        ("hinge", "the targets of the loss Hinge must be labels"),
        ({"a": "mse", "b": "mse"}, "it has 2 losses"),
        (
            keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
            "ignores a class, which predictions cannot mark",
        ),
    ],
)
def test_losses_without_predictions_as_targets(loss, reason):
    with pytest.raises(StrategyError, match=reason):
        soft_targets(loss)


def test_a_loss_of_your_own_is_named_once_and_trained_on_labels(caplog):
    y = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, 0.0]], "float32")
    with caplog.at_level(logging.WARNING, "keras_nas_plugin"):
        trainer, _, after, logs = trained(widths(squared), y)
    own = [record for record in caplog.records if record.name == "keras_nas_plugin"]
    assert [record.getMessage() for record in own] == [
        "All paths of the supernet are trained on labels: the targets of the loss squared may "
        "have to be labels."
    ]
    assert trainer.distillation is None
    assert "distillation_loss" not in logs
    _, _, expected, _ = trained(widths("mse"), y, distill=False)
    for own, value in zip(after, expected, strict=True):
        np.testing.assert_allclose(own, value, rtol=1e-4)


def test_distillation_needs_a_largest_path():
    supernet = Supernet(widths("mse"))
    rng = np.random.default_rng(0)
    with pytest.raises(StrategyError, match=r"`distill` .* got UniformSampler"):
        SupernetTrainer(supernet, UniformSampler(supernet.spec), rng, distill=True)
    with pytest.raises(StrategyError, match="`distill` may be True only with `sampling='sandw"):
        OneShotOracle("val_loss", distill=True)
    operations = {name: Layer("Dense", units=2, activation=name) for name in ("relu", "tanh")}
    unordered = Supernet(
        SpaceHyperModel(Sequential(LayerChoice(operations)), inputs=(2,), compile={"loss": "mse"})
    )
    trainer = SupernetTrainer(unordered, SandwichSampler(unordered.spec), rng)
    assert trainer.distillation is None

"""Trains some paths of a supernet on the predictions of another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.supernet.supernet import Supernet

#: Name of the mean loss of the paths that are trained on predictions.
DISTILLATION_LOSS = "distillation_loss"

# Name of the predictions among what a training step of the teacher returns.
_PREDICTIONS = "nas_predictions"
# Losses of classification whose loss on probabilities is a cross-entropy.
_CROSS_ENTROPIES: dict[str, type[keras.losses.Loss]] = {
    "BinaryCrossentropy": keras.losses.BinaryCrossentropy,
    "BinaryFocalCrossentropy": keras.losses.BinaryCrossentropy,
    "CategoricalCrossentropy": keras.losses.CategoricalCrossentropy,
    "CategoricalFocalCrossentropy": keras.losses.CategoricalCrossentropy,
    "SparseCategoricalCrossentropy": keras.losses.CategoricalCrossentropy,
}
# Losses whose targets are of the same kind as the outputs.
_SAME = (
    "CosineSimilarity",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
)


@dataclasses.dataclass(frozen=True)
class SoftTargets:
    """How the outputs of one network become the targets of another.

    Attributes:
        loss: The loss of the other network.
        activation: Makes targets of outputs.
    """

    loss: keras.losses.Loss
    activation: Callable[[Any], Any]

    def targets(self, outputs: Any) -> np.ndarray:
        """The targets, float32, as constants: no gradient reaches the network they come from.

        Args:
            outputs: Outputs of a network, shape ``[batch, ...]``.
        """
        values = self.activation(ops.convert_to_tensor(outputs, dtype="float32"))
        return np.asarray(ops.convert_to_numpy(values))


def soft_targets(loss: Any) -> SoftTargets:
    """The loss on predictions that corresponds to a loss on labels.

    Cross-entropies, focal ones too, become the cross-entropy with probabilities, without label
    smoothing. Losses of regression and the Kullback-Leibler divergence stay as they are.

    Args:
        loss: What was passed to `keras.Model.compile`.

    Raises:
        StrategyError: The targets of the loss cannot be predictions; the message says why.

    >>> soft_targets("sparse_categorical_crossentropy").loss.name
    'categorical_crossentropy'
    """
    single = _single(loss)
    instance = single if isinstance(single, keras.losses.Loss) else _instance(single)
    name = "" if instance is None else type(instance).__name__
    if instance is None or getattr(keras.losses, name, None) is not type(instance):
        label = single if isinstance(single, str) else getattr(single, "__name__", single)
        raise StrategyError(f"the targets of the loss {label} may have to be labels")
    config = instance.get_config()
    if name in _SAME:
        return SoftTargets(instance, _identity)
    if name not in _CROSS_ENTROPIES:
        raise StrategyError(f"the targets of the loss {name} must be labels")
    if config.get("ignore_class") is not None:
        raise StrategyError(f"the loss {name} ignores a class, which predictions cannot mark")
    axis, logits = config.get("axis", -1), bool(config.get("from_logits", False))
    soft: Any = _CROSS_ENTROPIES[name]
    made = soft(from_logits=logits, axis=axis, reduction=config["reduction"])
    if not logits:
        return SoftTargets(made, _identity)
    if soft is keras.losses.BinaryCrossentropy:
        return SoftTargets(made, ops.sigmoid)
    return SoftTargets(made, lambda outputs: ops.softmax(outputs, axis=axis))


class Distillation:
    """Trains one path of a supernet on labels, and others on its predictions.

    The predictions are those of the training step on labels, before its update. The gradients of
    all paths are averaged by the optimizer of the supernet, which both kinds of steps share.

    Source: Yu & Huang 2019, "Universally Slimmable Networks and Improved Training Techniques",
    section 3.3 (inplace distillation); Yu et al. 2020, "BigNAS: Scaling Up Neural Architecture
    Search with Big Single-Stage Models", section 3.1.

    Args:
        supernet: A supernet that is compiled.

    Raises:
        StrategyError: The loss cannot be computed with predictions as targets.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet, model = supernet, supernet.model
        self._soft = soft_targets(model.loss)
        # Models of the same layers, so that they share all weights.
        self._teacher: Any = _Teacher(model.input, model.output, name="supernet_on_labels")
        supernet.hypermodel.compile_model(self._teacher, supernet.fixed)
        self._teacher.optimizer = model.optimizer
        self._student = keras.Model(model.input, model.output, name="supernet_on_predictions")
        self._student.compile(
            optimizer=model.optimizer,
            loss=self._soft.loss,
            loss_weights=_loss_weight(model),
            run_eagerly=model.run_eagerly,
            jit_compile=model.jit_compile,
            auto_scale_loss=False,
        )

    def create_variables(self, x: Any, y: Any) -> None:
        """Create the variables of the metrics, before they are part of a graph.

        Args:
            x: Inputs of a batch.
            y: Its labels.
        """
        supernet = self._supernet
        named = supernet.inputs(x, supernet.mask(supernet.spec.fill({})))
        outputs = supernet.model(
            {name: ops.convert_to_tensor(rows) for name, rows in named.items()}
        )
        targets = ops.convert_to_tensor(self._soft.targets(outputs))
        for model, labels in (
            (self._teacher, ops.convert_to_tensor(y)),
            (self._student, targets),
        ):
            model.compute_metrics(named, labels, outputs)
            model.reset_metrics()

    def teach(self, x: Any, y: Any, sample_weight: Any, mask: np.ndarray) -> Lesson:
        """Train a path on the labels of a batch.

        Args:
            x: Inputs of the batch.
            y: Its labels.
            sample_weight: Weights of its rows, or None.
            mask: The path.
        """
        logs = self._teacher.train_on_batch(
            self._supernet.inputs(x, mask), y, sample_weight=sample_weight, return_dict=True
        )
        outputs = np.reshape(logs.pop(_PREDICTIONS), (-1, *self._teacher.output_shape[1:]))
        return Lesson(self._soft.targets(outputs), _numbers(logs))

    def learn(self, x: Any, lesson: Lesson, sample_weight: Any, mask: np.ndarray) -> float:
        """Train a path on predictions; returns its loss.

        Args:
            x: Inputs of the batch.
            lesson: What `teach` returned for it.
            sample_weight: Weights of its rows, or None.
            mask: The path.
        """
        logs = self._student.train_on_batch(
            self._supernet.inputs(x, mask),
            lesson.targets,
            sample_weight=sample_weight,
            return_dict=True,
        )
        return _numbers(logs)["loss"]


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a training step on labels gives.

    Attributes:
        targets: Predictions as targets, shape ``[batch, ...]``.
        logs: Loss and metrics of the step.
    """

    targets: np.ndarray
    logs: dict[str, float]


class _Teacher(keras.Model):
    """A model whose training steps return their outputs, too."""

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """See `keras.Model.compute_metrics`."""
        metrics = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**metrics, _PREDICTIONS: y_pred}


def _single(loss: Any) -> Any:
    """The only loss.

    Raises:
        StrategyError: There are several, or none.
    """
    parts = list(loss.values()) if isinstance(loss, Mapping) else loss
    if not isinstance(parts, list | tuple):
        parts = [parts]
    given = [part for part in parts if part is not None]
    if len(given) != 1:
        raise StrategyError(f"it has {len(given)} losses")
    return given[0]


def _loss_weight(model: keras.Model) -> float | None:
    """What a compiled model multiplies its only loss by; None where that is not set."""
    weights = model.get_compile_config().get("loss_weights")
    flat = keras.tree.flatten(weights)  # a supernet has one output
    return flat[0] if flat else None


def _instance(loss: Any) -> keras.losses.Loss | None:
    """The loss of a name or of a function of Keras; None for any other function."""
    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    if isinstance(function, keras.losses.Loss):
        return function
    name = getattr(function, "__name__", "")
    if getattr(keras.losses, name, None) is not function:
        return None
    kind = getattr(keras.losses, "".join(part.capitalize() for part in name.split("_")), None)
    aliases = {"kl_divergence": keras.losses.KLDivergence, "log_cosh": keras.losses.LogCosh}
    kind = aliases.get(name, kind)
    return kind() if isinstance(kind, type) else None


def _identity(outputs: Any) -> Any:
    return outputs


def _numbers(logs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(np.mean(value)) for name, value in logs.items()}

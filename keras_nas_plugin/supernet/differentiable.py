"""Trains a supernet together with its architecture, as differentiable parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.errors import BackendError, StrategyError
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.supernet.expected_cost import ExpectedCost
from keras_nas_plugin.supernet.relaxation import Relaxation
from keras_nas_plugin.supernet.supernet import Supernet
from keras_nas_plugin.supernet.training import Batch, MaskTrainer, means

# In 50 epochs of 390 steps with the learning rate 3e-4, Adam moves alphas by at most 5.9 (Liu et
# al. 2019, appendix A.1). A shorter search gets a larger learning rate, so that they get as far.
_TRAVEL = 5.9
_SLOWEST, _FASTEST = 3e-4, 0.1
_MOMENTUM = (0.5, 0.999)
# Length of the step of the finite difference (Liu et al. 2019, section 2.3).
_DIFFERENCE = 0.01


class CostTerm:
    """A cost in the loss of the alphas.

    Args:
        expected: The expected cost as a function of the weights.
        weight: Its factor.
        limit: The largest allowed cost: what exceeds it counts, relative to it. None for no
            limit: the cost counts, relative to that of equal weights.
        uniform: The cost of equal weights.
    """

    def __init__(
        self, expected: ExpectedCost, weight: float, limit: float | None, uniform: float
    ) -> None:
        self.expected, self._weight, self._limit = expected, weight, limit
        self._uniform = max(uniform, 1e-12)

    def __call__(self, weights: Any) -> Any:
        """What is added to the loss, a scalar."""
        cost = self.expected(weights)
        if self._limit is None:
            return self._weight * cost / self._uniform
        return self._weight * ops.relu(cost / max(self._limit, 1e-12) - 1.0)


class DifferentiableTrainer(MaskTrainer):
    """Updates alphas on validation batches and weights on training batches, in turns.

    Needs the TensorFlow backend, because it differentiates through the mask with its gradient
    tapes.

    Source: Liu et al. 2019, "DARTS: Differentiable Architecture Search", algorithm 1.

    Args:
        supernet: The supernet. It is compiled here.
        relaxation: How alphas become masks.
        rng: Source of randomness.
        epochs: Epochs of the training.
        steps: Steps of an epoch; None if it is not known.
        warmup: Number of first epochs that train the weights alone.
        learning_rate: Learning rate of the alphas. None takes that with which Adam can move them
            as far as in the paper, between 0.0003 and 0.1.
        cost: A cost in the loss of the alphas, or None.
        class_weight: Weight of the training rows of each class, or None.

    Attributes:
        relaxation: How alphas become masks.

    Raises:
        BackendError: The backend is not TensorFlow.
        StrategyError: The gradient of second order is to be computed in float16.
    """

    def __init__(
        self,
        supernet: Supernet,
        relaxation: Relaxation,
        rng: np.random.Generator,
        *,
        epochs: int,
        steps: int | None,
        warmup: int = 0,
        learning_rate: float | None = None,
        cost: CostTerm | None = None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        check_backend()
        super().__init__(supernet, rng, class_weight=class_weight)
        self.relaxation, self._epochs, self._cost = relaxation, epochs, cost
        self._epoch, self._warmup = 0, warmup
        scaled = isinstance(supernet.model.optimizer, keras.optimizers.LossScaleOptimizer)
        if relaxation.second_order and scaled:
            raise StrategyError(
                "`precision` must be float32 or mixed_bfloat16 for the gradient of second order, "
                "which is a difference of gradients; got mixed_float16"
            )
        if learning_rate is None:
            total = max(epochs - warmup, 1) * (steps or 0)
            learning_rate = min(_FASTEST, max(_SLOWEST, _TRAVEL / total)) if total else _SLOWEST
        self._alphas = keras.Variable(relaxation.initial(rng), name="alphas")
        self._adam = keras.optimizers.Adam(learning_rate, *_MOMENTUM)
        self._adam.build([self._alphas])
        self._gradient = self._compiled()

    # ------------------------------------------------------------------ alphas

    @property
    def alphas(self) -> np.ndarray:
        """The alphas, shape ``[layout.size]``."""
        return np.array(ops.convert_to_numpy(self._alphas.value))

    @property
    def weights(self) -> np.ndarray:
        """Weights of the options, which sum to 1 in each decision, shape ``[layout.size]``."""
        return np.array(ops.convert_to_numpy(self.relaxation.weights(self._tensor)))

    @property
    def _tensor(self) -> Any:
        return ops.convert_to_tensor(self.alphas)

    @property
    def expected_cost(self) -> float | None:
        """The expected cost of the present weights; None without a cost in the loss."""
        if self._cost is None:
            return None
        return float(self._cost.expected(ops.convert_to_tensor(self.weights)))

    def get_state(self) -> dict[str, Any]:
        """See `MaskTrainer.get_state`: the alphas and the state of their optimizer."""
        return {
            "epoch": self._epoch,
            "alphas": self.alphas.tolist(),
            "optimizer": [
                np.asarray(ops.convert_to_numpy(variable.value)).tolist()
                for variable in self._adam.variables
            ],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `MaskTrainer.set_state`."""
        self._epoch = int(state["epoch"])
        self._alphas.assign(np.array(state["alphas"], "float32"))
        for variable, value in zip(self._adam.variables, state["optimizer"], strict=True):
            variable.assign(np.array(value, variable.dtype))

    # ------------------------------------------------------------------ training

    def epoch(
        self,
        training: Iterable[Batch],
        validation: Iterator[Batch],
        check: Callable[[], None] | None = None,
    ) -> dict[str, float]:
        """Train on each training batch once, with a step of the alphas before each.

        Args:
            training: Training batches of the same size.
            validation: As many validation batches of the same size.
            check: Called before each step; what it raises ends the epoch.

        Returns:
            Mean loss and metrics of the training batches, and ``val_loss`` unless the epoch trains
            the weights alone: the mean loss of the validation batches before each step.
        """
        steps = list[dict[str, float]]()
        losses: list[float] = []
        temperature = self.relaxation.temperature(self._epoch, self._epochs)
        for (x, y, sample_weight), held_out in zip(training, validation, strict=False):
            if check is not None:
                check()
            self._prepare(x, y)
            if self._epoch >= self._warmup:
                weighted = self._weighted(y, sample_weight)
                losses.append(self._step((x, y, weighted), held_out, temperature))
            steps.append(self._train(x, y, sample_weight, self._mask(temperature)))
        self._epoch += 1
        logs = means(steps)
        return {**logs, "val_loss": float(np.mean(losses))} if losses else logs

    def train_mask(self, mask: np.ndarray, batches: Iterable[Batch]) -> None:
        """Train the weights alone, for one mask.

        Args:
            mask: Shape ``[layout.size]``.
            batches: Training batches.
        """
        for x, y, sample_weight in batches:
            self._train(x, y, sample_weight, mask)

    def _mask(self, temperature: float) -> np.ndarray:
        """The mask of a training step."""
        noise = ops.convert_to_tensor(self.relaxation.noise(self.rng))
        mask = self.relaxation.sample(self._tensor, noise, temperature)
        return np.asarray(ops.convert_to_numpy(mask))

    def _step(self, training: Batch, validation: Batch, temperature: float) -> float:
        """Update the alphas; returns the validation loss."""
        loss, gradient = self.gradient(training, validation, temperature)
        decayed = gradient + self.relaxation.decay * self.alphas
        # As an optimizer with loss scaling does, a step that overflows is left out.
        if np.isfinite(decayed).all():
            self._adam.apply([ops.convert_to_tensor(decayed)], [self._alphas])
        return loss

    def gradient(
        self, training: Batch, validation: Batch, temperature: float = 1.0
    ) -> tuple[float, np.ndarray]:
        """The gradient of the alphas.

        Args:
            training: A training batch, for the gradient of second order.
            validation: A validation batch.
            temperature: See `Relaxation.sample`.

        Returns:
            The validation loss, and the gradient of it with penalty and cost.
        """
        model = self.supernet.model
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        arguments = (
            self._tensor,
            ops.convert_to_tensor(self.relaxation.noise(self.rng)),
            ops.convert_to_tensor(temperature, "float32"),
            ops.cast(optimizer.learning_rate, "float32"),
            ops.convert_to_tensor(1.0 if self._scale is None else self._scale, "float32"),
        )
        loss, gradient = self._gradient(
            *arguments,
            _tensors(training) if self.relaxation.second_order else (),
            _tensors(validation),
        )
        return float(loss), np.asarray(ops.convert_to_numpy(gradient), "float32")

    @property
    def _scale(self) -> Any:
        """Factor of the loss in float16; None in other types."""
        return getattr(self.supernet.model.optimizer, "dynamic_scale", None)

    def _compiled(self) -> Callable[..., Any]:
        """The gradient of the alphas as a graph, which is traced once."""
        import tensorflow as tf

        model, relaxation = self.supernet.model, self.relaxation
        zero = tf.UnconnectedGradients.ZERO

        def loss_of(batch: Any, mask: Any) -> Any:
            x, y, sample_weight = batch
            inputs = self.supernet.inputs(x, mask)
            outputs = model(inputs, training=True)
            return model.compute_loss(inputs, y, outputs, sample_weight, training=True)

        def gradients(batch: Any, sources: Any, mask_of: Any, terms: Any, scale: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for source in sources:
                    tape.watch(source)
                loss = loss_of(batch, mask_of())
                total = (tf.cast(loss, "float32") + terms()) * scale
            found = tape.gradient(total, sources, unconnected_gradients=zero)
            return loss, [
                tf.convert_to_tensor(part) / tf.cast(scale, part.dtype) for part in found
            ]

        def terms_of(alphas: Any) -> Any:
            terms = tf.cast(relaxation.penalty(alphas), "float32")
            return terms if self._cost is None else terms + self._cost(relaxation.weights(alphas))

        def gradient(
            alphas: Any,
            noise: Any,
            temperature: Any,
            rate: Any,
            scale: Any,
            training: Any,
            validation: Any,
        ) -> Any:
            mask_of = functools.partial(relaxation.sample, alphas, noise, temperature)
            terms = functools.partial(terms_of, alphas)
            if not relaxation.second_order:
                loss, (result,) = gradients(validation, [alphas], mask_of, terms, scale)
                return loss, result
            variables = [variable.value for variable in model.trainable_variables]
            nothing = functools.partial(tf.zeros, ())

            def moved(start: Any, directions: Any, step: Any) -> None:
                for variable, value, direction in zip(variables, start, directions, strict=True):
                    variable.assign(value + tf.cast(step, value.dtype) * direction)

            start = [tf.identity(variable) for variable in variables]
            _, own = gradients(training, variables, mask_of, nothing, scale)
            moved(start, own, -rate)  # w' of equation 6
            loss, (result, *ahead) = gradients(
                validation, [alphas, *variables], mask_of, terms, scale
            )
            step = _DIFFERENCE / tf.maximum(tf.linalg.global_norm(ahead), 1e-12)
            moved(start, ahead, step)  # w+ of equation 8
            _, (above,) = gradients(training, [alphas], mask_of, nothing, scale)
            moved(start, ahead, -step)  # w-
            _, (below,) = gradients(training, [alphas], mask_of, nothing, scale)
            for variable, value in zip(variables, start, strict=True):
                variable.assign(value)
            return loss, result - rate * (above - below) / (2.0 * step)

        compiled: Callable[..., Any] = tf.function(gradient, reduce_retracing=True)
        return compiled


def check_backend() -> None:
    """Check that the backend can differentiate the architecture.

    Raises:
        BackendError: It cannot.
    """
    if keras.backend.backend() != "tensorflow":
        raise BackendError(
            "the Keras backend must be TensorFlow for a differentiable search (darts, "
            f"darts-second-order, gdas and drnas); got {keras.backend.backend()}. `OneShotOracle` "
            "trains a supernet without gradients of the architecture."
        )


def perturbed(
    trainer: DifferentiableTrainer,
    loss_of: Callable[[np.ndarray], float],
    tune: Callable[[np.ndarray], None],
) -> Values:
    """Derive an architecture by what the supernet loses without each option.

    Decisions are made one after the other, parents first. The option without which the
    validation loss of the supernet is largest is chosen; the weights of the other options that
    remain are scaled so that their sum is 1. Then the supernet is trained for an epoch with the
    decisions so far.

    Source: Wang et al. 2021, "Rethinking Architecture Selection in Differentiable NAS", section
    4.2 and algorithm 1. There, edges are visited in random order, and the supernet is trained for
    five epochs after each.

    Args:
        trainer: The trained supernet. Its weights change.
        loss_of: Validation loss of a mask.
        tune: Trains the weights with a mask for an epoch.

    Returns:
        The values of the active decisions.
    """
    layout, spec = trainer.supernet.layout, trainer.supernet.spec
    mask, chosen = trainer.weights, dict[str, Any]()
    for decision in spec.decisions:
        name = decision.name
        if name not in layout.options or name in chosen or name not in spec.fill(chosen):
            continue
        options, part = layout.options[name], layout.slice(name)
        if len(options) > 1:
            losses = []
            for index in range(len(options)):
                weights = mask[part].copy()
                weights[index] = 0.0
                without = mask.copy()
                without[part] = weights / max(float(weights.sum()), 1e-12)
                losses.append(loss_of(without))
            # Without the option, the loss of a broken supernet may be infinite or NaN.
            worst = int(np.argmax(np.nan_to_num(losses, nan=np.inf, posinf=np.inf)))
        else:
            worst = 0
        chosen[name] = options[worst]
        mask[part] = np.eye(len(options), dtype="float32")[worst]
        if len(options) > 1:
            tune(mask)
    return spec.fill(chosen)


def _tensors(batch: Batch) -> Any:
    """A batch as tensors, because a graph is traced again for every other array."""
    return keras.tree.map_structure(
        lambda part: None if part is None else ops.convert_to_tensor(part), tuple(batch)
    )

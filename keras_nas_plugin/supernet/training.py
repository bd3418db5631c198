"""Trains a supernet, and scores architectures with its weights."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.supernet.distillation import DISTILLATION_LOSS, Distillation
from keras_nas_plugin.supernet.replicas import replica_count, split_rows
from keras_nas_plugin.supernet.sampling import PathSampler
from keras_nas_plugin.supernet.supernet import Supernet

logger = logging.getLogger("keras_nas_plugin")

#: A batch: inputs, targets and weights of the rows (or None).
Batch = tuple[Any, Any, Any]

# Training batches that batch normalisation is recalibrated on.
RECALIBRATION_BATCHES = 8


class _MaskedBatches(keras.utils.PyDataset):
    """Batches with a mask, for `keras.Model.evaluate`."""

    def __init__(self, supernet: Supernet, mask: np.ndarray, batches: Sequence[Batch]) -> None:
        super().__init__()
        self._supernet, self._mask, self._batches = supernet, mask, batches

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Inputs, targets, and weights if there are any."""
        x, y, sample_weight = self._batches[index]
        inputs = self._supernet.inputs(x, self._mask)
        return (inputs, y) if sample_weight is None else (inputs, y, sample_weight)


class MaskTrainer(abc.ABC):
    """Trains a supernet, and scores architectures with its weights.

    Args:
        supernet: The supernet. It is compiled here.
        rng: Source of randomness.
        class_weight: Weight of the rows of each class, or None.
        paths: Number of masks of a training step, whose gradients are averaged.

    Raises:
        StrategyError: There are several paths per step, and several replicas of the model.
    """

    def __init__(
        self,
        supernet: Supernet,
        rng: np.random.Generator,
        *,
        class_weight: Mapping[int, float] | None = None,
        paths: int = 1,
    ) -> None:
        self.supernet = supernet
        self.rng = rng
        self._class_weight = None if class_weight is None else dict(class_weight)
        self._replicas, self._prepared = replica_count(supernet.model), False
        if self._replicas > 1 and paths > 1:
            raise StrategyError(
                "a supernet under a tf.distribute.Strategy must be trained with one path per "
                f"step (UniformSampler), because Keras cannot average gradients there; got {paths}"
            )
        supernet.compile(gradient_accumulation=paths)

    def reset_optimizer(self) -> None:
        """Set the optimizer to the state of a new one."""
        optimizer = self.supernet.model.optimizer
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build(self.supernet.model.trainable_variables)
        if optimizer.built:
            for variable, new in zip(optimizer.variables, fresh.variables, strict=True):
                variable.assign(new)

    @abc.abstractmethod
    def get_state(self) -> dict[str, Any]:
        """What further training depends on besides the model and the generator, as JSON."""

    @abc.abstractmethod
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `get_state` returned."""

    def _train(self, x: Any, y: Any, sample_weight: Any, mask: np.ndarray) -> dict[str, float]:
        """Train the weights on a batch; returns its loss and metrics.

        Keras 3.15 resets the metrics before each batch.
        """
        batch = (self.supernet.inputs(x, mask), y, self._weighted(y, sample_weight))
        if self._replicas > 1:
            batch = split_rows(self.supernet.model, batch)
        inputs, targets, weight = batch
        logs = self.supernet.model.train_on_batch(
            inputs, targets, sample_weight=weight, return_dict=True
        )
        return {name: float(np.mean(value)) for name, value in logs.items()}

    def _weighted(self, y: Any, sample_weight: Any) -> Any:
        """Weights of training rows with those of their classes, as Keras applies them."""
        if self._class_weight is None:
            return sample_weight
        labels = np.asarray(y)
        classes = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels
        weights = np.array(
            [self._class_weight.get(int(label), 1.0) for label in classes.ravel()], "float32"
        )
        return weights if sample_weight is None else weights * np.asarray(sample_weight)

    def _prepare(self, x: Any, y: Any) -> None:
        """Create all variables before the first step."""
        if not self._prepared:
            self._create_variables(x, y)
            self._prepared = True

    def _create_variables(self, x: Any, y: Any) -> None:
        """Create the variables of the optimizer and the metrics, and the loss.

        TensorFlow traces a step twice if the first trace creates variables. Under a strategy,
        Keras takes the shapes for the loss from the first batch, which has none by replica.
        """
        model = self.supernet.model
        values = self.supernet.spec.fill({})
        named = self.supernet.inputs(x, self.supernet.mask(values))
        outputs = model({name: ops.convert_to_tensor(rows) for name, rows in named.items()})
        model.optimizer.build(model.trainable_variables)
        targets = ops.convert_to_tensor(y)
        model.compute_loss(named, targets, outputs)
        model.compute_metrics(named, targets, outputs)
        model.reset_metrics()

    def score(
        self, values: Values, training: Sequence[Any], validation: Iterable[Batch]
    ) -> dict[str, float]:
        """Metrics of an architecture with the weights of the supernet.

        The statistics of batch normalisation are measured for it, and restored afterwards.

        Args:
            values: Values of the active decisions.
            training: Inputs of some training batches.
            validation: Validation batches.

        Returns:
            Loss and metrics by name.
        """
        return self.score_mask(self.supernet.mask(values), training, validation)

    def score_mask(
        self, mask: np.ndarray, training: Sequence[Any], validation: Iterable[Batch]
    ) -> dict[str, float]:
        """Metrics of a mask, which may be a mixture: see `score`."""
        with self.supernet.statistics_kept():
            self.supernet.recalibrate(training[:RECALIBRATION_BATCHES], mask)
            return self.evaluate(mask, validation)

    def evaluate(self, mask: np.ndarray, batches: Iterable[Batch]) -> dict[str, float]:
        """Loss and metrics for a mask, with the present statistics of batch normalisation.

        Args:
            mask: Shape ``[layout.size]``.
            batches: Batches.
        """
        rows = _MaskedBatches(self.supernet, mask, list(batches))
        logs = self.supernet.model.evaluate(rows, verbose=0, return_dict=True)
        return {name: float(np.mean(value)) for name, value in logs.items()}


class SupernetTrainer(MaskTrainer):
    """Trains a supernet path by path, and scores architectures with its weights.

    With `SandwichSampler`, only the first path of a step, the largest, is trained on labels. The
    others are trained on its predictions (see `Distillation`), where the loss allows it.

    Args:
        supernet: The supernet. It is compiled here, so that the gradients of the paths of a step
            are averaged.
        sampler: Draws the paths of each step.
        rng: Source of randomness.
        class_weight: Weight of the rows of each class, or None.
        distill: Whether the paths after the first are trained on its predictions. None does so
            with a sampler whose first path is the largest (see `PathSampler.teaches`).

    Attributes:
        sampler: Draws the paths of each step.
        distillation: Trains paths on the predictions of the first; None where all are trained on
            labels. A warning says why, if the loss is the reason.

    Raises:
        StrategyError: ``distill`` is True with another sampler.
    """

    def __init__(
        self,
        supernet: Supernet,
        sampler: PathSampler,
        rng: np.random.Generator,
        *,
        class_weight: Mapping[int, float] | None = None,
        distill: bool | None = None,
    ) -> None:
        super().__init__(supernet, rng, class_weight=class_weight, paths=sampler.paths)
        self.sampler = sampler
        if distill and not sampler.teaches:
            raise StrategyError(
                "`distill` may be True only with SandwichSampler in a space with widths or other "
                f"ordered decisions, where one path is the largest; got {type(sampler).__name__}"
            )
        self.distillation: Distillation | None = None
        if sampler.teaches and distill is not False:
            try:
                self.distillation = Distillation(supernet)
            except StrategyError as error:
                logger.warning("All paths of the supernet are trained on labels: %s.", error)

    def get_state(self) -> dict[str, Any]:
        """See `MaskTrainer.get_state`."""
        return self.sampler.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `MaskTrainer.set_state`."""
        self.sampler.set_state(dict(state))

    def _create_variables(self, x: Any, y: Any) -> None:
        """See `MaskTrainer`."""
        super()._create_variables(x, y)
        if self.distillation is not None:
            self.distillation.create_variables(x, y)

    def epoch(
        self, batches: Iterable[Batch], check: Callable[[], None] | None = None
    ) -> dict[str, float]:
        """Train on each batch once, with all paths of a step.

        Args:
            batches: The batches, all of the same size.
            check: Called before each step; what it raises ends the epoch.

        Returns:
            Mean of the loss and of each metric over the steps on labels, each with the path that
            it trained, and ``distillation_loss`` over those on predictions; empty without
            batches.
        """
        steps, losses = list[dict[str, float]](), list[float]()
        for x, y, sample_weight in batches:
            if check is not None:
                check()
            self._prepare(x, y)
            masks = [self.supernet.mask(values) for values in self.sampler.step(self.rng)]
            if self.distillation is None:
                steps += [self._train(x, y, sample_weight, mask) for mask in masks]
                continue
            weight = self._weighted(y, sample_weight)
            lesson = self.distillation.teach(x, y, weight, masks[0])
            steps.append(lesson.logs)
            losses += [self.distillation.learn(x, lesson, weight, mask) for mask in masks[1:]]
        logs = means(steps)
        return {**logs, DISTILLATION_LOSS: float(np.mean(losses))} if losses else logs


def means(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over the steps; empty without steps."""
    names = steps[0] if steps else ()
    return {name: float(np.mean([logs[name] for logs in steps])) for name in names}

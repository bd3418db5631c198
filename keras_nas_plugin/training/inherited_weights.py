"""Trials that start from the weights of the trial that they were bred from."""

from __future__ import annotations

import dataclasses
import logging
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.inheritance.settings import Inheritance
from keras_nas_plugin.inheritance.transfer import Transfer, transfer_weights
from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import FINISHED, Lineage, TrialRecord
from keras_nas_plugin.supernet.recalibration import Statistics
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.hooks import TunerHooks
from keras_nas_plugin.training.models import restore

logger = logging.getLogger("keras_nas_plugin")

# Rows and batches that the statistics of batch normalisation are measured on.
_ROWS, _BATCHES = 64, 8
# Added layers of batch normalisation follow one another in few models.
_MOST_PASSES = 4


@dataclasses.dataclass(frozen=True)
class Source:
    """The trial whose weights a trial starts from.

    Attributes:
        trial_id: Its id.
        record: Its record.
        checkpoint: The weights of its best epoch.
    """

    trial_id: str
    record: TrialRecord
    checkpoint: Path

    @property
    def lineage(self) -> Lineage:
        """The lineage of a training that starts from these weights."""
        return Lineage(self.trial_id, self.record.lineage_epochs)


def source_of(hooks: TunerHooks, trial_id: str) -> Source | None:
    """The trial whose weights a trial starts from: the first parent that has a checkpoint.

    Args:
        hooks: The tuner.
        trial_id: The trial.

    Returns:
        None for a trial without such a parent, which starts from random weights.
    """
    layout = ProjectLayout.of(hooks.project_dir)
    # The first parent of a child of two is the trial that it resembles most.
    for parent in load_parents(layout.trial(trial_id).folder):
        record = _record(layout, parent)
        checkpoint = Path(hooks._get_checkpoint_fname(parent))
        if record is not None and record.status == FINISHED and checkpoint.exists():
            return Source(parent, record, checkpoint)
    return None


def lineage_of(hooks: TunerHooks, trial_id: str) -> Lineage:
    """The lineage of a trial that is trained further.

    Args:
        hooks: The tuner.
        trial_id: The trial.
    """
    record = _record(ProjectLayout.of(hooks.project_dir), trial_id)
    return Lineage() if record is None else Lineage(record.inherited_from, record.inherited_epochs)


def _record(layout: ProjectLayout, trial_id: str) -> TrialRecord | None:
    try:
        return TrialRecord.load(layout.trial(trial_id).folder)
    except StateError as error:  # a damaged file
        logger.warning("%s", error)
        return None


def epochs_of(inheritance: Inheritance, fit: FitArguments) -> FitArguments:
    """The arguments of `fit` of a trial that starts from the weights of another.

    Args:
        inheritance: The settings of the search.
        fit: What `search` was called with.
    """
    if inheritance.epochs is None:
        return fit
    return fit.replace(epochs=fit.initial_epoch + inheritance.epochs)


def inherit(
    hooks: TunerHooks, model: keras.Model, trial: Trial, source: Source, fit: FitArguments
) -> Transfer:
    """Initialise the model of a trial with the weights of another trial.

    Args:
        hooks: The tuner.
        model: The model, built and compiled; its weights are replaced.
        trial: The trial.
        source: The other trial.
        fit: The arguments of `fit`, for the statistics of batch normalisation.

    Returns:
        Which layers were initialised.

    Raises:
        Exception: The weights cannot be used; those of the model are unchanged.
    """
    hp = trial.hyperparameters.copy()
    hp.values = dict(source.record.values)
    parent = hooks._build_hypermodel(hp)
    restore(hooks, parent, source.trial_id, source.checkpoint)
    seed = zlib.crc32(trial.trial_id.encode())
    before = model.get_weights()
    try:
        transfer = transfer_weights(model, parent, seed)
        recalibrate(model, transfer, batches_of(fit, seed))
    except Exception:
        model.set_weights(before)
        raise
    return transfer


def recalibrate(model: keras.Model, transfer: Transfer, batches: list[Any]) -> None:
    """Measure the statistics of batch normalisation of a model before its first epoch.

    An added layer is given the scale and shift that undo its normalisation (Net2Net, section
    2.3).

    Args:
        model: The model.
        transfer: Which of its layers were added.
        batches: Batches of training inputs.
    """
    statistics = Statistics(model.layers)
    run = _in_training_mode(model)
    added = [
        layer
        for layer in transfer.identities
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.scale
        and layer.center
        and np.any(keras.ops.convert_to_numpy(layer.gamma))  # zero in an added residual branch
    ]
    for _ in range(min(len(added), _MOST_PASSES)):
        statistics.measure(batches, run)
        for layer in added:
            layer.gamma.assign(keras.ops.sqrt(layer.moving_variance + layer.epsilon))
            layer.beta.assign(layer.moving_mean)
    statistics.measure(batches, run)


def _in_training_mode(model: keras.Model) -> Any:
    return lambda batch: model(batch, training=True)


def batches_of(fit: FitArguments, seed: int) -> list[Any]:
    """A few batches of training inputs.

    Args:
        fit: Arguments of `fit`.
        seed: Selects rows of arrays; the first batches of a data set are taken.
    """
    training = fit.splits()[0]
    if training is None:
        return []
    if training.rows is None:
        sample = fit.sample_batch(_ROWS)
        return [] if sample is None else [sample[0]]
    rng = np.random.default_rng(seed)
    count = min(_BATCHES, max(1, training.rows // _ROWS))
    order = rng.permutation(training.rows)[: count * _ROWS]
    return [training.take(np.sort(rows)).x for rows in np.array_split(order, count)]

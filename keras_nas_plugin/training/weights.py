"""Checkpoints that hold weights and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_nas_plugin.files import write_atomic


@contextlib.contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    """Keras saves and loads whatever hangs on a model; its optimizer hangs there."""
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def save_weights(model: keras.Model, path: str | Path) -> None:
    """Write a model's weights to a file ending in ``.weights.h5``, atomically.

    The optimizer's moments, two thirds of a checkpoint with Adam, are left out: a best
    model is evaluated and registered, and a trial that was cut off starts afresh.
    """
    with _without_optimizer(model):
        write_atomic(path, model.save_weights)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Read weights into a built model; an optimizer in the file is ignored."""
    with _without_optimizer(model):
        model.load_weights(path)

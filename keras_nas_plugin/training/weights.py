"""Checkpoints: weights and nothing else, or everything that training goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_nas_plugin.files import write_atomic

# Beside what Keras writes into the file.
_SEEDS = "nas_seeds"


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


def save_state(model: keras.Model, path: str | Path) -> None:
    """Write all that decides how training goes on: weights, optimizer, random seeds.

    Args:
        model: A compiled model that trained.
        path: A file ending in ``.weights.h5``; it is replaced atomically.
    """

    def write(temporary: str) -> None:
        model.save_weights(temporary)
        # Of dropout and augmentation layers; Keras 3.15 leaves them out.
        with h5py.File(temporary, "a") as file:
            for number, seed in enumerate(_seeds(model)):
                file[f"{_SEEDS}/{number}"] = keras.ops.convert_to_numpy(seed)

    write_atomic(path, write)


def load_state(model: keras.Model, path: str | Path) -> None:
    """Read what `save_state` wrote into a built and compiled model of the same architecture."""
    if isinstance(model.optimizer, keras.optimizers.Optimizer) and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
    with h5py.File(path, "r") as file:
        for number, seed in enumerate(_seeds(model)):
            seed.assign(file[f"{_SEEDS}/{number}"][()])


def with_built_optimizer(model: keras.Model) -> keras.Model:
    """The same model: Keras warns on loading a compiled one whose optimizer was never built."""
    if model.compiled and model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)
    return model


def _seeds(model: keras.Model) -> list[Any]:
    """The states of a model's random generators, in a fixed order."""
    others = [*model.weights, *model.metrics_variables]
    known = {id(variable) for variable in others}
    return [one for one in model.non_trainable_variables if id(one) not in known]

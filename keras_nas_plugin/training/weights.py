"""Checkpoints: of the weights alone, or of everything that further training depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras

from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.training.layer_state import (
    build_layers,
    has_weights,
    layer_state_of,
    load_layer_state,
    write_layer_state,
)
from keras_nas_plugin.training.optimizers import build_optimizers, optimizers_of

# Group of the file, in addition to those that Keras writes.
_SEEDS = "nas_seeds"


@contextlib.contextmanager
def _without_optimizers(model: keras.Model) -> Iterator[None]:
    """Hide the optimizers, because Keras saves and loads every attribute of a model.

    A GAN has several, under names of its own.
    """
    optimizers = {**optimizers_of(model), "optimizer": getattr(model, "optimizer", None)}
    for name in optimizers:
        setattr(model, name, None)
    try:
        yield
    finally:
        for name, optimizer in optimizers.items():
            setattr(model, name, optimizer)


@contextlib.contextmanager
def _marked_as_built(model: keras.Model) -> Iterator[None]:
    """Let Keras save and load a model whose layers are built.

    Keras 3.15 refuses one that is not built itself: a GAN whose ``call`` is never used, or a
    subclassed model after `build_from_config`, which creates the variables only.
    """
    built = model.built
    model.built = built or has_weights(model)
    try:
        yield
    finally:
        model.built = built


def save_weights(model: keras.Model, path: str | Path) -> None:
    """Write a model's weights to a file ending in ``.weights.h5``, atomically.

    The optimizer's moments, two thirds of a checkpoint with Adam, are omitted: the best model is
    only evaluated and registered, and a trial that was interrupted starts again. The state of
    layers that Keras leaves out is included: see `layer_state`.
    """

    def write(temporary: str) -> None:
        model.save_weights(temporary)
        state = layer_state_of(model)
        if state:
            with h5py.File(temporary, "a") as file:
                write_layer_state(state, file)

    with _without_optimizers(model), _marked_as_built(model):
        write_atomic(path, write)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Read weights into a model; an optimizer in the file is ignored.

    Args:
        model: A new model. Layers of a subclassed model that are not built are built as those of
            the model that was saved.
        path: A file that `save_weights` or `save_state` wrote.
    """
    with _without_optimizers(model):
        _load(model, path)


def save_state(model: keras.Model, path: str | Path) -> None:
    """Write everything that further training depends on: weights, optimizer, random seeds.

    Args:
        model: A compiled model that was trained.
        path: A file ending in ``.weights.h5``; it is replaced atomically.
    """

    def write(temporary: str) -> None:
        model.save_weights(temporary)
        # The seeds of dropout and augmentation layers, which Keras 3.15 does not save.
        with h5py.File(temporary, "a") as file:
            for number, seed in enumerate(_seeds(model)):
                file[f"{_SEEDS}/{number}"] = keras.ops.convert_to_numpy(seed)
            write_layer_state(layer_state_of(model), file)

    with _marked_as_built(model):
        write_atomic(path, write)


def load_state(model: keras.Model, path: str | Path) -> None:
    """Read what `save_state` wrote into a compiled model of the same architecture."""
    with h5py.File(path, "r") as file:
        build_layers(model, file)
        build_optimizers(model, file)
    _load(model, path)
    with h5py.File(path, "r") as file:
        for number, seed in enumerate(_seeds(model)):
            seed.assign(file[f"{_SEEDS}/{number}"][()])


def _load(model: keras.Model, path: str | Path) -> None:
    with h5py.File(path, "r") as file:
        build_layers(model, file)
    with _marked_as_built(model):
        model.load_weights(path)
    with h5py.File(path, "r") as file:
        load_layer_state(model, file)
    if type(model).build is keras.Model.build and has_weights(model):
        # There is nothing left to build: Keras' own method only calls the model once.
        model.built = True


def with_built_optimizer(model: keras.Model) -> keras.Model:
    """Build the optimizer of a model, since Keras warns when it loads one that was not built."""
    if model.compiled and model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)
    return model


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """The states of a model's random generators, in a fixed order."""
    weights = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    return [seed for seed in model.non_trainable_variables if id(seed) not in weights]

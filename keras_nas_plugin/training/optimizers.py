"""The optimizers of a model, of which a GAN has several."""

from __future__ import annotations

import h5py
import keras

# Where Keras writes the variables of an optimizer, below the name of the model's attribute.
_VARIABLES = "vars"


def optimizers_of(model: keras.Model) -> dict[str, keras.optimizers.Optimizer]:
    """The optimizers of a model by attribute; the compiled one is called ``optimizer``."""
    attributes = {**vars(model), "optimizer": getattr(model, "optimizer", None)}
    return {
        name: value
        for name, value in attributes.items()
        if isinstance(value, keras.optimizers.Optimizer)
    }


def build_optimizers(model: keras.Model, file: h5py.File) -> None:
    """Build the optimizers of a model so that their saved variables can be loaded.

    An optimizer is built for the variables that it trains. Keras does so in the first step, and a
    checkpoint does not name them: they are those of the whole model, or of one of its parts, for
    which the optimizer would have variables of the saved shapes.

    Args:
        model: A model whose layers are built.
        file: A checkpoint of a model of the same architecture.
    """
    parts = [value for value in vars(model).values() if isinstance(value, keras.layers.Layer)]
    candidates = [part.trainable_variables for part in (model, *parts)]
    for name, optimizer in optimizers_of(model).items():
        if optimizer.built:
            continue
        saved = _saved_shapes(file, name)
        for variables in candidates:
            if saved is None or _shapes(optimizer, variables) == saved:
                optimizer.build(variables)
                break


def _saved_shapes(file: h5py.File, name: str) -> list[tuple[int, ...]] | None:
    """Shapes of the saved variables of an optimizer; None where they are stored otherwise."""
    group = file.get(f"{name}/{_VARIABLES}")
    if group is None or not len(group):
        return None
    return [tuple(group[key].shape) for key in sorted(group, key=int)]


def _shapes(
    optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]
) -> list[tuple[int, ...]]:
    """Shapes of the variables that an optimizer would have."""
    copy = type(optimizer).from_config(optimizer.get_config())
    copy.build(variables)
    return [tuple(variable.shape) for variable in copy.variables]

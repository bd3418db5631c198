"""One trace of the train step instead of two."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

logger = logging.getLogger("keras_nas_plugin")


def create_variables(
    model: keras.Model, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> bool:
    """Create optimizer slots and metric variables before `fit` traces its train step.

    `tf.function` traces twice when the first trace creates variables, and Keras creates
    Adam's moments and the compiled metrics there. The results are the same, bit for bit. A
    model for which this is not certain is left as it is: not built, run eagerly, distributed,
    with a `train_step` of its own or several outputs.

    Args:
        model: A model as the hypermodel compiled it.
        args: Positional arguments of the `fit` to come.
        kwargs: Keyword arguments of the `fit` to come.

    Returns:
        Whether all variables could be created.
    """
    if not _plain(model):
        return False
    try:
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return _build_metrics(model, args, kwargs or {})
    except Exception as error:
        # Whatever is wrong with the model, `fit` says it better.
        logger.debug("Variables are left to `fit`: %s", error)
        return False


def _plain(model: keras.Model) -> bool:
    if keras.backend.backend() != "tensorflow" or not model.built:
        return False
    import tensorflow as tf

    return (
        bool(model.compiled)
        and not model.run_eagerly
        # A model that was built under another strategy has its variables on its replicas.
        and model.distribute_strategy is tf.distribute.get_strategy()
        and isinstance(model.optimizer, keras.optimizers.Optimizer)
        # A step of its own may use the optimizer on other variables.
        and type(model).train_step is keras.Model.train_step
    )


def _build_metrics(model: keras.Model, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    unbuilt = [m for m in model.metrics if m.name == "compile_metrics" and not m.built]
    if not unbuilt:
        return True
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) < 2:
        return False
    targets = _targets(args, kwargs)
    if targets is None:
        return False
    for metrics in unbuilt:
        # Their names alone do not tell: "accuracy" depends on the shapes.
        metrics.build(targets, outputs[0])
    return True


def _targets(args: Sequence[Any], kwargs: Mapping[str, Any]) -> keras.KerasTensor | None:
    """A placeholder like a batch of targets; None where it cannot be known."""
    x = args[0] if args else kwargs.get("x")
    y = args[1] if len(args) > 1 else kwargs.get("y")
    if hasattr(x, "element_spec"):
        spec = x.element_spec
        if not isinstance(spec, tuple) or len(spec) < 2 or not hasattr(spec[1], "shape"):
            return None
        y = spec[1]
        if y.shape.rank is None:
            return None
        return keras.KerasTensor((None, *y.shape[1:]), dtype=y.dtype.name)
    if isinstance(y, np.ndarray) and y.dtype.kind in "biuf":
        return keras.KerasTensor((None, *y.shape[1:]), dtype=y.dtype.name)
    return None

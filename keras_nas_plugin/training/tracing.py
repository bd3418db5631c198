"""Creates the variables of a training early, so that its train step is traced only once."""

from __future__ import annotations

import logging

import keras

from keras_nas_plugin.training.fit_arguments import FitArguments

logger = logging.getLogger("keras_nas_plugin")


def create_variables(model: keras.Model, fit: FitArguments) -> bool:
    """Create optimizer slots and metric variables before `fit` traces its train step.

    `tf.function` traces twice when the first trace creates variables, and Keras creates
    Adam's moments and the compiled metrics there. The results are the same, bit for bit. A model
    for which this is not certain is left unchanged: not built, run eagerly, distributed, with its
    own `train_step` or with several outputs.

    Args:
        model: A model as the hypermodel compiled it.
        fit: The arguments that `fit` is going to be called with.

    Returns:
        Whether all variables could be created.
    """
    if not _plain(model):
        return False
    try:
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return _build_metrics(model, fit)
    except Exception as error:
        # Whatever is wrong with the model, the error of `fit` explains it better.
        logger.debug("Variables are left to `fit`: %s", error)
        return False


def _plain(model: keras.Model) -> bool:
    if keras.backend.backend() != "tensorflow" or not model.built:
        return False
    import tensorflow as tf

    return (
        bool(model.compiled)
        and not model.run_eagerly
        # A model that was built under another strategy has variables on that one's replicas.
        and model.distribute_strategy is tf.distribute.get_strategy()
        and isinstance(model.optimizer, keras.optimizers.Optimizer)
        # An overridden step may use the optimizer on other variables.
        and type(model).train_step is keras.Model.train_step
    )


def _build_metrics(model: keras.Model, fit: FitArguments) -> bool:
    unbuilt = [
        metric for metric in model.metrics if metric.name == "compile_metrics" and not metric.built
    ]
    if not unbuilt:
        return True
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) < 2:
        return False
    target_spec = fit.training.target_spec() if fit.training else None
    if target_spec is None:
        return False
    shape, dtype = target_spec
    for metrics in unbuilt:
        # Their names are not enough: what "accuracy" is depends on the shapes.
        metrics.build(keras.KerasTensor(shape, dtype=dtype), outputs[0])
    return True

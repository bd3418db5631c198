"""One built model of a search, evaluated on a few rows before the first trial."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.space.hyperparameters import spec_of

logger = logging.getLogger("keras_nas_plugin")

# Configurations that are tried until one can be evaluated: a space may have many that cannot.
_CONFIGURATIONS = 8
_OUT_OF_MEMORY = ("ResourceExhausted", "OutOfMemory", "MemoryError", "out of memory", "OOM")


@dataclasses.dataclass
class SampleModel:
    """A model of the space that could be evaluated on a batch, or why none could.

    Attributes:
        model: The model; None if no model could be evaluated, or if none could be judged.
        error: The first error of evaluating a model; None if one could be evaluated, or if the
            errors may have another cause than the data.
        built: The model, or the first that could be built.
    """

    model: keras.Model | None = None
    error: Exception | None = None
    built: keras.Model | None = None

    def loss_of(self, batch: Mapping[str, Any]) -> float | None:
        """Loss of the model on other rows; None if it cannot be evaluated on them.

        Args:
            batch: Arguments ``x``, ``y`` and ``sample_weight`` of `keras.Model.evaluate`.
        """
        if self.model is None:
            return None
        try:
            return _evaluate(self.model, batch)
        except Exception as error:
            logger.debug("The model cannot be evaluated on these rows: %r", error)
            return None

    def error_of(self, batch: Mapping[str, Any]) -> Exception | None:
        """The error of evaluating the model on other rows, or None.

        Args:
            batch: See `loss_of`.
        """
        if self.model is None:
            return None
        try:
            _evaluate(self.model, batch)
        except Exception as error:
            return None if _out_of_memory(error) else error
        return None

    def reads_texts(self, name: str) -> bool:
        """Whether the model declares an input of texts for an array.

        Args:
            name: The array, such as ``x`` or ``x['age']``.
        """
        inputs = getattr(self.built, "inputs", None) or []
        texts = [tensor for tensor in inputs if tensor.dtype == "string"]
        if "[" not in name:
            return len(inputs) == len(texts) == 1
        return any(name.endswith(f"[{tensor.name!r}]") for tensor in texts)

    def output_sizes(self, batch: Mapping[str, Any]) -> list[int | None]:
        """Size of the last dimension of each output, for a model that does not declare them.

        Args:
            batch: See `loss_of`.
        """
        if self.built is None:
            return []
        inputs = {name: batch[name] for name in ("x", "batch_size") if name in batch}
        try:
            outputs = keras.tree.flatten(self.built.predict(**inputs, verbose=0))
        except Exception as error:
            logger.debug("The model cannot predict these rows: %r", error)
            return []
        return [output.shape[-1] if output.ndim > 1 else None for output in outputs]


def sample_model(
    build: Callable[[keras_tuner.HyperParameters], keras.Model],
    get_space: Callable[[], keras_tuner.HyperParameters],
    batch: Mapping[str, Any],
    explains: Callable[[SampleModel], bool],
) -> SampleModel:
    """Build models until one can be evaluated on a batch: first the defaults, then random ones.

    Models with their own `train_step`, `test_step`, `fit` or `evaluate` are not judged, because
    they may train on data that evaluating them cannot handle.

    Args:
        build: Builds the model of a configuration; one that raises an error is skipped.
        get_space: Returns a new copy of the search space.
        batch: Arguments ``x``, ``y`` and ``sample_weight`` of `keras.Model.evaluate`.
        explains: Whether the data explain why the first model could not be evaluated, so that no
            other needs to be tried.
    """
    rng, errors, built = np.random.default_rng(0), list[Exception](), None
    for attempt in range(_CONFIGURATIONS):
        hyperparameters = get_space()
        if attempt:
            hyperparameters.values = dict(spec_of(hyperparameters).sample(rng))
        try:
            model = build(hyperparameters)
        except Exception as error:
            logger.debug("A model for the check of the data could not be built: %r", error)
            continue
        if not isinstance(model, keras.Model) or not _has_standard_steps(model):
            return SampleModel()
        try:
            _evaluate(model, batch)
        except Exception as error:
            if _out_of_memory(error):
                return SampleModel()
            errors.append(error)
            built = built or model
            if len(errors) == 1 and explains(SampleModel(None, error, model)):
                return SampleModel(None, error, model)
            continue
        return SampleModel(model, None, model)
    # If most models could not be built at all, a single one is too little to blame the data.
    return SampleModel(None, errors[0] if len(errors) > 1 else None, built)


def _has_standard_steps(model: keras.Model) -> bool:
    cls = type(model)
    return all(
        getattr(cls, name) in (getattr(keras.Model, name), getattr(keras.Sequential, name))
        for name in ("train_step", "test_step", "fit", "evaluate", "compute_loss")
    )


def _evaluate(model: keras.Model, batch: Mapping[str, Any]) -> float:
    """The loss on a batch, without tracing a graph and without changing the weights."""
    model.run_eagerly = True
    fields = {name: batch[name] for name in ("x", "y", "sample_weight") if name in batch}
    if all(map(_is_numeric, keras.tree.flatten(fields))):
        # Without a pipeline of batches, which takes longer than the batch itself.
        values = model.test_on_batch(**fields, return_dict=True)
    else:
        values = model.evaluate(**batch, verbose=0, return_dict=True)
    return float(values.get("loss", 0.0))


def _is_numeric(array: object) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "biuf"


def _out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}"
    return any(phrase in text for phrase in _OUT_OF_MEMORY)


@contextlib.contextmanager
def unchanged_generators() -> Iterator[None]:
    """Restore the global random generators of Python and numpy, from which Keras draws seeds."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002

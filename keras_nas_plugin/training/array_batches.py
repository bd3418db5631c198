"""Arrays as data sets whose batches Keras would make, with less tracing.

For arrays, `keras.Model.fit` converts three functions by AutoGraph and traces them, again in each
`fit`, for the training rows and for the validation rows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.evaluation.datasets import is_structure, map_arrays
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments

if TYPE_CHECKING:
    import tensorflow as tf

#: The rows per batch where `fit` is given none, as in Keras.
_DEFAULT_BATCH_SIZE = 32
# Batches that are gathered at the same time, and that wait for their step. Keras lets tf.data tune
# both, whose thread takes 15 ms to end with each iterator: with each epoch and each validation.
_PARALLEL, _PREFETCHED = 2, 2


def goes_to_model_fit(hypermodel: keras_tuner.HyperModel, model: object) -> bool:
    """Whether a hypermodel passes its arguments to `keras.Model.fit`, and TensorFlow trains.

    A `fit` of a user may expect the arrays that the search was given.

    Args:
        hypermodel: The hypermodel of a search.
        model: A model that it built.
    """
    return (
        keras.backend.backend() == "tensorflow"
        and type(hypermodel).fit is keras_tuner.HyperModel.fit
        and getattr(type(model), "fit", None) is keras.Model.fit
    )


def with_data_sets(
    hypermodel: keras_tuner.HyperModel,
    model: keras.Model,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of `keras.Model.fit` with data sets in place of arrays.

    The batches are those that Keras 3.15 makes, in the same order, also with a random seed. Data
    that are not numbers in numpy arrays, the training rows if classes have weights, data with a
    number of steps, and data of models under a distribution strategy stay as they are.

    Args:
        hypermodel: The hypermodel; with a `fit` of its own it gets the arrays.
        model: The model that is going to be fitted; likewise.
        args: Positional arguments of `fit`.
        kwargs: Keyword arguments of `fit`.
    """
    fit = FitArguments.bind(args, kwargs)
    if not goes_to_model_fit(hypermodel, model) or _distributed(model):
        return fit.to_fit()
    values = fit.values
    batch_size = values.get("batch_size") or _DEFAULT_BATCH_SIZE
    validation = values.get("validation_data")
    if isinstance(validation, tuple | list) and values.get("validation_steps") is None:
        rows = DataSplit.of(validation, "validation_data")
        size = values.get("validation_batch_size") or batch_size
        data = None if rows is None else _batches(rows, size, shuffle=False)
        if data is not None:
            fit = fit.replace(validation_data=data)
    shuffle = values.get("shuffle", True)
    as_given = (
        values.get("class_weight") is not None
        or values.get("steps_per_epoch") is not None
        or fit.validation_split
        or shuffle not in (True, False)
    )
    training = None if as_given or fit.training is None else fit.training
    data = None if training is None else _batches(training, batch_size, shuffle=bool(shuffle))
    if data is None:
        return fit.to_fit()
    others = fit.without("x", "y", "sample_weight", "batch_size", "shuffle")
    return others.args, {**others.kwargs, "x": data, "shuffle": False}


def _distributed(model: keras.Model) -> bool:
    import tensorflow as tf

    return (
        keras.distribution.distribution() is not None
        or tf.distribute.has_strategy()
        or model.distribute_strategy.num_replicas_in_sync > 1
    )


def _batches(split: DataSplit, batch_size: int, *, shuffle: bool) -> tf.data.Dataset | None:
    """The batches of an epoch; None for data that only Keras can convert."""
    import tensorflow as tf

    if split.sample_weight is not None and is_structure(split.y):
        return None  # Keras distributes the weights over several targets
    data = keras.utils.pack_x_y_sample_weight(split.x, split.y, split.sample_weight)
    arrays = keras.tree.flatten(data)
    rows = {len(array) if _numeric(array) else -1 for array in arrays}
    if len(rows) != 1 or min(rows) < 1:
        return None
    (count,) = rows
    with tf.device("CPU"):  # batches go to a GPU one by one
        data = keras.tree.lists_to_tuples(map_arrays(_tensor, data))
        if shuffle:
            batches = _shuffled(data, count, batch_size)
        else:
            slices = tf.data.Dataset.from_tensor_slices(data)
            batches = slices.batch(batch_size, drop_remainder=count % batch_size == 0)
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_external_state_policy = (
            tf.data.experimental.ExternalStatePolicy.IGNORE
        )
        options.autotune.enabled = False
        return batches.with_options(options).prefetch(_PREFETCHED)


def _shuffled(data: Any, count: int, batch_size: int) -> tf.data.Dataset:
    """Batches in the order that Keras draws: the same operations have the same seeds."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def gather(indices: tf.Tensor, arrays: Any) -> Any:
        return keras.tree.map_structure(lambda array: tf.gather(array, indices, axis=0), arrays)

    # The seed of the process is part of the operation that shuffles.
    indices = _shuffled_indices(count, batch_size, tf.compat.v1.random.get_seed(0)[0])
    arrays = tf.data.Dataset.from_tensors(data).repeat()
    return tf.data.Dataset.zip((indices, arrays)).map(gather, num_parallel_calls=_PARALLEL)


@functools.lru_cache(maxsize=16)
def _shuffled_indices(count: int, batch_size: int, seed: int) -> tf.data.Dataset:
    """Row numbers in batches, in another order in each iteration unless there is a seed."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def permutation(_: tf.Tensor) -> tf.Tensor:
        return tf.random.shuffle(tf.range(count, dtype=tf.int64))

    indices = tf.data.Dataset.range(1).map(permutation).prefetch(1).unbatch()
    return indices.batch(batch_size, drop_remainder=count % batch_size == 0)


def _numeric(array: object) -> bool:
    """Whether an array holds numbers, in numpy or as a tensor, with one row or more."""
    import tensorflow as tf

    if isinstance(array, np.ndarray):
        return array.dtype.kind in "biuf" and array.ndim > 0
    return (
        isinstance(array, tf.Tensor)
        and (array.dtype.is_floating or array.dtype.is_integer or array.dtype.is_bool)
        and array.shape.rank is not None
        and array.shape.rank > 0
    )


def _tensor(array: Any) -> tf.Tensor:
    """A tensor, whose floats have the precision of Keras."""
    import tensorflow as tf

    tensor = tf.convert_to_tensor(array)
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype.is_floating else tensor

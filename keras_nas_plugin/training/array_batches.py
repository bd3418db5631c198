"""Arrays as data sets whose batches Keras would make, with less work around the steps.

For arrays, `keras.Model.fit` converts three functions by AutoGraph and traces them, again in each
`fit`, for the training rows and for the validation rows, and TensorFlow prepares them again for
each epoch.
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
# Data up to these sizes are shuffled without a function, which may copy them: rows times arrays,
# where they are drawn one by one, and bytes.
_FEW_ROWS, _FEW_BYTES = 20_000, 1 << 26
# The seed that TensorFlow takes for the process where none is set.
_NO_SEED = 87654321


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

    With a random seed of the process, or in the order of the rows, the batches are those that
    Keras 3.15 makes; without a seed, they are as random. Data that are not numbers in arrays or
    tensors, the training rows if classes have weights, data with a number of steps, and data of
    models under a distribution strategy stay as they are.

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
        batches = (_shuffled if shuffle else _in_order)(data, count, batch_size)
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_external_state_policy = (
            tf.data.experimental.ExternalStatePolicy.IGNORE
        )
        options.autotune.enabled = False
        return batches.with_options(options).prefetch(_PREFETCHED)


def _in_order(data: Any, count: int, batch_size: int) -> tf.data.Dataset:
    """Batches in the order of the rows; only the last one is put together row by row."""
    import tensorflow as tf

    full = count // batch_size

    def batched(array: tf.Tensor) -> tf.Tensor:
        return tf.reshape(array[: full * batch_size], (full, batch_size, *array.shape[1:]))

    batches = tf.data.Dataset.from_tensor_slices(keras.tree.map_structure(batched, data))
    if count % batch_size == 0:
        return batches
    rest = keras.tree.map_structure(lambda array: array[full * batch_size :], data)
    last = tf.data.Dataset.from_tensor_slices(rest).batch(batch_size)
    return batches.concatenate(last) if full else last


def _shuffled(data: Any, count: int, batch_size: int) -> tf.data.Dataset:
    """Batches in a random order; with a seed of the process, in the order that Keras draws.

    Each function of a data set takes 10 ms to prepare with each iterator, and Keras makes two of
    them in each epoch. Small data need no function: without a seed, rows are drawn one by one, and
    with a seed, Keras draws the same order in each epoch, since its operation starts again.
    """
    import tensorflow as tf

    arrays = keras.tree.flatten(data)
    seed = tf.compat.v1.random.get_seed(0)[0]
    size = sum(array.shape.num_elements() * array.dtype.size for array in arrays)
    if seed == _NO_SEED and size <= _FEW_BYTES and count * len(arrays) <= _FEW_ROWS:
        rows = tf.data.Dataset.from_tensor_slices(data).shuffle(count)
        return rows.batch(batch_size, drop_remainder=count % batch_size == 0)
    if seed != _NO_SEED and size <= _FEW_BYTES:
        order = tf.concat(list(_shuffled_indices(count, batch_size, seed)), axis=0)
        return _in_order(_gather(order, data), count, batch_size)
    indices = _shuffled_indices(count, batch_size, seed)
    repeated = tf.data.Dataset.from_tensors(data).repeat()
    gather = tf.autograph.experimental.do_not_convert(_gather)
    return tf.data.Dataset.zip((indices, repeated)).map(gather, num_parallel_calls=_PARALLEL)


def _gather(indices: tf.Tensor, data: Any) -> Any:
    import tensorflow as tf

    return keras.tree.map_structure(lambda array: tf.gather(array, indices, axis=0), data)


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

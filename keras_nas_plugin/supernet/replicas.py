"""Batches of a model that a `tf.distribute.Strategy` trains on several devices."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def replica_count(model: keras.Model) -> int:
    """Number of replicas of a model; 1 without a strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return int(getattr(strategy, "num_replicas_in_sync", 1))


def split_rows(model: keras.Model, batch: Any) -> Any:
    """Give each replica of a model its part of a batch.

    `keras.Model.train_on_batch` gives each replica the whole batch, so that all of them compute
    the same.

    Args:
        model: A model that was built in the scope of a strategy.
        batch: Arrays with equally many rows, nested; None stays None.

    Returns:
        The same structure of values by replica. The batch itself, if its rows cannot be divided
        among the replicas: the result of a step is the same.
    """
    import tensorflow as tf

    strategy: Any = model.distribute_strategy
    count = replica_count(model)
    first = next(part for part in keras.tree.flatten(batch) if part is not None)
    if len(first) % count:
        return batch

    def split(rows: Any) -> Any:
        if rows is None:
            return None
        parts = np.split(np.asarray(rows), count)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
        )

    return keras.tree.map_structure(split, batch)

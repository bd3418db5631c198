"""Pickles what workers train with: tuner, hypermodel and the arguments of `fit`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import numpy as np

from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

# Arrays from this size are stored where all workers map them, instead of in the pickle.
_LEAST_BYTES = 65_536

#: A function and its arguments: how an object is created in a worker.
Recipe = tuple[Any, tuple[Any, ...]]
#: Stores an array for the workers, and returns how they get it.
StoreArray = Callable[[np.ndarray], Recipe]


def nothing() -> None:
    """What workers have in place of an object of the driver."""


class _Pickler(cloudpickle.CloudPickler):
    """Pickles by value what workers cannot import, and stores arrays.

    Args:
        file: Receives the pickle.
        store: Stores an array, and returns how a worker gets it.
        replaced: What to create in a worker instead of an object, by the object's `id`.
    """

    def __init__(self, file: Any, store: StoreArray, replaced: Mapping[int, Recipe]) -> None:
        super().__init__(file)
        self._store = store
        self._replaced = replaced

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        recipe = self._replaced.get(id(obj))
        if recipe is not None:
            return recipe
        if type(obj) is np.ndarray and obj.nbytes >= _LEAST_BYTES and not obj.dtype.hasobject:
            return self._store(obj)
        return super().reducer_override(obj)


def pickled(
    train: object,
    fit: FitArguments,
    context: SearchContext,
    replaced: Mapping[int, Recipe],
    store: StoreArray,
) -> bytes:
    """Pickle everything that workers need.

    Args:
        train: The trainer of the tuner.
        fit: What `search` was called with.
        context: The search.
        replaced: What to create in a worker instead of an object, by the object's `id`.
        store: Stores a large array, and returns how a worker gets it.

    Raises:
        WorkerError: Something cannot be pickled; the message names it.
    """

    def dumped(content: object) -> bytes:
        buffer = io.BytesIO()
        _Pickler(buffer, store, replaced).dump(content)
        return buffer.getvalue()

    content = {
        "trainer": train,
        "fit": fit,
        "oracle": context.oracle,
        "budget": context.budget,
        "precision": context.precision,
        "deterministic": context.deterministic,
    }
    try:
        return dumped(content)
    except WorkerError:
        raise
    except Exception as error:
        named = {**fit.values, "hypermodel": context.hypermodel}
        for name, value in named.items():
            try:
                dumped(value)
            except Exception as reason:
                raise WorkerError(_refusal(name, value, reason)) from reason
        raise WorkerError(_refusal("tuner", train, error)) from error


def _refusal(name: str, value: object, error: Exception) -> str:
    advice = "Pass arrays, or a `DataFunction`, which makes the data in each worker."
    if name in ("hypermodel", "tuner"):
        advice = "Create what cannot be pickled inside `build` or `fit`."
    return (
        f"`{name}` must be something that can be pickled for worker processes; got a "
        f"{type(value).__name__} ({type(error).__name__}: {error}). {advice}"
    )

"""Writes what workers train with to files: tuner, hypermodel and the arguments of `fit`."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

# Arrays from this size are files that all workers map, instead of a part of the pickle.
_LEAST_BYTES = 65_536

#: A function and its arguments: how an object is created in a worker.
Recipe = tuple[Any, tuple[Any, ...]]


def open_array(path: str) -> np.ndarray:
    """Map an array from its file; pages are copied when they are written to."""
    return np.load(path, mmap_mode="c").view(np.ndarray)


def nothing() -> None:
    """What workers have in place of an object of the driver."""


class _Pickler(cloudpickle.CloudPickler):
    """Pickles by value what workers cannot import, and writes arrays to files.

    Args:
        file: Receives the pickle.
        folder: Folder of the files.
        replaced: What to create in a worker instead of an object, by the object's `id`.
    """

    def __init__(self, file: Any, folder: Path, replaced: Mapping[int, Recipe]) -> None:
        super().__init__(file)
        self._folder = folder
        self._replaced = replaced

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler.reducer_override`."""
        recipe = self._replaced.get(id(obj))
        if recipe is not None:
            return recipe
        if type(obj) is np.ndarray and obj.nbytes >= _LEAST_BYTES and not obj.dtype.hasobject:
            path = self._folder / f"array-{len(list(self._folder.iterdir()))}.npy"
            np.save(path, obj, allow_pickle=False)
            return open_array, (str(path),)
        return super().reducer_override(obj)


def ship(
    train: object,
    fit: FitArguments,
    context: SearchContext,
    replaced: Mapping[int, Recipe],
    folder: Path,
) -> Path:
    """Write everything that workers need to a folder.

    Args:
        train: The trainer of the tuner.
        fit: What `search` was called with.
        context: The search.
        replaced: What to create in a worker instead of an object, by the object's `id`.
        folder: An empty folder.

    Returns:
        The file that a worker reads.

    Raises:
        WorkerError: Something cannot be pickled; the message names it.
    """

    def dumped(content: object) -> bytes:
        buffer = io.BytesIO()
        _Pickler(buffer, folder, replaced).dump(content)
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
        pickled = dumped(content)
    except Exception as error:
        named = {**fit.values, "hypermodel": context.hypermodel}
        for name, value in named.items():
            try:
                dumped(value)
            except Exception as reason:
                raise WorkerError(_refusal(name, value, reason)) from reason
        raise WorkerError(_refusal("tuner", train, error)) from error
    path = folder / "worker.pickle"
    path.write_bytes(cloudpickle.dumps(list(sys.path)) + pickled)
    return path


def _refusal(name: str, value: object, error: Exception) -> str:
    advice = "Pass arrays, or create the data in a `HyperModel.fit`."
    if name in ("hypermodel", "tuner"):
        advice = "Create what cannot be pickled inside `build` or `fit`."
    return (
        f"`{name}` must be something that can be pickled for worker processes; got a "
        f"{type(value).__name__} ({type(error).__name__}: {error}). {advice}"
    )

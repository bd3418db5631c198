"""Memory between trials: what a search holds, and how a trial lets go of it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def search_session() -> Iterator[None]:
    """Keep everything imported so far out of the garbage collector's way.

    A collection walks every tracked object: after importing TensorFlow there are about a
    million that never become garbage. Frozen ones are skipped, and thawed at the end.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def clear() -> None:
    """Forget the models of earlier trials."""
    keras.backend.clear_session(free_memory=False)
    gc.collect()

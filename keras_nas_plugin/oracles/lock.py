"""One lock per oracle that cannot stay held."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


class OracleLock:
    """A reentrant lock, released on every way out, that copies as a fresh one.

    KerasTuner 1.4.8's `synchronized` keeps the lock after an exception, so that every
    other worker waits for ever. Callbacks that hold a tuner are deep-copied for each
    trial; a plain `threading.RLock` cannot be.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: Any) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type, tuple]:
        return OracleLock, ()


def synchronized(method: Callable) -> Callable:
    """Run a method under its object's `lock`, which no exception leaves held."""

    @functools.wraps(method)
    def locked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked

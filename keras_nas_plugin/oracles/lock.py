"""The lock of an oracle, which is released even after an exception."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class OracleLock:
    """A reentrant lock that is always released, and that can be deep-copied.

    KerasTuner 1.4.8's `synchronized` does not release the lock after an exception, so that all
    other workers wait forever. Callbacks that hold a tuner are deep-copied for each trial, which
    a `threading.RLock` does not support; a copy of this lock is a new, free lock.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[OracleLock], tuple[()]]:
        return OracleLock, ()


class _Locked(Protocol):
    lock: OracleLock


_Object = TypeVar("_Object", bound=_Locked)


def synchronized(
    method: Callable[Concatenate[_Object, _Parameters], _Result],
) -> Callable[Concatenate[_Object, _Parameters], _Result]:
    """Decorate a method to run while holding the ``lock`` of its object."""

    @functools.wraps(method)
    def locked(self: Any, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked

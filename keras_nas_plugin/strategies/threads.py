"""Linear algebra on a single thread: small matrices do not benefit from more."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threadpoolctl  # type: ignore[import-untyped]  # it ships no types

# The number of threads belongs to the whole process: two searches that lowered and restored
# it at the same time could leave it low permanently.
_LOCK = threading.Lock()


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
    """The BLAS libraries of numpy and scipy; finding them takes milliseconds."""
    import threadpoolctl
    from scipy import linalg

    # numpy and scipy each ship their own library, which is found only after it has been loaded.
    linalg.cholesky([[1.0]])
    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside the block.

    Products of a few hundred rows finish before threads have started, and where other
    processes share the cores, waiting for the threads takes ten times as long as the
    computation. It also makes results independent of the number of cores, to the last bit.
    """
    with _LOCK, _libraries().limit(limits=1, user_api="blas"):
        yield

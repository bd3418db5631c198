"""Linear algebra on one thread: small matrices gain nothing from more."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

# The number of threads belongs to the whole process: two searches that lowered and restored
# it at the same time could leave it low for good.
_LOCK = threading.Lock()


@functools.cache
def _libraries() -> Any:
    """Those that numpy and scipy bring along; to look for them takes milliseconds."""
    import threadpoolctl
    from scipy import linalg

    # Each brings its own, which is found only after it was loaded.
    linalg.cholesky([[1.0]])
    return threadpoolctl.ThreadpoolController()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside the block.

    Matrices of a few hundred rows are done before threads have started, and where other
    processes share the cores, waiting for one's own threads takes ten times as long as
    the work. The last bits of a result then depend on the number of cores no more.
    """
    with _LOCK, _libraries().limit(limits=1, user_api="blas"):
        yield

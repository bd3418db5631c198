"""A background thread for requests, so that training never waits for a store."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

logger = logging.getLogger("keras_nas_plugin")

_T = TypeVar("_T")
_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class BackgroundWorker:
    """Runs jobs in the order of their submission, in a thread that starts with the first job.

    The thread is a daemon: a program that ends without `close` does not wait for it, and what
    was not sent stays in the outbox.

    Args:
        idle: Called in that thread while no job waits. It returns after how many seconds to call
            it again; None for after the next job.
    """

    def __init__(self, idle: Callable[[], float | None]) -> None:
        self._idle = idle
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._fatal: BaseException | None = None

    def submit(self, call: Callable[..., _T], *args: Any) -> Future[_T]:
        """Run ``call(*args)`` in the thread.

        Returns:
            Its future, which can be cancelled until the call runs.
        """
        future: Future[_T] = Future()
        if self._fatal is not None:
            future.set_exception(self._fatal)
            return future
        if not self._accepts_jobs():
            self._thread = threading.Thread(target=self._work, name="nas-tracking", daemon=True)
            self._thread.start()
        self._jobs.put((future, call, args))
        return future

    def call(self, call: Callable[..., _T], *args: Any) -> _T:
        """Run ``call(*args)`` after all submitted jobs, and wait for its result.

        If the thread is not running, the calling thread runs it.
        """
        if self._fatal is None and not self._accepts_jobs():
            return call(*args)
        return self.submit(call, *args).result()

    def close(self) -> None:
        """Wait for all submitted jobs, and end the thread."""
        if self._thread is None:
            return
        if not self._ending:
            self._ending = True
            self._jobs.put(None)
        self._thread.join()
        self._thread, self._ending = None, False

    def _accepts_jobs(self) -> bool:
        """Whether the thread runs; it does not in a forked child, which has no such thread."""
        if self._ending:
            self.close()  # waiting for its end was interrupted
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        due: float | None = None
        while True:
            try:
                timeout = None if due is None else max(0.0, due - time.monotonic())
                job = self._jobs.get(timeout=timeout)
            except queue.Empty:
                due = self._run_idle()
                continue
            if job is None:
                return
            self._fatal = _run(*job)
            if self._fatal is not None:
                self._fail_waiting_jobs(self._fatal)
                return
            # Also after a job, so that a queue that never empties does not starve the idle work.
            if due is None or due <= time.monotonic():
                due = self._run_idle()

    def _fail_waiting_jobs(self, error: BaseException) -> None:
        """Set the error on all waiting jobs, which will never run."""
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None and job[0].set_running_or_notify_cancel():
                job[0].set_exception(error)

    def _run_idle(self) -> float | None:
        """Do the idle work; returns the time at which it is due again, or None."""
        try:
            seconds = self._idle()
        except Exception:  # an error here must not end the thread
            logger.exception("Tracking failed between two trials")
            return None
        return None if seconds is None else time.monotonic() + seconds


def _run(
    future: Future[Any], call: Callable[..., Any], args: tuple[Any, ...]
) -> BaseException | None:
    """Run a job; returns what it raised if the thread has to end because of it."""
    if not future.set_running_or_notify_cancel():
        return None
    try:
        future.set_result(call(*args))
    except Exception as error:  # raised again where the result is asked for
        name = getattr(call, "__name__", repr(call))
        logger.warning("Tracking failed on `%s`: %s", name, error)
        logger.debug("Details", exc_info=error)
        future.set_exception(error)
    except BaseException as error:
        future.set_exception(error)
        return error
    return None

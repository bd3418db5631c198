"""One thread that sends, so that the thread that trains never waits for a store."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_log = logging.getLogger("keras_nas_plugin")

_Job = tuple[Future, Callable[..., Any], tuple[Any, ...]]


class Sender:
    """Runs jobs in the order in which they came, in a thread that starts with the first.

    The thread is a daemon: a program that ends without `close` does not wait for it, and what
    it had not sent yet lies in the outbox.

    Args:
        idle: Called in that thread while no job waits. It returns the seconds after which it
            wants to be called again, or None if the next job is early enough.
    """

    def __init__(self, idle: Callable[[], float | None]) -> None:
        self._idle = idle
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._fatal: BaseException | None = None

    def submit(self, call: Callable[..., Any], *args: Any) -> Future:
        """Have ``call(*args)`` run; its future, whose `cancel` works until it has begun."""
        future: Future = Future()
        if self._fatal is not None:
            future.set_exception(self._fatal)
            return future
        if not self._runs():
            self._thread = threading.Thread(target=self._work, name="nas-tracking", daemon=True)
            self._thread.start()
        self._jobs.put((future, call, args))
        return future

    def call(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run ``call(*args)`` after all that was submitted; what it returns or raises.

        Once the thread has ended, or while it has not begun, that is done right here.
        """
        if self._fatal is None and not self._runs():
            return call(*args)
        return self.submit(call, *args).result()

    def close(self) -> None:
        """Wait until all that was submitted is done, and end the thread."""
        if self._thread is None:
            return
        if not self._ending:
            self._ending = True
            self._jobs.put(None)
        self._thread.join()
        self._thread, self._ending = None, False

    def _runs(self) -> bool:
        """Whether there is a thread that takes a job: not in a forked child, which has none."""
        if self._ending:
            self.close()  # a wait for its end was interrupted
        return self._thread is not None and self._thread.is_alive()

    def _work(self) -> None:
        due: float | None = None
        while True:
            try:
                wait = None if due is None else max(0.0, due - time.monotonic())
                job = self._jobs.get(timeout=wait)
            except queue.Empty:
                due = self._due()
                continue
            if job is None:
                return
            self._fatal = _run(*job)
            if self._fatal is not None:
                self._give_up()
                return
            # Not before each job: a queue that never empties must not starve what is idle work.
            if due is None or due <= time.monotonic():
                due = self._due()

    def _give_up(self) -> None:
        """Nobody waits for jobs that nobody will do."""
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None and job[0].set_running_or_notify_cancel():
                job[0].set_exception(self._fatal)

    def _due(self) -> float | None:
        try:
            seconds = self._idle()
        except Exception:  # a fault here must not end the thread
            _log.exception("Tracking failed between two trials")
            return None
        return None if seconds is None else time.monotonic() + seconds


def _run(future: Future, call: Callable[..., Any], args: tuple[Any, ...]) -> BaseException | None:
    """Do a job; what it ended with, if that is something that no thread goes on after."""
    if not future.set_running_or_notify_cancel():
        return None
    try:
        future.set_result(call(*args))
    except Exception as error:  # it reaches whoever asks for the result
        _log.warning("Tracking could not take `%s`: %s", call.__name__, error)
        _log.debug("Details", exc_info=error)
        future.set_exception(error)
    except BaseException as error:
        future.set_exception(error)
        return error
    return None

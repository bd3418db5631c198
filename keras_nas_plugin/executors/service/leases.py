"""Leases of workers: which workers of a search are alive."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from keras_nas_plugin.errors import ArgumentError

#: Environment variable of the seconds that a lease lasts; the same in the chief and its workers.
LEASE_VARIABLE = "KERAS_NAS_LEASE_SECONDS"
_DEFAULT_SECONDS = 60.0

# Renewals per lease, so that several may be lost.
RENEWALS = 12


def lease_seconds() -> float:
    """Seconds that a lease lasts.

    Raises:
        ArgumentError: The environment variable is not a positive number.
    """
    text = os.environ.get(LEASE_VARIABLE)
    if not text:
        return _DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentError(
            f"`{LEASE_VARIABLE}` must be a positive number of seconds; got {text!r}"
        )
    return seconds


class Leases:
    """The leases that workers hold on a search, and renew while they live.

    Args:
        seconds: How long a lease lasts after its last renewal.
        clock: Returns the time in seconds; it must not go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()
        self._checked = clock()

    def renew(self, worker: str) -> None:
        """Grant a worker a lease, or renew it."""
        with self._lock:
            self._ends[worker] = self._clock() + self.seconds

    def end(self, worker: str) -> None:
        """End the lease of a worker that leaves."""
        with self._lock:
            self._ends.pop(worker, None)

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers that hold a lease, in the order in which they came."""
        with self._lock:
            return tuple(self._ends)

    def take_expired(self) -> list[str]:
        """Remove the leases that have run out.

        Where this method was not called for half a lease, this process was suspended and could
        not receive renewals. No lease runs out then, and all last as if just renewed.

        Returns:
            The workers that held them.
        """
        with self._lock:
            now, before = self._clock(), self._checked
            self._checked = now
            if now - before > self.seconds / 2:
                self._ends = dict.fromkeys(self._ends, now + self.seconds)
            expired = [worker for worker, end in self._ends.items() if end <= now]
            for worker in expired:
                del self._ends[worker]
            return expired

"""Whether a store answers, and what to do when it stops to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking import connection

# While the store does not answer, it is asked this often.
REPROBE_SECONDS = 5.0

_log = logging.getLogger("keras_nas_plugin")

_T = TypeVar("_T")


class Link:
    """The way to a store, which may be cut off at any moment.

    Args:
        uri: The store.
        waiting_in: Where people find what waits for it.
        opening: Opens the store, the first time that it answers; given the seconds that it may
            wait for a sign of life.
    """

    def __init__(self, uri: str, waiting_in: Path, opening: Callable[[float], None]) -> None:
        self.online = False
        #: Whether a call was lost that may have been heard nevertheless.
        self.unsure = False
        self._uri = uri
        self._waiting_in = waiting_in
        self._opening = opening
        self._opened = False
        self._warned = False
        self._reasons: set[str] = set()
        self._asked = float("-inf")

    @property
    def seconds_to_reprobe(self) -> float:
        """Seconds until the store is to be asked again."""
        return self._asked + REPROBE_SECONDS - time.monotonic()

    def connect(self) -> None:
        """Go online if the store answers.

        Raises:
            TrackingError: The store cannot be used as configured.
        """
        if self._opened:
            self.online = connection.answers(self._uri)
        else:
            try:
                with connection.bounded_requests():
                    self._opening(connection.PROBE_SECONDS)
                self._opened = self.online = True
            except connection.UnreachableError as error:
                self.lose(error)
            except TrackingError:
                raise
            except Exception as error:  # stores raise whatever their library raises
                if not connection.lost(error):
                    raise connection.unusable(self._uri, error) from error
                self.lose(error)
        self._asked = time.monotonic()
        if self.online and self._warned:
            self._warned = False
            _log.info("MLflow at %s answers again.", connection.public_uri(self._uri))

    def reconnect(self, *, now: bool = False) -> None:
        """Try again, if it is time to, or ``now``; a refusal is logged."""
        if self.online or (not now and self.seconds_to_reprobe > 0):
            return
        try:
            self.connect()
        except TrackingError as error:
            self._asked = time.monotonic()
            _log.warning("%s", error)

    def attempt(self, what: str, call: Callable[..., _T], *args: Any) -> _T | None:
        """Call the store; None, and a line in the log, when that fails."""
        try:
            with connection.bounded_requests():
                return call(*args)
        except Exception as error:  # stores raise whatever their library raises
            if connection.lost(error):
                self.lose(error)
            else:
                self._refused(what, error)
            return None

    def _refused(self, what: str, error: Exception) -> None:
        """Say what the store does not take; of the same reason, once."""
        reason = connection.first_line(error)
        level = logging.DEBUG if reason in self._reasons else logging.WARNING
        self._reasons.add(reason)
        _log.log(level, "MLflow refused %s: %s", what, reason)

    def lose(self, error: Exception) -> None:
        """Go offline; the first time, say so."""
        self.online = False
        self.unsure = True
        self._asked = time.monotonic()
        _log.debug("The tracking store failed.", exc_info=error)
        if self._warned:
            return
        self._warned = True
        _log.warning(
            "MLflow at %s does not answer. The search goes on; its trials wait in %s and are "
            "sent as soon as it does. Start the server, or check `tracking_uri`. (%s)",
            connection.public_uri(self._uri),
            self._waiting_in,
            connection.first_line(error),
        )

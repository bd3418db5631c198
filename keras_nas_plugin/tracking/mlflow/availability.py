"""Tracks whether a store answers, and handles its failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking.mlflow import client as connection

# A store that does not answer is tried again after this time.
PROBE_INTERVAL_SECONDS = 5.0

logger = logging.getLogger("keras_nas_plugin")

_T = TypeVar("_T")
_P = ParamSpec("_P")


class StoreAvailability:
    """Tracks whether a store answers, which may change at any moment.

    Args:
        uri: The store.
        outbox: The folder with the trials that wait for the store; named in the log.
        open_store: Opens the store when it answers for the first time. Its argument is how many
            seconds to wait for an answer.

    Attributes:
        online: Whether the last call was answered.
        uncertain: Whether the answer to a call was lost, so that the store may have carried it
            out nevertheless.
    """

    def __init__(self, uri: str, outbox: Path, open_store: Callable[[float], None]) -> None:
        self.online = False
        self.uncertain = False
        self._uri = uri
        self._outbox = outbox
        self._open_store = open_store
        self._opened = False
        self._warned = False
        self._logged_reasons: set[str] = set()
        self._probed = float("-inf")

    @property
    def seconds_to_probe(self) -> float:
        """Seconds until the store is to be tried again."""
        return self._probed + PROBE_INTERVAL_SECONDS - time.monotonic()

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
                    self._open_store(connection.PROBE_SECONDS)
                self._opened = self.online = True
            except connection.UnreachableError as error:
                self._go_offline(error)
            except TrackingError:
                raise
            except Exception as error:  # stores raise whatever their library raises
                if not connection.is_outage(error):
                    raise connection.unusable(self._uri, error) from error
                self._go_offline(error)
        self._probed = time.monotonic()
        if self.online and self._warned:
            self._warned = False
            logger.info("MLflow at %s answers again.", connection.public_uri(self._uri))

    def reconnect(self, *, now: bool = False) -> None:
        """Try an offline store again, unless it was tried recently; an error is logged.

        Args:
            now: Whether to try again regardless of the last attempt.
        """
        if self.online or (not now and self.seconds_to_probe > 0):
            return
        try:
            self.connect()
        except TrackingError as error:
            self._probed = time.monotonic()
            logger.warning("%s", error)

    def attempt(
        self, what: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T | None:
        """Call the store; log a failure instead of raising it.

        Args:
            what: Description of the call, for the log.
            call: The function to call.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The function's result; None if it failed.
        """
        try:
            with connection.bounded_requests():
                return call(*args, **kwargs)
        except Exception as error:  # stores raise whatever their library raises
            if connection.is_outage(error):
                self._go_offline(error)
            else:
                self._log_rejection(what, error)
            return None

    def _log_rejection(self, what: str, error: Exception) -> None:
        """Log what the store rejects; a repeated reason only at debug level."""
        reason = connection.first_line(error)
        level = logging.DEBUG if reason in self._logged_reasons else logging.WARNING
        self._logged_reasons.add(reason)
        logger.log(level, "MLflow rejected %s: %s", what, reason)

    def _go_offline(self, error: Exception) -> None:
        """Go offline, with one warning per outage."""
        self.online = False
        self.uncertain = True
        self._probed = time.monotonic()
        logger.debug("The tracking store failed.", exc_info=error)
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "MLflow at %s does not answer. The search continues; its trials are kept in %s and "
            "sent as soon as it answers. Start the server, or check `tracking_uri`. (%s)",
            connection.public_uri(self._uri),
            self._outbox,
            connection.first_line(error),
        )

"""Signals, exit codes and logging of commands that train."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_INTERRUPTED, _TERMINATED = 130, 143


def exit_code(signals: list[int]) -> int:
    """The exit code of a program that was ended by these signals."""
    return _TERMINATED if signal.SIGTERM in signals else _INTERRUPTED


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Interrupt the program on SIGINT and SIGTERM; yields the list of received signals."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    previous = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def set_up_logging() -> None:
    """Print the log messages of the package on standard error."""
    logger = logging.getLogger("keras_nas_plugin")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO)

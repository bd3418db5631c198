"""How a command that trains runs: signals, exit codes, messages."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from typing import Any

_INTERRUPTED, _TERMINATED = 130, 143


def exit_code(signals: list[int]) -> int:
    """The exit code of a program that these signals ended."""
    return _TERMINATED if signal.SIGTERM in signals else _INTERRUPTED


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Interrupt the program on SIGINT and SIGTERM; yields the signals that came."""
    received: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    former = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for kind, handler in former.items():
            signal.signal(kind, handler)


def set_up_logging() -> None:
    """Show what the package has to say, on standard error."""
    logger = logging.getLogger("keras_nas_plugin")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO)

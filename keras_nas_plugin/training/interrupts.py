"""Interrupts that reach a search as another error, or not at all."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from keras_nas_plugin.tracking.base import Tracker

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Signals whose handler has raised `KeyboardInterrupt` since the search began.
_interrupts: list[int] = []


@contextlib.contextmanager
def noted_interrupts() -> Iterator[None]:
    """Note each signal whose handler raises `KeyboardInterrupt`, in the main thread.

    A handler raises wherever the program is. Where that is a bare ``except`` of TensorFlow or
    Keras, another error takes the interrupt's place; in a destructor or in the callback of a weak
    reference, Python discards it. `Interrupter` and `interrupt_behind` then know of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signal handlers
        return
    _interrupts.clear()
    installed = {}
    for number in _SIGNALS:
        previous = signal.getsignal(number)
        if callable(previous):  # neither ignored nor the system's default
            installed[number] = (previous, _noting(previous))
            signal.signal(number, installed[number][1])
    try:
        yield
    finally:
        for number, (previous, noting) in installed.items():
            if signal.getsignal(number) is noting:
                signal.signal(number, previous)
        _interrupts.clear()


def _noting(
    handler: Callable[[int, FrameType | None], object],
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except KeyboardInterrupt:
            _interrupts.append(number)
            raise

    return handle


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt whose place an error has taken.

    Args:
        error: What was raised, or None.

    Returns:
        An interrupt if there was one and ``error`` is an `Exception`; None otherwise.
    """
    if not _interrupts or not isinstance(error, Exception):
        return None
    interrupt = KeyboardInterrupt()
    interrupt.__cause__ = error
    return interrupt


class Interrupter(Tracker):
    """Raises at the next trial or epoch an interrupt that was lost."""

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._check()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._check()

    def _check(self) -> None:
        if _interrupts:
            raise KeyboardInterrupt

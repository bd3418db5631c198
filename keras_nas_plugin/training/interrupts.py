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
    reference, Python discards it. `Interrupter` and `interrupt_behind` then know of it; where a
    trial runs another search, until the outer search ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has signal handlers
        return
    installed: dict[signal.Signals, _NotingHandler] = {}
    for number in _SIGNALS:
        previous = signal.getsignal(number)
        # Neither ignored, nor the system's default, nor that of an outer search.
        if callable(previous) and not isinstance(previous, _NotingHandler):
            installed[number] = _NotingHandler(previous)
            signal.signal(number, installed[number])
    try:
        yield
    finally:
        for number, noting in installed.items():
            replaced = noting.handler
            if signal.getsignal(number) is noting:
                signal.signal(number, replaced)
        if installed:
            _interrupts.clear()


class _NotingHandler:
    """A signal handler that notes when the one that it replaces raises `KeyboardInterrupt`."""

    def __init__(self, handler: Callable[[int, FrameType | None], object]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            self.handler(number, frame)
        except KeyboardInterrupt:
            _interrupts.append(number)
            raise


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


@contextlib.contextmanager
def preserved_interrupts() -> Iterator[None]:
    """Note interrupts, and raise `KeyboardInterrupt` for an error that took the place of one.

    For trainings outside of a `SearchSession`, which does both.
    """
    with noted_interrupts():
        try:
            yield
        except Exception as error:
            interrupt = interrupt_behind(error)
            if interrupt is None:
                raise
            raise interrupt from error


def raise_noted() -> None:
    """Raise an interrupt that was lost.

    Raises:
        KeyboardInterrupt: There was one.
    """
    if _interrupts:
        raise KeyboardInterrupt


class Interrupter(Tracker):
    """Raises at the next trial or epoch an interrupt that was lost."""

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        raise_noted()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        raise_noted()

"""What a search records beside its training: an error in it becomes one warning."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

logger = logging.getLogger("keras_nas_plugin")

T = TypeVar("T")

# Colours of a terminal, and TensorFlow's names of nodes.
_MARKUP = re.compile(r"\x1b\[\d*m|\{\{(?:function_)?node [^}]*\}\} ?")
_CALLING = "Exception encountered when calling"


class Bookkeeping:
    """Protects trials from errors in what is only recorded about them.

    Costs, descriptions of data, pictures and summaries have no influence on training. Whatever
    determining one of them raises is reported in one warning for each kind and search, and the
    search continues without it.
    """

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def restart(self) -> None:
        """Report each kind again: a new search starts."""
        self._reported.clear()

    def report(self, kind: str, error: BaseException) -> None:
        """Warn of an error, unless one of its kind was reported since the search started.

        Args:
            kind: What is missing because of the error, as a clause: "`flops` is left out".
            error: The error.
        """
        logger.debug("%s: details", kind, exc_info=error)
        if kind in self._reported:
            return
        self._reported.add(kind)
        logger.warning(
            "%s: %s. Training is not affected; further trials do not report this again.",
            kind,
            error_line(error).removesuffix("."),
        )

    @contextlib.contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """Report whatever the block raises; interrupts are raised.

        Args:
            kind: See `report`.
        """
        try:
            yield
        except Exception as error:
            self.report(kind, error)

    def value(self, kind: str, function: Callable[[], T], default: T) -> T:
        """What a function returns, or a default if it raises an error, which is reported.

        Args:
            kind: See `report`.
            function: Called without arguments.
            default: Returned after an error.
        """
        with self.step(kind):
            return function()
        return default


def error_line(error: BaseException) -> str:
    r"""Type and first line of an exception, as the last line of a traceback shows it.

    Keras says in its first line only which layer was called, and TensorFlow begins with the name
    of a node: the line that says what is wrong is used.

    >>> error_line(ValueError("Exception encountered when calling A.call().\n\ntoo big\n\nx"))
    'ValueError: Exception encountered when calling A.call(). too big'
    """
    lines = [line.strip() for line in _MARKUP.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if lines[0].startswith(_CALLING):
        lines[0] = " ".join(lines[:2])
    return f"{type(error).__name__}: {lines[0]}"

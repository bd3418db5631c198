"""Drops the notes that TensorFlow writes to standard error when it is imported.

TensorFlow (2.21) writes two of them before it reads any of its settings, so that
``TF_CPP_MIN_LOG_LEVEL`` has no effect on them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator

_NOTES = re.compile(
    rb"oneDNN custom operations are on"
    rb"|All log messages before absl::InitializeLog\(\) is called"
    rb"|This TensorFlow binary is optimized to use available CPU instructions"
    rb"|^To enable the following instructions: .* rebuild TensorFlow"
)
# The last line that is written to a filter.
_END = b"\0end of the filter\n"
_STDERR = 2


def is_note(line: str) -> bool:
    """Whether a line of another process is one of TensorFlow's notes, and notes are not wanted.

    Notes are wanted if ``TF_CPP_MIN_LOG_LEVEL`` is ``"0"``.
    """
    return os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0" and bool(_NOTES.search(line.encode()))


@contextlib.contextmanager
def tensorflow_start() -> Iterator[None]:
    """Drop the notes of an import of TensorFlow within this block; any other output is kept.

    A child process filters the lines, so that an error that ends this process is still shown.
    Nothing is filtered if TensorFlow is loaded already, if this process has threads, with which
    it must not fork, or if ``TF_CPP_MIN_LOG_LEVEL`` is ``"0"``.

    ``TF_CPP_MIN_LOG_LEVEL`` is set to 1 where it is not set, which switches off TensorFlow's later
    notes, but neither warnings nor errors.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if level == "0" or not hasattr(os, "fork") or threading.active_count() > 1:
        yield
        return
    with _filtered_stderr():
        yield


@contextlib.contextmanager
def _filtered_stderr() -> Iterator[None]:
    try:
        sys.stderr.flush()
        terminal = os.dup(_STDERR)
    except (OSError, AttributeError, ValueError):  # closed, or replaced
        yield
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(writing)
            _forward(reading, terminal)
        finally:
            os._exit(0)
    os.close(reading)
    os.dup2(writing, _STDERR)
    os.close(writing)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            sys.stderr.flush()
        with contextlib.suppress(OSError):  # the child has been killed
            os.write(_STDERR, _END)
        os.dup2(terminal, _STDERR)
        os.close(terminal)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


def _forward(reading: int, terminal: int) -> None:
    """Copy lines that are no notes, up to the last line or the end of the file."""
    rest = b""
    while True:
        chunk = os.read(reading, 65536)
        *lines, rest = (rest + chunk).splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n") or not chunk:
            lines, rest = [*lines, rest], b""
        for line in lines:
            if line.endswith(_END):
                os.write(terminal, line[: -len(_END)])
                return
            if not _NOTES.search(line):
                os.write(terminal, line)
        if not chunk:
            return

"""Atomic writes, JSON files and locks between processes.

After a kill or on a full disk, a file has either its old or its new content, never a part of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from keras_nas_plugin.errors import StateError

TEMPORARY_PREFIX = ".tmp-"


def temporary_neighbour(path: Path) -> Path:
    """A unique temporary path in the folder of ``path``, with the same suffixes."""
    token = f"{TEMPORARY_PREFIX}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(token + "".join(path.suffixes))


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete temporary files below a folder that killed processes left.

    Files of other machines and of living processes are left alone: they may be in use.
    """
    own = f"{TEMPORARY_PREFIX}{socket.gethostname()}-"
    for path in Path(folder).glob(f"**/{TEMPORARY_PREFIX}*"):
        process = path.name.removeprefix(own).partition("-")[0]
        if path.name.startswith(own) and process.isdigit() and not _is_running(int(process)):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # `os.kill` with signal 0 would end the process there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def write_atomic(path: str | os.PathLike[str], write: Callable[[str], None]) -> None:
    """Replace a file: ``write`` fills a temporary file, which is then renamed to ``path``.

    The bytes are flushed to the disk before the name changes, so a process killed
    at any moment, or a full disk, leaves the previous version readable.

    Args:
        path: The file to replace.
        write: Called with the name of a temporary file to create. The name keeps the
            suffixes of ``path``, since Keras picks its format by ``.weights.h5``.

    Raises:
        OSError: The folder cannot be written; ``path`` is then unchanged.
    """
    path = Path(path)
    temporary = str(temporary_neighbour(path))
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a text file atomically: see `write_atomic`."""

    def write(temporary: str) -> None:
        Path(temporary).write_text(text, encoding="utf-8")

    write_atomic(path, write)


def json_value(data: object) -> Any:
    """Convert data to values that JSON can represent; NaN and infinities become None.

    >>> json_value({1: (float("nan"), 2.0)})
    {'1': [None, 2.0]}

    Args:
        data: Mappings, lists, tuples, dataclasses, numbers of Python or numpy, strings, None.

    Returns:
        Dictionaries with string keys, lists, finite numbers, strings, booleans and None.
    """
    if isinstance(data, Mapping):
        return {str(key): json_value(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [json_value(value) for value in data]
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        return json_value(dataclasses.asdict(data))
    if getattr(data, "shape", None) == () and hasattr(data, "item"):
        data = data.item()  # a numpy scalar; numpy is not imported, to keep `nas --help` fast
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write_json(path: str | os.PathLike[str], data: object) -> None:
    """Write ``data`` as JSON to ``path`` atomically: see `write_atomic`.

    Args:
        path: The file to replace.
        data: See `json.dumps`.

    Raises:
        OSError: The folder cannot be written.
    """
    text = json.dumps(data)

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomic(path, write)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: The file does not exist.
        StateError: The file is not JSON; the message names it.
    """
    text = Path(path).read_bytes()
    try:
        return json.loads(text)
    except ValueError as error:  # not JSON, or not UTF-8 text
        raise StateError(
            f"`{path}` must hold JSON; got {len(text)} bytes that cannot be read "
            f"({error}). Restore the file, or start over with `overwrite=True`."
        ) from error


@contextlib.contextmanager
def file_lock(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file while the block runs; it excludes other processes on this machine.

    The operating system releases the lock when the process ends, even if it is killed. The
    file is not deleted: otherwise two processes could lock two files of the same name.

    Args:
        path: The lock file; it and its folder are created if missing.
        wait: Whether to wait until the lock is free.

    Raises:
        BlockingIOError: Another process holds the lock, and ``wait`` is False.
        OSError: The file cannot be created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout as error:
        raise BlockingIOError(f"another process holds the lock {str(path)!r}") from error
    try:
        yield
    finally:
        lock.release()

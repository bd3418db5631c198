"""Files that are either the old or the new version, never half of one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError

try:
    import fcntl
except ImportError:  # Windows has no such call; there locks are left out
    fcntl = None

TEMPORARY_PREFIX = ".tmp-"


def temporary_neighbour(path: Path) -> Path:
    """A name beside ``path``, with its suffixes, that nobody else uses."""
    token = f"{TEMPORARY_PREFIX}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(token + "".join(path.suffixes))


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete temporary files below a folder whose process died while it wrote them.

    Files of other machines and of living processes are left alone: they may be in use.
    """
    own = f"{TEMPORARY_PREFIX}{socket.gethostname()}-"
    for path in Path(folder).glob(f"**/{TEMPORARY_PREFIX}*"):
        process = path.name.removeprefix(own).partition("-")[0]
        if path.name.startswith(own) and process.isdigit() and not _alive(int(process)):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # where `os.kill` ends the process that it should ask
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process
        return True
    return True


def write_atomic(path: str | os.PathLike, write: Callable[[str], None]) -> None:
    """Let ``write`` fill a temporary neighbour of ``path``, then move it there.

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


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write ``data`` as JSON to ``path``: see `write_atomic`."""
    text = json.dumps(data)

    def write(temporary: str) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_atomic(path, write)


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON written by `write_json`.

    Raises:
        FileNotFoundError: There is no such file.
        StateError: The file is not JSON; the message names it.
    """
    text = Path(path).read_bytes()
    try:
        return json.loads(text)
    except ValueError as error:  # no JSON, or no text at all
        raise StateError(
            f"`{path}` needs to hold JSON; received {len(text)} bytes that cannot be read "
            f"({error}). Restore the file, or start over with `overwrite=True`."
        ) from error


@contextlib.contextmanager
def file_lock(path: str | os.PathLike, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock between processes of one machine while the block runs.

    The system frees the lock when the process dies, however it dies. The file stays:
    removing it would let two processes lock two files of the same name.

    Args:
        path: A file, made if there is none.
        wait: Whether to wait for another process that holds it.

    Raises:
        BlockingIOError: Another process holds it, and ``wait`` is False.
        OSError: The file cannot be created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield

"""Files that are either the old or the new version, never half of one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError

TEMPORARY_PREFIX = ".tmp-"


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
    token = f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    temporary = str(path.with_name(token + "".join(path.suffixes)))
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
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise StateError(
            f"`{path}` needs to hold JSON; received {len(text)} characters that cannot be "
            f"read ({error}). Restore the file, or start over with `overwrite=True`."
        ) from error

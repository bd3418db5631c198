"""The folder of a search: who may write there, and what the search is called."""

from __future__ import annotations

import contextlib
import contextvars
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import (
    TEMPORARY_PREFIX,
    file_lock,
    remove_leftovers,
    temporary_neighbour,
)

_ID_FILE = "search_id"
_LOCK_FILE = ".search.lock"
_LAST = "last_{}.weights.h5"
_driving: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar(
    "driving", default=frozenset()
)


def check_writable(directory: str | os.PathLike, project_name: str) -> Path:
    """Create the project folder, try to write there, and tidy up after a killed process.

    Returns:
        The project folder.

    Raises:
        StateError: It cannot be created or written.
    """
    folder = Path(directory) / project_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX):
            remove_leftovers(folder)
            return folder
    except OSError as error:
        raise StateError(
            f"`directory` needs a folder that can be written; received {str(directory)!r}, "
            f"where {str(folder)!r} gave: {error.strerror or error}"
        ) from error


def search_id(folder: Path) -> str:
    """The id of the search in a project folder, made on first use.

    Several workers may ask at once: the first one's id is everybody's.
    """
    path = folder / _ID_FILE
    if not path.exists():
        draft = temporary_neighbour(path)
        draft.write_text(secrets.token_hex(8), encoding="utf-8")
        try:
            # Linking fails where the name exists, and the name never has half a content.
            os.link(draft, path)
        except FileExistsError:
            pass  # another worker was first; its id is read below
        except OSError:
            # No hard links (FAT, many network drives); there a kill may leave half a name.
            with contextlib.suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
                file.write(draft.read_text(encoding="utf-8"))
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def driven(folder: str | os.PathLike, *, alone: bool = True) -> Iterator[None]:
    """Be the one process that drives a search, while the block runs.

    Args:
        folder: The project folder.
        alone: False for a worker, of which a search may have many.

    Raises:
        StateError: Another process of this machine drives it.
    """
    with contextlib.ExitStack() as stack:
        if alone:
            try:
                stack.enter_context(file_lock(Path(folder) / _LOCK_FILE, wait=False))
            except BlockingIOError as error:
                raise StateError(
                    f"`project_name` needs a search that no other process runs; received "
                    f"{str(folder)!r}, which one runs now. Wait for it, end it, or choose another "
                    "`project_name`."
                ) from error
            folders = _driving.get() | {os.path.realpath(folder)}
            stack.callback(_driving.reset, _driving.set(folders))
        yield


def drives(folder: str | os.PathLike) -> bool:
    """Whether this is called inside `driven` by the one process that drives the search."""
    return os.path.realpath(folder) in _driving.get()


def last_epoch_file(trial_folder: str | os.PathLike, execution: int) -> Path:
    """Where a trial that may be trained further keeps the state after its last epoch."""
    return Path(trial_folder) / _LAST.format(execution)


def discard_last_epochs(trial_folder: str | os.PathLike) -> None:
    """Delete the files of `last_epoch_file`, for all executions."""
    for path in Path(trial_folder).glob(_LAST.format("*")):
        path.unlink(missing_ok=True)

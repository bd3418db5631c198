"""What a test run shares: a folder, and an empty MLflow database, which takes seconds to make."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from keras_nas_plugin.files import file_lock

_shared: list[Path] = []


def share(folder: Path) -> None:
    """Set the folder that the workers of a test run share."""
    _shared[:] = [folder]


def shared_folder() -> Path:
    """The folder that the workers of a test run share; one of its own in other programs."""
    return _shared[0] if _shared else _own_folder()


def empty_database(create: Callable[[str], None] | None = None) -> Path:
    """The database, which is created once per run and must be copied before use.

    Args:
        create: Creates the tables at a URI; None to create them in this process.
    """
    folder = shared_folder()
    path = folder / "empty.db"
    with file_lock(folder / "empty.lock"):
        if not path.exists():
            draft = folder / "draft.db"
            (create or _create)(f"sqlite:///{draft}")
            os.replace(draft, path)
    return path


def new_database(folder: Path, create: Callable[[str], None] | None = None) -> str:
    """Put an empty database into a folder; returns its URI."""
    shutil.copy(empty_database(create), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def _create(uri: str) -> None:
    from keras_nas_plugin.tracking.mlflow.client import connect

    connect(uri).search_experiments()


@functools.cache
def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

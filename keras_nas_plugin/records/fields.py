"""Reading records from JSON, with errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from keras_nas_plugin.errors import StateError


@contextlib.contextmanager
def reading_fields(path: Path) -> Iterator[None]:
    """Replace the errors that unexpected JSON causes by one that names the file.

    Args:
        path: The file whose content the block reads.

    Raises:
        StateError: A field is missing, is unknown or has another type.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"`{path}` must hold the fields that this version writes; got others "
            f"({type(error).__name__}: {error}). Restore the file, or start over with "
            "`overwrite=True`."
        ) from error

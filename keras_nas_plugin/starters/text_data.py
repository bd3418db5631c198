"""Texts in class folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.folders import files_of

#: Names of the files that are read.
SUFFIXES = (".txt",)


def read_texts(folder: str | Path, class_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The texts in class folders, one per file.

    Args:
        folder: A folder with a folder of `.txt` files in UTF-8 for each class.
        class_names: Names of those to read; their indices are the labels.

    Returns:
        Texts, an array of strings of shape (n,), and labels.

    Raises:
        SourceError: A file is not in UTF-8.
    """
    files, labels = files_of(folder, class_names, SUFFIXES)
    return np.array([read_text(path) for path in files], dtype=object), np.array(labels)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        SourceError: It is not in UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"`{path}` must be a text in UTF-8; got the byte 0x{error.object[error.start]:02x}. "
            f"Convert it with `iconv -f cp1252 -t utf-8`"
        ) from error

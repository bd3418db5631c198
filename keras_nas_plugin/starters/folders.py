"""Folders with a folder of files for each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import listed
from keras_nas_plugin.starters.splits import stratified

if TYPE_CHECKING:
    import tensorflow as tf

_SPLITS = {"train", "training", "test", "val", "valid", "validation"}


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of a folder with a folder for each class.

    Attributes:
        files: By class, in ascending order.
        findings: What was noticed, a sentence each.
    """

    files: dict[str, list[Path]]
    findings: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Number of files by class."""
        return {name: len(files) for name, files in self.files.items()}


def class_folders(folder: Path, suffixes: Sequence[str], kind: str) -> ClassFolders:
    """List the files of each class.

    Args:
        folder: The folder.
        suffixes: Endings of the files' names, in lower case.
        kind: What a file is called, in the plural.

    Raises:
        SourceError: There are no class folders, or they have no such files.
    """
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not in_hidden(Path(p.name)))
    lower = {path.name.lower() for path in subfolders}
    if subfolders and lower <= _SPLITS:
        raise SourceError(
            f"`{folder}` must have a folder of {kind} for each class; got "
            f"{listed([path.name for path in subfolders])}. Give the one with all {kind}, for "
            f"example {subfolders[0]}: the recipe splits them"
        )
    files: dict[str, list[Path]] = {}
    ignored, hidden, nested = [], 0, 0
    for subfolder in subfolders:
        paths = [path for path in sorted(subfolder.rglob("*")) if path.is_file()]
        shown = [path for path in paths if not in_hidden(path.relative_to(folder))]
        usable = [path for path in shown if path.suffix.lower() in suffixes]
        hidden += len(paths) - len(shown)
        ignored += [p.relative_to(folder) for p in shown if p.suffix.lower() not in suffixes]
        nested += sum(path.parent != subfolder for path in usable)
        if usable:
            files[subfolder.name] = usable
    if not files:
        loose = [path for path in folder.iterdir() if path.suffix.lower() in suffixes]
        hint = f"{len(loose)} {kind} without a class" if loose else "none"
        raise SourceError(f"`{folder}` must have a folder of {kind} for each class; got {hint}")
    empty = [path.name for path in subfolders if path.name not in files]
    findings = []
    if hidden:
        findings.append(f"{hidden:,} hidden files are ignored.")
    if ignored:
        findings.append(f"Files other than {kind} are ignored: {listed(ignored, 1)}.")
    if nested:
        findings.append(f"{nested:,} {kind} are in folders within those of the classes.")
    if empty:
        findings.append(f"Class folders without {kind} are ignored: {listed(empty)}.")
    return ClassFolders(files, findings)


def files_of(
    folder: str | Path, class_names: Sequence[str], suffixes: Sequence[str]
) -> tuple[list[Path], list[int]]:
    """All files with the indices of their classes, class by class.

    Args:
        folder: A folder with a folder for each class.
        class_names: Names of those to read.
        suffixes: Endings of the files' names, in lower case.

    Raises:
        SourceError: A class has no file.
    """
    files = class_folders(Path(folder), suffixes, "files").files
    missing = [name for name in class_names if name not in files]
    if missing:
        raise SourceError(f"`{folder}` must have files of each class; got none of {missing[0]!r}")
    listing = [(path, index) for index, name in enumerate(class_names) for path in files[name]]
    return [path for path, _ in listing], [index for _, index in listing]


def file_splits(
    read: Callable[[int], np.ndarray],
    labels: np.ndarray,
    *,
    shape: tuple[int, ...],
    dtype: str,
    seed: int,
    streamed: bool,
    batch_size: int,
) -> tuple[Any, Any, Any]:
    """Training, validation and test examples, each a file: 60, 20 and 20 percent of each class.

    Args:
        read: Returns the example of a file by its number.
        labels: Class index of each file, shape (n,).
        shape: Shape of an example.
        dtype: Type of an example.
        seed: Seed of the split and of the order.
        streamed: Whether the files are read while models are trained.
        batch_size: Examples of a batch, where they are read while models are trained.

    Returns:
        Three pairs of examples, shape (n, ...), and labels, or three `tf.data.Dataset` of
        batches of these.
    """
    parts = stratified(labels, seed=seed)
    if not streamed:
        first, second, third = (
            (np.stack([read(row) for row in rows]), labels[rows]) for rows in parts
        )
        return first, second, third
    import tensorflow as tf

    def example(number: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = tf.numpy_function(lambda file: read(int(file)), [number], dtype)
        return tf.ensure_shape(values, shape), label

    def dataset(rows: np.ndarray, shuffle: bool) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((rows, labels[rows]))
        data = data.shuffle(len(rows), seed=seed) if shuffle else data
        parallel = data.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return parallel.batch(batch_size).prefetch(2)

    training, validation, test = parts
    return dataset(training, True), dataset(validation, False), dataset(test, False)


def has_files(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether most files of a folder, and of the folders in it, end like this."""
    if not folder.is_dir():
        return False
    endings = [
        path.suffix.lower()
        for path in folder.rglob("*")
        if path.is_file() and not in_hidden(Path(path.name))
    ]
    return 2 * sum(ending in suffixes for ending in endings) > len(endings)


def in_hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, is hidden or was written by macOS' archiver."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)

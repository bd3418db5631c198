"""Raw rows for a registered model: from a CSV file, or from a folder of files, in chunks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import ArgumentError

if TYPE_CHECKING:
    import pandas as pd

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_SUFFIXES = (*_IMAGES, ".npy", ".wav")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some rows.

    Attributes:
        inputs: What the model's `predict` takes.
        copied: Columns that are copied to the output.
        first: Number of the first row, counted from 1.
        rows: Number of rows.
    """

    inputs: Any
    copied: pd.DataFrame
    first: int
    rows: int


@dataclasses.dataclass(frozen=True)
class InputSchema:
    """The inputs of a registered model, from its signature.

    Attributes:
        names: Names of the inputs; empty for one without a name.
        dtypes: NumPy type of each input, ``"string"`` for texts; None where MLflow names none.
        shapes: Shape of a row of each input; None for inputs that are columns.
    """

    names: tuple[str, ...]
    dtypes: tuple[str | None, ...]
    shapes: tuple[tuple[int, ...], ...] | None

    @classmethod
    def of(cls, model: Any) -> InputSchema:
        """The schema of a model that `mlflow.pyfunc.load_model` returned.

        Raises:
            ArgumentError: The model has no signature.
        """
        schema = model.metadata.get_input_schema()
        if schema is None:
            raise ArgumentError(
                "the model must have a signature to read raw rows; register it with rows of its "
                "data (`sample=`)"
            )
        names = tuple(spec.name for spec in schema.inputs if spec.name)
        if schema.is_tensor_spec():
            dtypes = tuple(str(spec.type) for spec in schema.inputs)
            shapes = tuple(tuple(spec.shape[1:]) for spec in schema.inputs)
            return cls(names, dtypes, shapes)
        kinds = (getattr(spec.type, "name", None) for spec in schema.inputs)
        return cls(names, tuple(_NUMPY.get(str(kind)) for kind in kinds), None)

    def frame(self, table: pd.DataFrame, copied: Sequence[str], what: str) -> Any:
        """The inputs of the model from columns of a table.

        Args:
            table: The rows.
            copied: Columns that are no inputs, unless an input has this name.
            what: The file, for messages.

        Raises:
            ArgumentError: A column is missing, or has values of another type.
        """
        columns = [column for column in table.columns if column not in copied]
        if self.shapes is None:
            if not self.names:
                _check_columns(columns, 1, what)
                return table[columns]
            _check_names(self.names, table, what)
            return table[list(self.names)]
        if len(self.shapes) == 1:
            width = math.prod(self.shapes[0])
            if width < 0:  # a size that differs from row to row
                width = len(columns)
            _check_columns(columns, width, what)
            return self._array(table[columns], 0, what)
        arrays = {}
        for number, name in enumerate(self.names):
            width = math.prod(self.shapes[number])
            parts = [name] if width == 1 else [f"{name}_{part}" for part in range(width)]
            _check_names(parts, table, what)
            arrays[name] = self._array(table[parts], number, what)
        return arrays

    def _array(self, columns: pd.DataFrame, number: int, what: str) -> np.ndarray:
        dtype, shape = self.dtypes[number], (self.shapes or ())[number]
        try:
            values = columns.to_numpy().astype(dtype or "float32")
        except ValueError as error:
            raise ArgumentError(f"{what} must hold values of type {dtype}: {error}") from error
        return values.reshape((len(values), *shape))


_NUMPY = {
    "string": "string",
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
}


def read_chunks(
    path: Path, schema: InputSchema, *, rows: int, keep: Sequence[str] = (), header: bool = True
) -> Iterator[Chunk]:
    """Raw rows in chunks; the file is never in memory as a whole.

    Args:
        path: A CSV file, or a folder with a file for each row: images, arrays (``.npy``) or
            sounds (``.wav``).
        schema: The inputs of the model.
        rows: Rows of a chunk.
        keep: Columns to copy to the output; for a folder there are none.
        header: Whether the first line of the CSV file has the names of the columns.

    Raises:
        ArgumentError: The file cannot be read, or its rows do not fit the model.
    """
    if path.is_dir():
        yield from _read_folder(path, schema, rows)
    else:
        yield from _read_csv(path, schema, rows, keep, header=header)


def _read_csv(
    path: Path, schema: InputSchema, rows: int, keep: Sequence[str], *, header: bool
) -> Iterator[Chunk]:
    import pandas as pd

    named = zip(schema.names, schema.dtypes, strict=False)
    texts = {name: str for name, dtype in named if dtype == "string"} if header else {}
    # An empty cell of a text is an empty text, not a missing number.
    options: dict[str, Any] = {"dtype": texts, "header": "infer" if header else None}
    if not schema.names and schema.dtypes == ("string",):
        options["dtype"] = str
    first = 1
    try:
        with pd.read_csv(path, chunksize=rows, **options) as chunks:
            for table in chunks:
                if table.empty:  # a file with names only
                    continue
                what = f"rows {first:,} to {first + len(table) - 1:,} of {path.name!r}"
                missing = [name for name in keep if name not in table.columns]
                if missing:
                    raise ArgumentError(
                        f"`--keep` must name a column of {path.name!r}, one of "
                        f"{', '.join(map(str, table.columns))}; got {missing[0]!r}"
                    )
                filled = table.fillna(dict.fromkeys(texts, ""))
                inputs = schema.frame(filled, keep, what)
                copied = table[list(keep)].reset_index(drop=True)
                yield Chunk(inputs, copied, first, len(table))
                first += len(table)
    except FileNotFoundError:
        raise ArgumentError(
            f"`rows` must be an existing file or folder; got {str(path)!r}"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"`rows` must be a CSV file in UTF-8; reading {str(path)!r} failed: {error}"
        ) from error
    if first == 1:
        raise ArgumentError(f"`rows` must have at least one row; got none in {str(path)!r}")


def _read_folder(folder: Path, schema: InputSchema, rows: int) -> Iterator[Chunk]:
    import pandas as pd

    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise ArgumentError(
            f"`rows` must be a folder with files of the types {', '.join(_SUFFIXES)}; got none in "
            f"{str(folder)!r}"
        )
    if schema.shapes is None or len(schema.shapes) != 1:
        raise ArgumentError(
            "`rows` must be a CSV file for a model with several inputs or columns; got the folder "
            f"{str(folder)!r}"
        )
    shape, dtype = schema.shapes[0], schema.dtypes[0] or "float32"
    for start in range(0, len(files), rows):
        part = files[start : start + rows]
        arrays = [_fitted(_read_file(file, shape), shape, file).astype(dtype) for file in part]
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            raise ArgumentError(
                f"`rows` must be files of one size; got {sorted(sizes)} in {str(folder)!r}"
            )
        copied = pd.DataFrame({"file": [str(file.relative_to(folder)) for file in part]})
        yield Chunk(np.stack(arrays), copied, start + 1, len(part))


def _read_file(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        if file.suffix.lower() == ".npy":
            return np.load(file, allow_pickle=False)
        import tensorflow as tf

        content = tf.io.read_file(str(file))
        if file.suffix.lower() == ".wav":
            samples = tf.audio.decode_wav(content)[0].numpy()
            return samples if len(shape) == 2 else samples[:, 0]
        channels = shape[-1] if len(shape) == 3 and shape[-1] in (1, 3, 4) else 1
        decoded = tf.io.decode_image(content, channels, expand_animations=False).numpy()
        return decoded if len(shape) == 3 else decoded[..., 0]
    except Exception as error:  # TensorFlow raises its own
        line = " ".join(str(error).split())[:200]
        raise ArgumentError(
            f"`rows` has a file that cannot be read: {file.name!r} ({line})"
        ) from (error)


def _fitted(array: np.ndarray, shape: tuple[int, ...], file: Path) -> np.ndarray:
    fits = len(array.shape) == len(shape) and all(
        expected in (-1, size) for size, expected in zip(array.shape, shape, strict=True)
    )
    if not fits and -1 not in shape and array.size == math.prod(shape):
        return array.reshape(shape)
    if not fits:
        raise ArgumentError(
            f"`rows` must have files of shape {shape}; got {file.name!r} of shape {array.shape}"
        )
    return array


def _check_names(names: Sequence[str], table: pd.DataFrame, what: str) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ArgumentError(
            f"{what} must have the columns {', '.join(names)}; got no {', '.join(missing)}"
        )


def _check_columns(columns: Sequence[Any], width: int, what: str) -> None:
    if len(columns) != width:
        raise ArgumentError(
            f"{what} must have {width} columns, the inputs of the model; got {len(columns)}. "
            "`--keep COLUMN` takes a column out of the inputs and copies it to the output."
        )

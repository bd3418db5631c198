"""What is wrong with arrays of training data: values, labels, order, repeated rows.

Arrays are read in blocks of rows and never copied as a whole. Of large ones, evenly spaced blocks
are read, so that the time does not grow with their size.
"""

from __future__ import annotations

import dataclasses
import itertools
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.evaluation.datasets import is_structure
from keras_nas_plugin.evaluation.tensors import is_tensor, take_rows

_BLOCK_BYTES = 1 << 24
#: Bytes of an array that are read at most.
_READ_BYTES = 1 << 28
# Bytes of a row that its hash is computed from; equal hashes are confirmed on the whole rows.
_HASHED_BYTES = 512
# Bytes of a long row that are read for its hash: one cache line per hashed byte.
_TOUCHED_BYTES = 64 * _HASHED_BYTES
# Rows of Python objects that are looked at.
_OBJECT_ROWS = 1000
# Rows with equal hashes that are compared in full.
_CONFIRMED = 64
#: Kinds of a `NotANumber`.
TEXT, OBJECT = "text", "object"
# Integers with more distinct values than this are not taken for classes.
_MOST_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """Values of an array that are NaN, infinite, or infinite in float32.

    Attributes:
        values: Their number in the rows that were read.
        rows: The first rows that have such values.
        columns: Their number in each column of a table; empty for other arrays.
    """

    values: int
    rows: tuple[int, ...]
    columns: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class NotANumber:
    """A column of an array that has something else than plain numbers.

    Attributes:
        column: Its name; None where the array has no columns.
        example: One of its values.
        kind: `TEXT`, `OBJECT`, or the type of a pandas column that Keras does not read as numbers.
    """

    column: str | None
    example: object
    kind: str


@dataclasses.dataclass(frozen=True)
class MissingTexts:
    """Rows of a column of texts that have none.

    Attributes:
        column: Name of the column; None where the array has no columns.
        example: What they have instead: None or NaN.
        rows: The first of these rows.
        count: Their number in the rows that were read.
    """

    column: str | None
    example: object
    rows: tuple[int, ...]
    count: int


@dataclasses.dataclass(frozen=True)
class RepeatedRows:
    """Validation rows that are training rows as well.

    Attributes:
        repeated: Their number, estimated from those that were compared.
        read: Number of validation rows that were read.
    """

    repeated: int
    read: int


def leaves(data: object, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a structure, each with a name such as ``x['age']``."""
    if data is None:
        return
    if not is_structure(data):
        yield name, data
        return
    items = data.items() if isinstance(data, Mapping) else enumerate(data)
    for key, value in items:
        yield from leaves(value, f"{name}[{key!r}]")


def rows_of(array: Any, selection: slice | np.ndarray) -> Any:
    """These rows of an array, a tensor, a pandas object, or a list."""
    if hasattr(array, "iloc"):
        return array.iloc[selection]
    if isinstance(array, list):
        return array[selection] if isinstance(selection, slice) else [array[i] for i in selection]
    if isinstance(selection, np.ndarray) and is_tensor(array):
        return take_rows(array, selection)
    return array[selection]


def length_of(array: Any) -> int:
    """Number of rows of an array."""
    return len(array) if isinstance(array, list) else int(array.shape[0])


def blocks(rows: int, row_bytes: int, touched: int | None = None) -> list[slice]:
    """Consecutive rows of at most 16 MiB, which have at most 256 MiB together.

    >>> blocks(10, 4)
    [slice(0, 10, None)]
    >>> len(blocks(10**9, 1000))
    16

    Args:
        rows: Number of rows.
        row_bytes: Bytes of a row.
        touched: Bytes of a row that are read; None for all.
    """
    length = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    starts: Sequence[int] = range(0, rows, length)
    most = max(1, _READ_BYTES // (length * max(1, row_bytes if touched is None else touched)))
    if len(starts) > most:
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, most).astype(int)]
    return [slice(start, min(start + length, rows)) for start in starts]


def _row_bytes(array: object) -> int:
    return int(np.asarray(rows_of(array, slice(0, 1))).nbytes)


# ---------------------------------------------------------------------- values


def non_finite(array: object) -> NonFinite | None:
    """Values that are not finite; None if all are, or if they are no floating-point numbers.

    >>> non_finite(np.array([[1.0, np.nan], [np.inf, 2.0], [0.0, np.nan]]))
    NonFinite(values=3, rows=(0, 1, 2), columns={'0': 1, '1': 2})

    Args:
        array: An array or a pandas object.
    """
    if hasattr(array, "columns"):
        return _non_finite_in_frame(array)
    count, rows, columns = 0, [], None
    for block in blocks(length_of(array), _row_bytes(array)):
        values = _numeric(rows_of(array, block))
        if values is None:
            return None
        bad = _is_bad(values)
        if not bad.any():
            continue
        count += int(bad.sum())
        rows += (block.start + np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))).tolist()
        if bad.ndim == 2:
            columns = bad.sum(axis=0) + (0 if columns is None else columns)
    if not count:
        return None
    named = {} if columns is None else {str(i): int(n) for i, n in enumerate(columns) if n}
    return NonFinite(count, tuple(rows[:_CONFIRMED]), named)


def _non_finite_in_frame(frame: Any) -> NonFinite | None:
    rows: set[int] = set()
    columns: dict[str, int] = {}
    for index, name in enumerate(frame.columns):
        bad = non_finite(frame.iloc[:, index])
        if bad is not None:
            rows.update(bad.rows)
            columns[str(name)] = bad.values
    if not columns:
        return None
    return NonFinite(sum(columns.values()), tuple(sorted(rows)[:_CONFIRMED]), columns)


def _numeric(block: object) -> np.ndarray | None:
    """A block as floating-point numbers; None if it has none."""
    if hasattr(block, "to_numpy") and str(getattr(block, "dtype", "")) in ("Float32", "Float64"):
        return np.asarray(block.to_numpy(dtype=float, na_value=np.nan))
    values = np.asarray(block)
    return values if values.dtype.kind in "fc" else None


def _is_bad(values: np.ndarray) -> np.ndarray:
    bad = ~np.isfinite(values)
    if values.dtype.itemsize >= 8 and values.dtype.kind == "f":
        bad |= np.abs(values) > np.finfo(np.float32).max  # infinite in the model
    return bad


def not_numbers(array: Any) -> list[NotANumber]:
    """Columns with texts or other Python objects, judged by the first rows.

    >>> not_numbers(np.array([["1", "a"]]))
    [NotANumber(column=None, example='1', kind='text')]
    """
    if hasattr(array, "columns"):
        named = [
            dataclasses.replace(column, column=str(name))
            for index, name in enumerate(array.columns)
            for column in not_numbers(array.iloc[:, index])
        ]
        return named or _unlike_the_others(array)
    values = np.asarray(rows_of(array, slice(0, _OBJECT_ROWS)))
    if values.dtype.kind in "US":
        return [NotANumber(None, values.ravel()[0].item(), TEXT)] if values.size else []
    if values.dtype.kind in "mM":
        return [NotANumber(None, str(values.ravel()[0]), OBJECT)] if values.size else []
    dtype = getattr(array, "dtype", values.dtype)
    extension = hasattr(array, "iloc") and not isinstance(dtype, np.dtype)
    if values.size and extension and _other_than_number(values.ravel()) is None:
        return [NotANumber(None, values.ravel().tolist()[0], str(dtype))]
    if values.dtype.kind != "O":
        return []
    columns: list[tuple[str | None, np.ndarray]] = [(None, values.ravel())]
    if values.ndim == 2:
        columns = [(str(index), values[:, index]) for index in range(values.shape[1])]
    examples = [(name, _other_than_number(column)) for name, column in columns]
    named = [
        NotANumber(name, example, TEXT if isinstance(example, str | bytes) else OBJECT)
        for name, example in examples
        if example is not None
    ]
    if named or not values.size:
        return named
    # Keras does not accept numbers in an array of objects either.
    return [NotANumber(None, values.ravel()[0], OBJECT)]


def _unlike_the_others(frame: Any) -> list[NotANumber]:
    """Columns of truth values beside numbers: numpy makes an array of objects of such a frame."""
    kinds = {dtype.kind for dtype in frame.dtypes}
    if kinds <= {"b"}:
        return []
    return [
        NotANumber(str(name), bool(frame.iloc[0, index]), str(dtype))
        for index, (name, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=True))
        if dtype.kind == "b"
    ]


def missing_texts(array: Any) -> MissingTexts | None:
    """Rows without a text in a column of texts.

    >>> missing_texts(np.array(["a", None, "b", np.nan], dtype=object))
    MissingTexts(column=None, example=None, rows=(1, 3), count=2)

    Args:
        array: An array of shape ``[n]`` or ``[n, 1]``, or a pandas object.

    Returns:
        The rows of the first such column; None if there is none.
    """
    if hasattr(array, "columns"):
        columns = enumerate(array.columns)
        by_column = ((name, missing_texts(array.iloc[:, index])) for index, name in columns)
        texts = (dataclasses.replace(item, column=str(name)) for name, item in by_column if item)
        return next(texts, None)
    first = np.asarray(rows_of(array, slice(0, _OBJECT_ROWS)))
    if first.dtype.kind != "O" or first.size != len(first):
        return None
    if not any(isinstance(value, str | bytes) for value in first.ravel()):
        return None
    missing: list[tuple[int, object]] = []
    for block in blocks(length_of(array), _TOUCHED_BYTES):
        values = np.asarray(rows_of(array, block)).ravel()
        missing += [
            (block.start + row, value)
            for row, value in enumerate(values)
            if not isinstance(value, str | bytes)
        ]
    if not missing:
        return None
    rows = tuple(row for row, _ in missing[:_CONFIRMED])
    return MissingTexts(None, missing[0][1], rows, len(missing))


def _other_than_number(column: np.ndarray) -> object:
    values = (v for v in column if not isinstance(v, numbers.Number | np.generic | None.__class__))
    return next(values, None)


# ---------------------------------------------------------------------- labels


def label_range(labels: object, ignored: int | None = None) -> tuple[float, float] | None:
    """Smallest and largest label in the rows that are read; None without numbers.

    Args:
        labels: Shape ``[n, ...]``.
        ignored: A label that does not count.
    """
    lowest, highest = np.inf, -np.inf
    for block in blocks(length_of(labels), _row_bytes(labels)):
        values = np.asarray(rows_of(labels, block))
        if values.dtype.kind not in "biuf":
            return None
        if ignored is not None:
            values = values[values != ignored]
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            lowest = min(lowest, float(values.min()))
            highest = max(highest, float(values.max()))
    return None if lowest > highest else (lowest, highest)


def first_fraction(labels: object) -> float | None:
    """The first label that is no whole number, in the rows that are read; None without one."""
    for block in blocks(length_of(labels), _row_bytes(labels)):
        values = np.asarray(rows_of(labels, block)).ravel()
        if values.dtype.kind != "f":
            return None
        fractions = values[np.isfinite(values) & (values != np.floor(values))]
        if fractions.size:
            return float(fractions[0])
    return None


def classes_of(labels: object, *, certain: bool) -> np.ndarray | None:
    """The class of each row: an index for each distinct label, or for each column of one-hot rows.

    Args:
        labels: Labels of shape ``[n]`` or ``[n, 1]``, or one-hot rows of shape ``[n, classes]``.
        certain: Whether the labels are classes; else only few distinct integers, texts or
            booleans, and one-hot rows, are taken for classes.

    Returns:
        The labels as an array of shape ``[n]``; None if they are not classes.
    """
    rows = length_of(labels)
    if rows * _row_bytes(labels) > _READ_BYTES:
        return None
    values = np.asarray(labels)
    if values.dtype.kind not in "biufUSO" or not values.size:
        return None
    if values.ndim == 2 and values.shape[1] > 1:
        one_hot = values.dtype.kind in "biuf" and bool(
            ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
        )
        return values.argmax(axis=1) if one_hot else None
    if values.ndim > 2:
        return None
    values = values.ravel()
    if values.dtype.kind == "O":
        values = values.astype(str)
    if values.dtype.kind == "f":
        if not certain or not (values == np.floor(values)).all():
            return None
        values = values.astype(np.int64)
    few = min(_MOST_CLASSES, len(values) // 4)
    if not certain and len(np.unique(values[: 1 << 20])) > few:
        return None
    return values


def sorted_by_class(classes: np.ndarray) -> bool:
    """Whether rows of the same class follow each other far more often than in random order.

    >>> sorted_by_class(np.repeat([0, 1, 2], 50)), sorted_by_class(np.tile([0, 1, 2], 50))
    (True, False)
    """
    shares = np.unique(classes, return_counts=True)[1] / max(len(classes), 1)
    expected = (len(classes) - 1) * (1.0 - float((shares**2).sum()))
    return bool(len(shares) > 1 and (classes[1:] != classes[:-1]).sum() < 0.1 * expected)


# ---------------------------------------------------------------------- repeated rows


def repeated_rows(training: Sequence[Any], validation: Sequence[Any]) -> RepeatedRows | None:
    """Validation rows that are training rows as well.

    Rows of data with few distinct values are equal by chance. They count only if the validation
    rows repeat training rows far more often than training rows repeat each other.

    Args:
        training: The input arrays of the training rows.
        validation: Those of the validation rows, in the same order.

    Returns:
        The repeated rows; None if there are none, or if the arrays cannot be compared.
    """
    training = [column for array in training for column in _columns(array)]
    validation = [column for array in validation for column in _columns(array)]
    if not training or len(training) != len(validation):
        return None
    types = [_common_type(a, b) for a, b in zip(training, validation, strict=True)]
    dtypes = [dtype for dtype in types if dtype is not None]
    if len(dtypes) < len(types):
        return None
    train_rows, train = _hashes(training, dtypes)
    val_rows, val = _hashes(validation, dtypes)
    if not len(val) or not len(train):
        return None
    order = np.argsort(train, kind="stable")
    positions = np.minimum(np.searchsorted(train, val, sorter=order), len(train) - 1)
    candidates = np.flatnonzero(train[order[positions]] == val)
    if not len(candidates):
        return None
    tested = candidates[np.unique(np.linspace(0, len(candidates) - 1, _CONFIRMED).astype(int))]
    confirmed = sum(
        _equal(training, int(train_rows[order[positions[i]]]), validation, int(val_rows[i]))
        for i in tested
    )
    repeated = round(len(candidates) * confirmed / len(tested))
    counts = np.unique(train, return_counts=True)[1]
    by_chance = float(counts[counts > 1].sum()) / len(train)
    share = repeated / len(val)
    if share < 0.005 or (share <= 2.0 * by_chance and not (share == 1.0 and by_chance < 0.9)):
        return None
    return RepeatedRows(repeated, len(val))


def _columns(array: Any) -> list[Any]:
    """The array itself; the columns of a frame whose columns have different types."""
    if hasattr(array, "columns") and len(set(array.dtypes)) > 1:
        return [array.iloc[:, index] for index in range(len(array.columns))]
    return [array]


def _common_type(training: object, validation: object) -> np.dtype | None:
    """The type in which the rows of two arrays are hashed; None if they cannot be compared."""
    first, second = (np.asarray(rows_of(array, slice(0, 1))) for array in (training, validation))
    comparable = first.ndim and first.size and second.size and first.shape[1:] == second.shape[1:]
    if not comparable:  # a sparse or a ragged array has no dimensions in numpy
        return None
    kinds = {first.dtype.kind, second.dtype.kind}
    if kinds <= {"O", "U"}:
        # A tensor of strings has bytes, which numpy makes texts only of if they are ASCII.
        as_bytes = {isinstance(part.ravel()[0], bytes) for part in (first, second)}
        return np.dtype("S64" if True in as_bytes else "U32") if len(as_bytes) == 1 else None
    return np.result_type(first.dtype, second.dtype) if kinds <= set("biuf") else None


def _hashes(arrays: Sequence[Any], dtypes: Sequence[np.dtype]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows that are read, and a hash of each; arrays of shape ``[n]``."""
    widths = [_row_bytes(array) for array in arrays]
    touched = sum(min(width, _TOUCHED_BYTES) for width in widths)
    selected = blocks(length_of(arrays[0]), sum(widths), touched)
    hashes = []
    for block in selected:
        parts = [
            _hashed(np.asarray(rows_of(array, block)).astype(dtype, copy=False))
            for array, dtype in zip(arrays, dtypes, strict=True)
        ]
        combined = parts[0]
        for part in parts[1:]:
            combined = combined * np.uint64(0x9E3779B97F4A7C15) + part
        hashes.append(combined)
    rows = itertools.chain.from_iterable(range(b.start, b.stop) for b in selected)
    empty = np.zeros(0, np.uint64)
    return np.fromiter(rows, np.int64), np.concatenate(hashes) if hashes else empty


def _hashed(values: np.ndarray) -> np.ndarray:
    """A hash of each row, the same in every block: multiplications modulo ``2**64``."""
    data = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    if data.shape[1] > _HASHED_BYTES:
        data = data[:, np.linspace(0, data.shape[1] - 1, _HASHED_BYTES).astype(int)]
    padded = np.zeros((len(data), -(-data.shape[1] // 8) * 8), np.uint8)
    padded[:, : data.shape[1]] = data
    words = padded.view(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64)
    return (words * (2 * factors + 1)).sum(axis=1, dtype=np.uint64)


def _equal(first: Sequence[Any], row: int, second: Sequence[Any], other: int) -> bool:
    return all(
        np.array_equal(
            np.asarray(rows_of(a, slice(row, row + 1))),
            np.asarray(rows_of(b, slice(other, other + 1))),
        )
        for a, b in zip(first, second, strict=True)
    )

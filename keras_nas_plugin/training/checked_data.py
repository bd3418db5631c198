"""The rows that checks of the data read: views of arrays, and the first batches of data sets."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.evaluation import data_quality as quality
from keras_nas_plugin.evaluation.datasets import (
    DataKind,
    has_single_rows,
    kind_of,
    map_arrays,
)
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments
from keras_nas_plugin.training.sample_model import SampleModel

# Batches of a data set that are read, and rows of a batch at most.
_BATCHES, _ROWS = 4, 256
_DEFAULT_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that is wrong with the data.

    Attributes:
        text: What is wrong, and what to do.
        fatal: Whether no trial could be trained.
    """

    text: str
    fatal: bool = False


@dataclasses.dataclass(frozen=True)
class Part:
    """Training or validation data as the checks read them.

    Attributes:
        name: ``"x"`` or ``"validation_data"``, for messages.
        split: The arrays, or the first rows of a data set.
        complete: Whether these are all rows.
        batch: Arguments of `keras.Model.evaluate` for the first rows.
        batches: Classes of each batch that was read, of a data set only.
    """

    name: str
    split: DataSplit
    complete: bool
    batch: Mapping[str, Any]
    batches: tuple[Any, ...] = ()

    def arrays(self, which: str) -> list[tuple[str, Any]]:
        """The arrays of ``"x"``, ``"y"`` or ``"sample_weight"`` with their names."""
        name = which if self.name == "x" else f"{which} of {self.name}"
        return list(quality.leaves(getattr(self.split, which), name))


@dataclasses.dataclass(frozen=True)
class Checked:
    """The data of a search, and a model that was built for them.

    Attributes:
        fit: Arguments of `search`.
        training: The training rows.
        validation: The validation rows; None if there are none, or if they cannot be read.
        sample: The model.
        objective: Name of the objective.
        certain: Whether `keras.Model.fit` trains on these rows as they are.
    """

    fit: FitArguments
    training: Part
    validation: Part | None
    sample: SampleModel
    objective: str
    certain: bool = True

    @property
    def parts(self) -> list[Part]:
        """Training and validation rows."""
        return [self.training] if self.validation is None else [self.training, self.validation]


def unusable(fit: FitArguments) -> Iterator[Finding]:
    """Data in a form that `keras.Model.fit` rejects, whatever the model.

    Args:
        fit: Arguments of `search`.
    """
    kind = kind_of(fit.x)
    if kind is DataKind.ARRAYS:
        yield from _unusable_arrays(fit)
    elif kind in (DataKind.TF_DATASET, DataKind.PY_DATASET) and fit.y is not None:
        yield Finding(
            f"`y` must be None if `x` is a data set, which has the labels; got a {kind.value} and "
            f"{type(fit.y).__name__}",
            True,
        )
    for name, data in (("x", fit.x), ("validation_data", fit.values.get("validation_data"))):
        if kind_of(data) is DataKind.TF_DATASET and _has_scalars(data):
            yield Finding(
                f"`{name}` must have batches of rows; got a data set of single rows. Call "
                "`batch(32)` on it.",
                True,
            )


def _unusable_arrays(fit: FitArguments) -> Iterator[Finding]:
    """Lists of numbers, arrays without rows, or with different numbers of rows."""
    counts: dict[str, int] = {}
    for name, data in (("x", fit.x), ("y", fit.y), ("sample_weight", fit.sample_weight)):
        for leaf, array in quality.leaves(data, name):
            if isinstance(array, list):
                yield Finding(
                    f"`{leaf}` must be an array; got a list. Call `np.array` on it.", True
                )
                return
            if len(getattr(array, "shape", ())):
                counts[leaf] = quality.length_of(array)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {rows}" for name, rows in counts.items())
        yield Finding(f"`x` and `y` must have the same number of rows; got {listed}", True)
    elif 0 in counts.values():
        yield Finding("`x` must have at least one row; got none", True)


def parts_of(fit: FitArguments) -> tuple[Part | None, Part | None]:
    """Training and validation rows, as views of the arrays.

    Args:
        fit: Arguments of `search`.

    Returns:
        Both parts; None for data that are missing or can be read only once.

    Raises:
        FitArgumentsError: Validation data have the wrong form, or `validation_split` cannot be
            applied.
    """
    training = fit.training
    if training is None:
        return None, None
    batch_size = fit.batch_size or _DEFAULT_BATCH
    given = fit.values.get("validation_data")
    if given is not None:
        validation = DataSplit.of(given, "validation_data")
        return _part("x", training, batch_size), _optional_part(validation, batch_size)
    first = fit.first_validation_row()
    if first is None or training.rows is None:
        return _part("x", training, batch_size), None
    parts = [_rows(training, slice(0, first)), _rows(training, slice(first, training.rows))]
    return _part("x", parts[0], batch_size), _part("validation_split", parts[1], batch_size)


def _has_scalars(dataset: Any) -> bool:
    """Whether the elements of a `tf.data.Dataset` have a tensor without dimensions."""
    specs = keras.tree.flatten(dataset.element_spec)
    return any(getattr(getattr(spec, "shape", None), "rank", None) == 0 for spec in specs)


def _optional_part(split: DataSplit | None, batch_size: int) -> Part | None:
    return None if split is None else _part("validation_data", split, batch_size)


def _rows(split: DataSplit, rows: slice) -> DataSplit:
    """Consecutive rows of arrays, without copying them."""

    def taken(data: object) -> Any:
        if data is None:
            return None
        return map_arrays(functools.partial(quality.rows_of, selection=rows), data)

    return DataSplit(taken(split.x), taken(split.y), taken(split.sample_weight))


def _part(name: str, split: DataSplit, batch_size: int) -> Part | None:
    if split.kind is DataKind.ARRAYS:
        if not split.rows:
            return None
        first = _rows(split, slice(0, min(batch_size, split.rows)))
        return Part(name, split, True, _evaluated(first))
    if split.kind in (DataKind.TF_DATASET, DataKind.PY_DATASET):
        return _part_of_batches(name, split)
    return None


def _evaluated(split: DataSplit) -> dict[str, Any]:
    """Rows as arguments of `keras.Model.evaluate`, which makes one batch of them."""
    fields = {"x": split.x, "y": split.y, "sample_weight": split.sample_weight}
    given = {name: data for name, data in fields.items() if data is not None}
    rows = next(iter(quality.leaves(split.x, "x")))[1]
    return {**given, "batch_size": quality.length_of(rows)}


def _part_of_batches(name: str, split: DataSplit) -> Part | None:
    """The first batches of a data set."""
    dataset: Any = split.x
    if split.kind is DataKind.PY_DATASET:
        count = int(dataset.num_batches or _BATCHES)
        batches = [dataset[index] for index in range(min(count, _BATCHES))]
    else:
        count = int(dataset.cardinality())
        if has_single_rows(dataset):
            return None  # which only a hypermodel's own `fit` can batch
        batches = list(dataset.take(_BATCHES))
    batches = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not batches:
        return Part(name, DataSplit(np.zeros((0,))), True, {})
    fields = [_joined([batch[i] for batch in batches]) for i in range(len(batches[0]))]
    evaluated = (
        {"x": dataset.take(1)}
        if split.kind is DataKind.TF_DATASET
        else dict(zip(("x", "y", "sample_weight"), batches[0], strict=False))
    )
    targets = tuple(_joined([batch[1]]) for batch in batches) if len(batches[0]) > 1 else ()
    complete = 0 <= count <= _BATCHES
    return Part(name, DataSplit(*fields[:3]), complete, evaluated, targets)


def _joined(pieces: Sequence[Any]) -> Any:
    """Batches of the same structure as one structure of arrays."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {key: _joined([piece[key] for piece in pieces]) for key in first}
    if isinstance(first, tuple | list):
        return [_joined([piece[i] for piece in pieces]) for i in range(len(first))]
    arrays = [np.asarray(piece) for piece in pieces]
    if any(array.ndim == 0 or array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        arrays = [array if array.ndim else array[None] for array in arrays[:1]]
    return np.concatenate(arrays)


def batch_with(part: Part, rows: Sequence[int]) -> dict[str, Any]:
    """A batch of the usual size that begins with these rows.

    Args:
        part: The data.
        rows: Numbers of rows.

    Returns:
        Arguments of `keras.Model.evaluate`.
    """
    size = _batch_size(part)
    last = min(part.split.rows or 0, size + len(rows))
    return _batch_of(part, list(dict.fromkeys([*rows, *range(last)]))[:size])


def batch_without(part: Part, rows: Collection[int]) -> dict[str, Any] | None:
    """The first batch of the usual size that has none of these rows.

    Args:
        part: The data.
        rows: Numbers of rows.

    Returns:
        Arguments of `keras.Model.evaluate`; None if all rows are left out, or none of them.
    """
    size = _batch_size(part)
    last = min(part.split.rows or 0, size + len(rows))
    numbers = [row for row in range(last) if row not in rows][:size]
    return _batch_of(part, numbers) if rows and numbers else None


def _batch_size(part: Part) -> int:
    return min(int(part.batch.get("batch_size") or _DEFAULT_BATCH), part.split.rows or 0, _ROWS)


def _batch_of(part: Part, rows: Sequence[int]) -> dict[str, Any]:
    selection = np.array(rows)

    def taken(values: object) -> Any:
        if values is None:
            return None
        return map_arrays(functools.partial(quality.rows_of, selection=selection), values)

    split = part.split
    return _evaluated(DataSplit(taken(split.x), taken(split.y), taken(split.sample_weight)))

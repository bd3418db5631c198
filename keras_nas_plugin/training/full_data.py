"""Training and validation data of a search as one, for training without validation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import RetrainingError

# Arguments of `model.fit` in their order.
_ARGUMENTS = (
    "x",
    "y",
    "batch_size",
    "epochs",
    "verbose",
    "callbacks",
    "validation_split",
    "validation_data",
    "shuffle",
    "class_weight",
    "sample_weight",
    "initial_epoch",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)
# Those that only make sense with a validation set, or with the number of rows before.
_DROPPED = {
    "validation_split",
    "validation_data",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
    "initial_epoch",
    "steps_per_epoch",
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows with their targets: arrays, nested or not, or a `tf.data.Dataset` as ``x``.

    Attributes:
        x: Inputs.
        y: Targets; None for a data set, which holds them.
        weights: Sample weights, or None.
    """

    x: Any
    y: Any = None
    weights: Any = None

    @property
    def count(self) -> int | None:
        """How many; None for a data set."""
        return None if _is_dataset(self.x) else count_rows(self.x)

    def content(self) -> Any:
        """What to make a digest of."""
        found = {"x": self.x, "y": self.y, "sample_weight": self.weights}
        known = {name: data for name, data in found.items() if data is not None}
        return self.x if known.keys() == {"x"} else known


@dataclasses.dataclass(frozen=True)
class FullData:
    """What a model is trained on when nothing is left to choose.

    Attributes:
        args: Positional arguments of `model.fit`, at most ``x`` and ``y``.
        kwargs: Its keyword arguments, without validation.
        rows: The rows in ``args`` and ``kwargs``.
        held_out: Validation rows that are not among them, or None.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: Rows
    held_out: Rows | None = None


def rows_of(data: Any, name: str) -> Rows | None:
    """Rows as `model.fit` and `model.evaluate` take them: a tuple, one array, or a data set.

    Args:
        data: The rows, or None.
        name: Of the argument, for the error.

    Raises:
        RetrainingError: Something else.
    """
    if data is None:
        return None
    if not isinstance(data, tuple | list) or (isinstance(data, list) and len(data) > 3):
        found = Rows(data)
    elif not 1 <= len(data) <= 3:
        raise RetrainingError(
            f"`{name}` needs (x, y) or (x, y, sample_weight); it has {len(data)}"
        )
    else:
        found = Rows(*data)
    if not _is_dataset(found.x) and found.y is not None:
        counts = count_rows(found.x), count_rows(found.y)
        if counts[0] != counts[1]:
            raise RetrainingError(
                f"`{name}` needs as many targets as inputs; received {counts[1]} and {counts[0]}"
            )
    return found


def full_data(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    hold_out: float | None = None,
    seed: int = 0,
) -> FullData:
    """Put the validation data of a search among its training data.

    Args:
        args: Positional arguments of `search`.
        kwargs: Keyword arguments of `search`.
        hold_out: Fraction of the validation rows that is left out, chosen by ``seed``.
        seed: Of that choice, and of the order in which two data sets alternate.

    Raises:
        RetrainingError: The two do not go together, or cannot be joined.
    """
    named = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs)
    if named.get("x") is None:
        raise RetrainingError("`x` needs the data of the search; received none")
    training = Rows(named["x"], named.get("y"), named.get("sample_weight"))
    _ = training.count  # which refuses what has no rows
    validation = rows_of(named.get("validation_data"), "validation_data")
    if validation is None and named.get("validation_split"):
        training, validation = _divided(training, float(named["validation_split"]))
    held_out = None
    if hold_out is not None:
        validation, held_out = _set_apart(validation, hold_out, seed)
    rows = training if validation is None else _together(training, validation, seed)
    rest = {name: value for name, value in named.items() if name not in _DROPPED}
    fields = {"x": rows.x, "y": rows.y, "sample_weight": rows.weights}
    rest |= {name: value for name, value in fields.items() if name in named}
    # What was positional stays so: a hypermodel's own `fit` may call it something else.
    positional = tuple(rest.pop(name) for name in _ARGUMENTS[: min(len(args), 2)])
    return FullData(positional, rest, rows, held_out)


def _is_dataset(data: Any) -> bool:
    return hasattr(data, "element_spec")


def count_rows(data: Any) -> int:
    """Rows of an array, or of the first of several.

    Raises:
        RetrainingError: It has no rows that can be counted.
    """
    first = data
    while _is_nested(first):
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    # Generators cannot be joined, nor can `keras.utils.PyDataset`.
    if not hasattr(first, "__len__") or hasattr(first, "num_batches"):
        raise RetrainingError(
            f"the data need to be arrays or a tf.data.Dataset; received {type(first).__name__}"
        )
    return len(first)


def _is_nested(data: Any) -> bool:
    """Whether it is a mapping, list or tuple of arrays; a list of numbers is not."""
    if isinstance(data, Mapping):
        return bool(data)
    if not isinstance(data, list | tuple):
        return False
    return bool(data) and (hasattr(data[0], "shape") or isinstance(data[0], Mapping))


def _divided(rows: Rows, fraction: float) -> tuple[Rows, Rows]:
    """What `validation_split` makes of arrays: the last rows validate."""
    if _is_dataset(rows.x):
        raise RetrainingError(
            "`validation_split` needs arrays; received a tf.data.Dataset. Give `validation_data`."
        )
    count = count_rows(rows.x)
    at = math.floor(count * (1.0 - fraction))
    return _taken(rows, np.arange(at)), _taken(rows, np.arange(at, count))


def _set_apart(validation: Rows | None, fraction: float, seed: int) -> tuple[Rows, Rows]:
    if not 0 < fraction < 1:
        raise RetrainingError(f"`hold_out` needs a fraction between 0 and 1; received {fraction}")
    if validation is None:
        raise RetrainingError("`hold_out` needs validation data to set rows apart; received none")
    if _is_dataset(validation.x):
        raise RetrainingError(
            "`hold_out` needs validation data in arrays, because a tf.data.Dataset may give its "
            "rows in another order each time; received one"
        )
    count = count_rows(validation.x)
    apart = round(count * fraction)
    if not 0 < apart < count:
        raise RetrainingError(
            f"`hold_out` needs to leave rows on both sides; received {fraction} of {count} rows"
        )
    order = np.random.default_rng(seed).permutation(count)
    return (
        _taken(validation, np.sort(order[apart:])),
        _taken(validation, np.sort(order[:apart])),
    )


def _taken(rows: Rows, which: np.ndarray) -> Rows:
    def take(data: Any) -> Any:
        if data is None:
            return None
        if isinstance(data, Mapping):
            return {key: take(value) for key, value in data.items()}
        if _is_nested(data):
            return type(data)(take(value) for value in data)
        return np.asarray(data)[which]

    return Rows(take(rows.x), take(rows.y), take(rows.weights))


def _together(one: Rows, other: Rows, seed: int) -> Rows:
    if _is_dataset(one.x) != _is_dataset(other.x):
        raise RetrainingError(
            "training and validation data need to be both arrays or both tf.data.Dataset; "
            f"received {type(one.x).__name__} and {type(other.x).__name__}"
        )
    if _is_dataset(one.x):
        return Rows(_mixed(one.x, other.x, seed))
    if (one.weights is None) != (other.weights is None):
        which = "training" if other.weights is None else "validation"
        raise RetrainingError(
            "`sample_weight` needs to be there for training and validation data, or for neither; "
            f"received it for {which} data alone"
        )
    return Rows(
        _joined("x", one.x, other.x),
        _joined("y", one.y, other.y),
        _joined("sample_weight", one.weights, other.weights),
    )


def _mixed(one: Any, other: Any, seed: int) -> Any:
    """Every element of two data sets once, in a random order of the two.

    One after the other would end each epoch with the validation rows, unshuffled.
    """
    import tensorflow as tf

    sizes = [int(data.cardinality()) for data in (one, other)]
    if tf.data.INFINITE_CARDINALITY in sizes:
        raise RetrainingError(
            "`x` and `validation_data` need data sets that end, so that all of both can be "
            "learned from; received an infinite one. Leave `repeat()` out."
        )
    weights = [size / sum(sizes) for size in sizes] if min(sizes) > 0 else None
    try:
        if not _alike(one.element_spec, other.element_spec):
            raise ValueError("shapes or types differ")
        mixed = tf.data.Dataset.sample_from_datasets(
            [one, other], weights, seed=seed, rerandomize_each_iteration=True
        )
    except (TypeError, ValueError) as error:
        raise RetrainingError(
            "`x` and `validation_data` need elements of one kind; received "
            f"{one.element_spec} and {other.element_spec}"
        ) from error
    # Else Keras takes the end of each epoch for data that ran out.
    return mixed.apply(tf.data.experimental.assert_cardinality(sum(sizes))) if weights else mixed


def _alike(one: Any, other: Any) -> bool:
    """Whether elements differ in the size of their batches at most."""
    import tensorflow as tf

    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(
        a.dtype == b.dtype and a.shape[1:].is_compatible_with(b.shape[1:]) for a, b in pairs
    )


def _joined(name: str, one: Any, other: Any) -> Any:
    if one is None and other is None:
        return None
    nested = [_is_nested(data) for data in (one, other)]
    if all(nested) and isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() == other.keys():
            return {key: _joined(f"{name}[{key!r}]", one[key], other[key]) for key in one}
    elif all(nested) and not isinstance(one, Mapping) and not isinstance(other, Mapping):
        if len(one) == len(other):
            pairs = enumerate(zip(one, other, strict=True))
            return type(one)(_joined(f"{name}[{i}]", a, b) for i, (a, b) in pairs)
    elif not any(nested) and one is not None and other is not None:
        arrays = np.asarray(one), np.asarray(other)
        if arrays[0].shape[1:] == arrays[1].shape[1:] and arrays[0].ndim:
            return np.concatenate(arrays)
        one, other = arrays
    raise RetrainingError(
        f"training and validation data need the same form; received `{name}` of "
        f"{_form(one)} and {_form(other)}"
    )


def _form(data: Any) -> str:
    if hasattr(data, "shape"):
        return f"shape {tuple(data.shape)}"
    if isinstance(data, Mapping):
        return f"{{{', '.join(map(str, data))}}}"
    return f"{len(data)} arrays" if isinstance(data, list | tuple) else type(data).__name__

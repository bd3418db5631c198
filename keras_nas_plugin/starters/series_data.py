"""Time series: one per row with a label, or a single long one to forecast."""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import close_name
from keras_nas_plugin.starters.splits import TEST, VALIDATION, at_random, stratified
from keras_nas_plugin.starters.table_data import labels_of, read_table, time_order

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Series:
    """Series with a label each.

    Attributes:
        x: The series, each of shape (steps, channels).
        y: Their labels, as texts.
        tests: The number of series at the end that are an official test set.
    """

    x: list[np.ndarray]
    y: list[str]
    tests: int = 0

    def stacked(self, length: int) -> np.ndarray:
        """All series, float32 of shape (n, length, channels).

        The last step of a shorter one is repeated, and a longer one is cut.
        """
        rows = []
        for series in self.x:
            series = series[:length]
            rows.append(np.pad(series, ((0, length - len(series)), (0, 0)), mode="edge"))
        return np.stack(rows).astype("float32")


def read_series(path: str | Path, target: str | None = None) -> Series:
    """Read series with labels.

    Args:
        path: A `.ts` file of the UCR and UEA archive (with `X_TEST.ts` beside `X_TRAIN.ts` as test
            set), an `.npz` file with ``x`` of shape (n, steps) or (n, steps, channels) and ``y``
            (optionally ``x_test`` and ``y_test``), or a Parquet file with a column of lists per
            channel and a column of labels.
        target: The column of labels of a Parquet file.

    Raises:
        SourceError: The file has another form.
    """
    path = Path(path)
    if path.suffix == ".ts":
        series = _read_ts(path)
        beside = path.with_name(path.name.replace("_TRAIN", "_TEST"))
        if beside != path and beside.is_file():
            test = _read_ts(beside)
            return Series(series.x + test.x, series.y + test.y, len(test.x))
        return series
    if path.suffix == ".npz":
        return _read_npz(path)
    return _read_lists(path, target)


def _read_ts(path: Path) -> Series:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"`{path}` must be a text file in UTF-8; {error}") from error
    start = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if start is None:
        raise SourceError(f"`{path}` must have a line `@data`, as files of the UCR archive have")
    header = " ".join(lines[:start]).lower()
    if "@timestamps true" in header:
        raise SourceError(f"`{path}` must have values only; it has time stamps")
    if not re.search(r"@(classlabel|targetlabel) true", header):
        raise SourceError(f"`{path}` must have a label for each series (`@classLabel true`)")
    x, y = [], []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not line.strip() or line.startswith(("#", "%")):
            continue
        *channels, label = line.strip().split(":")
        try:
            values = [[_value(text) for text in channel.split(",")] for channel in channels]
        except ValueError as error:
            raise SourceError(f"`{path}` must have numbers; line {number}: {error}") from error
        if not values or len({len(channel) for channel in values}) > 1:
            raise SourceError(
                f"`{path}` must have channels of the same length in each series, and a label; "
                f"line {number} has the lengths {[len(channel) for channel in values]}"
            )
        x.append(np.array(values, "float32").T)
        y.append(label.strip())
    if not x:
        raise SourceError(f"`{path}` must have series below `@data`; got none")
    return Series(x, y)


def _value(text: str) -> float:
    return float("nan") if text.strip() in ("?", "NaN", "nan") else float(text)


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name, in lower case.

    Raises:
        SourceError: The file cannot be read.
    """
    try:
        with np.load(path) as archive:
            return {name.lower(): archive[name] for name in archive.files}
    except (OSError, zipfile.BadZipFile, ValueError, TypeError, EOFError, AttributeError) as error:
        raise SourceError(f"`{path}` must be an .npz file of plain arrays; {error}") from error


def _read_npz(path: Path) -> Series:
    arrays = load_npz(path)
    arrays |= {name: arrays[f"{name}_train"] for name in "xy" if f"{name}_train" in arrays}
    x, y, tests = [], [], 0
    for suffix in ("", "_test"):
        names = f"x{suffix}", f"y{suffix}"
        if suffix and names[0] not in arrays:
            continue
        lacking = [name for name in names if name not in arrays]
        if lacking:
            raise SourceError(
                f"`{path}` must have the arrays {' and '.join(names)}; got "
                f"{', '.join(sorted(arrays)) or 'none'}"
            )
        values, labels = (arrays[name] for name in names)
        if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
            raise SourceError(
                f"`{names[0]}` in `{path}` must be numbers of shape (series, steps) or (series, "
                f"steps, channels); got {values.shape} of {values.dtype}"
            )
        if labels.shape[:1] != values.shape[:1] or labels.size != len(values):
            raise SourceError(
                f"`{names[1]}` in `{path}` must have a label for each of {len(values)} series; "
                f"got the shape {labels.shape}"
            )
        x += list(values.reshape(*values.shape[:2], -1).astype("float32"))
        y += [_label(label) for label in labels.reshape(-1)]
        tests = len(values) if suffix else 0
    return Series(x, y, tests)


def _label(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def list_columns(path: Path) -> list[str]:
    """Names of the columns of lists of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        return []
    return [field.name for field in schema if pyarrow.types.is_list(field.type)]


def _read_lists(path: Path, target: str | None) -> Series:
    import pandas as pd

    table = pd.read_parquet(path)
    channels = list_columns(path)
    plain_columns = [name for name in table if name not in channels]
    if target is None:
        if len(plain_columns) != 1:
            raise SourceError(
                f"`--target` must name the column of labels of `{path}`; got none. Columns: "
                f"{', '.join(map(str, plain_columns)) or 'none but those of lists'}"
            )
        target = str(plain_columns[0])
    if target not in plain_columns:
        raise SourceError(
            f"`--target` must be a column of `{path}`; got {target!r}. "
            f"{close_name(target, [str(name) for name in plain_columns])}"
        )
    x = []
    for row in table[channels].itertuples(index=False):
        if len({len(values) for values in row}) > 1:
            raise SourceError(
                f"`{path}` must have channels of the same length in each row; got "
                f"{[len(values) for values in row]}"
            )
        x.append(np.array([np.asarray(values, "float32") for values in row]).T)
    return Series(x, [_label(value) for value in table[target]])


def series_splits(
    path: str | Path,
    class_names: Sequence[str] | None,
    *,
    length: int,
    target: str | None = None,
    seed: int = 0,
) -> tuple[Pair, Pair, Pair]:
    """Training, validation and test series, 60, 20 and 20 percent of each class.

    If the file has a test set of its own, the others are divided into 80 and 20 percent.

    Args:
        path: See `read_series`.
        class_names: The classes, whose indices are the labels; None for regression.
        length: Steps of a series; the last step of shorter ones is repeated.
        target: See `read_series`.
        seed: Seed of the split.

    Returns:
        Three pairs of series, float32 of shape (n, length, channels), and labels.
    """
    series = read_series(path, target)
    if class_names is None:
        labels = np.array(series.y, dtype="float32")
    else:
        labels = labels_of(series.y, class_names)
    x = series.stacked(length)
    usable = np.arange(len(x)) if class_names is None else np.flatnonzero(labels >= 0)
    own = usable[usable < len(x) - series.tests]
    parts = at_random(len(own), seed=seed)
    if class_names is not None:
        parts = stratified(labels[own], seed=seed)
    training, validation, test = (own[rows] for rows in parts)
    if series.tests:
        training = np.concatenate([training, test])
        test = usable[usable >= len(x) - series.tests]
    first, second, third = ((x[r], labels[r]) for r in (training, validation, test))
    return first, second, third


def forecast_splits(
    path: str | Path,
    columns: Sequence[str],
    targets: Sequence[str],
    *,
    window: int,
    horizon: int,
    time: str | None = None,
    decimal: str = ".",
) -> tuple[Pair, Pair, Pair]:
    """Windows of the past, and what follows: the oldest 60 percent, the next 20, the last 20.

    No step that is forecast in one part is forecast in another.

    Args:
        path: See `read_long_series`.
        columns: The numbers that a forecast is made from.
        targets: The numbers that are forecast; some of ``columns``.
        window: Steps of the past.
        horizon: Steps to forecast.
        time: The column to sort the rows by; None for their order in the file.
        decimal: See `read_table`.

    Returns:
        Three pairs: float32 of shapes (n, window, columns) and (n, horizon, targets).
    """
    values = read_long_series(path, columns, time=time, decimal=decimal)
    indices = [list(columns).index(name) for name in targets]
    steps = len(values)
    ends = [window, round(steps * (1 - VALIDATION - TEST)), round(steps * (1 - TEST)), steps]
    parts = []
    for start, end in zip(ends, ends[1:], strict=False):
        firsts = np.arange(start, end - horizon + 1)
        x = np.stack([values[first - window : first] for first in firsts])
        y = np.stack([values[first : first + horizon, indices] for first in firsts])
        parts.append((x, y))
    training, validation, test = parts
    return training, validation, test


def read_long_series(
    path: str | Path, columns: Sequence[str], *, time: str | None = None, decimal: str = "."
) -> np.ndarray:
    """A single series, float32 of shape (steps, columns); missing values are those before them.

    Args:
        path: A table, see `read_table`, or an `.npz` file with ``x`` of shape (steps,) or (steps,
            channels), whose columns are named ``0``, ``1`` and so on.
        columns: Columns of numbers.
        time: The column to sort the rows by: dates that sort as texts, or numbers.
        decimal: See `read_table`.
    """
    import pandas as pd

    path = Path(path)
    if path.suffix == ".npz":
        values = load_npz(path)["x"]
        values = values.reshape(len(values), -1)[:, [int(name) for name in columns]]
        return pd.DataFrame(values).ffill().bfill().to_numpy("float32")
    table = read_table(path, numbers=columns, decimal=decimal)
    if time is not None:
        table = table.iloc[time_order(list(table[time]))]
    return table[list(columns)].ffill().bfill().to_numpy("float32")

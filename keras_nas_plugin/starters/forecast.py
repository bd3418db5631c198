"""A single long series: forecasts of its next steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters import table_columns as kinds
from keras_nas_plugin.starters.base import FORECAST, Draft, Request, Starter, close_name, listed
from keras_nas_plugin.starters.series_data import load_npz
from keras_nas_plugin.starters.table import Inspected, check_time, is_table
from keras_nas_plugin.starters.table_columns import Column, describe_column
from keras_nas_plugin.starters.table_data import as_numbers, time_order
from keras_nas_plugin.starters.writing import constant, imported, module

if TYPE_CHECKING:
    import pandas as pd

_HORIZON, _WINDOWS = 24, 4


class ForecastStarter(Starter):
    """Tables with a row per step, and `.npz` files with ``x`` of shape (steps, channels)."""

    kind = "a series to forecast"
    tasks = (FORECAST,)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return is_table(source) or source.suffix == ".npz"

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        if request.source.suffix == ".npz":
            columns, time, findings, rows, decimal = _of_arrays(request)
        else:
            columns, time, findings, rows, decimal = _of_table(request)
        targets = columns
        guesses = []
        if request.target is not None:
            if request.target not in columns:
                raise SourceError(
                    f"`--target` must be a column of numbers of `{request.source}`; got "
                    f"{request.target!r}. {close_name(request.target, columns)}"
                )
            targets = [request.target]
        elif len(columns) > 1:
            guesses.append("All columns are forecast; `--target` selects one.")
        horizon = request.horizon or min(_HORIZON, max(1, rows // 40))
        window = min(_WINDOWS * horizon, max(horizon, rows // 10))
        if request.horizon is None:
            guesses.append(f"Horizon: {horizon} steps; `--horizon` sets another.")
        if round(0.2 * rows) < horizon + 1 or round(0.6 * rows) < window + horizon:
            raise SourceError(
                f"`{request.source}` must have at least {max(5 * (horizon + 1), 5 * window)} "
                f"steps for a horizon of {horizon}; got {rows}"
            )
        recipe = _recipe(request, findings, columns, targets, time, window, horizon, rows, decimal)
        summary = f"{rows:,} steps of {len(columns)} columns, {window} steps to forecast {horizon}"
        return Draft(recipe, FORECAST, summary, findings, guesses)


def _of_arrays(request: Request) -> tuple[list[str], str | None, list[str], int, str]:
    arrays = load_npz(request.source)
    if "x" not in arrays or arrays["x"].ndim not in (1, 2) or arrays["x"].dtype.kind not in "iuf":
        shapes = {name: array.shape for name, array in arrays.items()}
        raise SourceError(
            f"`{request.source}` must have `x`, numbers of shape (steps,) or (steps, channels); "
            f"got {shapes}"
        )
    values = arrays["x"].reshape(len(arrays["x"]), -1)
    return [str(number) for number in range(values.shape[1])], None, [], len(values), "."


def _of_table(request: Request) -> tuple[list[str], str | None, list[str], int, str]:
    inspected = Inspected(request)
    if inspected.streamed:
        raise SourceError(
            f"`{request.source}` must fit into memory with about {inspected.size / 1e6:,.0f} MB "
            f"to be forecast; {request.available / 1e6:,.0f} MB are available"
        )
    table, findings = inspected.table, []
    described = [describe_column(name, table[name]) for name in table.columns]
    time = request.time
    if time is None:
        time = _time_column(described, table)
    else:
        check_time(request, list(table.columns))
    if time is None:
        findings.append("No column has times: the rows are taken in the order of the file.")
    else:
        order = time_order(list(table[time]))
        if (np.diff(order) < 0).any():
            findings.append(f"The rows are not in the order of `{time}`: they are sorted by it.")
        if table[time].duplicated().any():
            findings.append(
                f"Some times in `{time}` occur more than once: if the table has several series, "
                "give a file with a single one."
            )
    numeric = (kinds.NUMBER, kinds.INTEGER)
    columns = [c for c in described if c.kind in numeric and c.name != time]
    unused = [c.name for c in described if c.kind not in numeric and c.name != time]
    if unused:
        findings.append(f"Columns without numbers are left out: {listed(unused)}.")
    if not columns:
        raise SourceError(
            f"`{request.source}` must have a column of numbers to forecast; got none"
        )
    missing = int(sum((table[column.name] == "").sum() for column in columns))
    if missing:
        findings.append(
            f"{missing:,} values are missing: each is replaced by the value before it."
        )
    decimal = "," if any(column.decimal == "," for column in columns) else "."
    return [column.name for column in columns], time, findings, len(table), decimal


def _time_column(described: list[Column], table: pd.DataFrame) -> str | None:
    dates = [column.name for column in described if column.kind == kinds.DATE]
    if dates:
        return dates[0]
    for column in described:
        if column.name.lower() in ("time", "timestamp", "date", "datetime", "step", "t"):
            numbers = as_numbers(table[column.name])
            if not np.isnan(numbers).any():
                return column.name
    return None


def _recipe(
    request: Request,
    findings: list[str],
    columns: list[str],
    targets: list[str],
    time: str | None,
    window: int,
    horizon: int,
    rows: int,
    decimal: str,
) -> str:
    data = f'''
@cached
def load_data():
    """The oldest 60 percent of the steps to train, the next 20 to validate, the last to test."""
    (x, y), validation, test = forecast_splits(
        DATA, COLUMNS, TARGETS, window=WINDOW, horizon=HORIZON, time=TIME, decimal={decimal!r}
    )
    return {{"x": x, "y": y, "validation_data": validation, "test_data": test}}
'''
    model = '''
def build_model(hp):
    """A model of raw steps, which forecasts the change from the last step."""
    inputs = keras.Input((WINDOW, len(COLUMNS)), name="past")
    rows = load_data()["x"]
    mean, variance = rows.mean(axis=(0, 1)), rows.var(axis=(0, 1))
    x = keras.layers.Normalization(mean=mean, variance=variance)(inputs)
    forecast = [COLUMNS.index(name) for name in TARGETS]
    last = keras.ops.take(x[:, -1:, :], forecast, axis=-1)
    changed = NETWORK.connect(hp, x) + last
    scale = keras.layers.Normalization(
        mean=mean[forecast], variance=variance[forecast], invert=True
    )
    model = keras.Model(inputs, scale(changed))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=1e-3)
    loss = "mean_squared_error"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["mean_absolute_error"])
    return model
'''
    return module(
        title=f"Forecast of the series in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import sequence_1d",
            imported(["cached", "forecast_splits"]),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("TIME", time, "the column that the rows are sorted by"),
            constant("COLUMNS", columns, "what a forecast is made from"),
            constant("TARGETS", targets, "what is forecast"),
            constant("OBJECTIVE", "val_mean_absolute_error"),
            constant("WINDOW", window, "steps of the past"),
            constant("HORIZON", horizon, "steps to forecast"),
            "NETWORK = sequence_1d(\n    (WINDOW, len(COLUMNS)), outputs=(HORIZON, len(TARGETS)), "
            f"rows={round(0.6 * rows)}\n)",
        ],
        functions=[data, model],
    )

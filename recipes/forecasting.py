"""Search for a network that forecasts a time series, against the seasonal-naive forecast.

    keras-nas search recipes/forecasting.py --max-trials 15 --epochs 20
    python recipes/forecasting.py --data sales.csv:units --max-trials 15 --epochs 20 --baseline
    python recipes/forecasting.py --data bike_sharing --limit 3000 --baseline
    python recipes/forecasting.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: 90 days of hours with a trend and a daily pattern; the default;
* `bike_sharing`: bicycles that were rented in each of 17,379 hours (scikit-learn downloads
  `Bike_Sharing_Demand` from openml.org, checks and stores it);
* a CSV file with a header and a row per time step, in order; the series is the last column of
  numbers, or that of `FILE.csv:COLUMN`. `FILE.csv:COLUMN:12` has a season of 12 steps.

Else the season is the lag at which the training part resembles itself most. A model sees two
seasons, and forecasts the next one. Training, validation and test forecasts follow one another in
time, and share no value that is to be forecast. Forecasts are judged by the mean absolute scaled
error (Hyndman & Koehler 2006): below 1, they are better than repeating the last season was on
average in the training part.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from keras import layers, ops

from keras_nas_plugin.recipes import running
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.language.parts import Fork
from keras_nas_plugin.space.presets import sequence_1d

OBJECTIVE = "val_loss"
LONGEST_SEASON = 200  # steps


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Windows of a series in three splits.

    Attributes:
        splits: ``x`` of shape (n, window, 1), ``y`` of shape (n, season).
        season: Steps of a season, and of a forecast.
        scale: Mean absolute error of the seasonal-naive forecast in the training part.
    """

    splits: running.Splits
    season: int
    scale: float


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build one network of the preset `sequence_1d` on standardised windows.

    Another decision is what the network's output is added to: the mean of the window, its last
    value, or its last season.
    """
    return _space(_task()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(task: Task) -> SpaceHyperModel:
    x, y = task.splits.training
    network = sequence_1d(x.shape[1:], outputs=task.season, rows=len(y))
    anchors = {name: Layer(rescaled, anchor=name, season=task.season) for name in ANCHORS}
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    return SpaceHyperModel(
        Fork(
            LayerChoice(anchors, name="anchor"),
            network=Sequential(standardised=Layer(standardised_window), layers=network.space),
            window=Layer(layers.Identity),
        ),
        inputs={"window": x.shape[1:]},
        compile={"optimizer": "adam", "loss": "mean_absolute_error", "learning_rate": rate},
        check=False,
    )


ANCHORS: dict[str, Callable[[keras.KerasTensor, int], keras.KerasTensor]] = {
    "mean": lambda window, season: ops.mean(window, axis=1, keepdims=True),
    "last": lambda window, season: window[:, -1:],
    "season": lambda window, season: window[:, -season:],
}


def standardised_window() -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Standardises each window by its own mean and deviation, so that its level does not matter.

    Source: Kim et al. 2022, "Reversible Instance Normalization for Accurate Time-Series
    Forecasting against Distribution Shift", without their learned factors.
    """
    return lambda x: (x - ops.mean(x, axis=1, keepdims=True)) / deviation(x)


def deviation(window: keras.KerasTensor) -> keras.KerasTensor:
    """The standard deviation of each window, of shape (n, 1, 1); at least 1e-3."""
    return ops.maximum(ops.std(window, axis=1, keepdims=True), 1e-3)


def rescaled(anchor: str, season: int) -> Callable[[list[keras.KerasTensor]], keras.KerasTensor]:
    """Returns the output of a network in the unit of the series, added to an anchor."""

    def call(inputs: list[keras.KerasTensor]) -> keras.KerasTensor:
        output, window = inputs
        return output * deviation(window)[:, 0] + ANCHORS[anchor](window[:, :, 0], season)

    return call


# The data


def load_data() -> tuple[Any, Any, Any]:
    """Load the windows of the series that `--data` names, in three splits."""
    splits = _task().splits
    return splits.training, splits.validation, splits.test


def _task() -> Task:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> Task:
    values, season = _read(data)
    ends = [int(len(values) * share) for share in (0.6, 0.8, 1.0)]
    training = values[: ends[0]]
    season = season or season_of(training)
    window, parts = 2 * season, []
    for first, last in zip([window, *ends], ends, strict=False):
        starts = np.arange(first, last - season + 1)  # of what is forecast
        if len(starts) < 2:
            raise ValueError(
                f"{data} must have enough values for windows of {window} and forecasts of "
                f"{season} steps in each of its three parts; got {len(values)}"
            )
        starts = starts[running.limited(len(starts), limit)]
        x = values[starts[:, np.newaxis] + np.arange(-window, 0), np.newaxis]
        parts.append((x, values[starts[:, np.newaxis] + np.arange(season)]))
    scale = float(np.abs(training[season:] - training[:-season]).mean())
    return Task(running.Splits(*parts), season, max(scale, 1e-9))


def season_of(values: np.ndarray) -> int:
    """The lag of at least 2 at which the differences of a series are correlated most.

    >>> int(season_of(np.tile([1.0, 5.0, 2.0, 8.0, 3.0, 4.0, 9.0], 20)))
    7

    Args:
        values: The series, of shape (n,).

    Raises:
        ValueError: It is too short, or constant.
    """
    differences = np.diff(values)
    differences = differences - differences.mean()
    longest = min(LONGEST_SEASON, len(values) // 4)
    total = float(np.sum(differences**2))
    if longest < 2 or total == 0:
        raise ValueError(
            f"a series must have 10 values in its training part or more, not all the same; got "
            f"{len(values)}"
        )
    alike = [np.sum(differences[lag:] * differences[:-lag]) for lag in range(1, longest + 1)]
    # A smooth series resembles itself at short lags, up to the first that is not positive.
    first = next((i for i, value in enumerate(alike) if value <= 0), 0)
    return max(2, 1 + first + int(np.argmax(alike[first:])))


def generated(count: int, seed: int) -> np.ndarray:
    """Hourly values with a trend, a daily pattern whose size varies, and noise."""
    rng = np.random.default_rng(seed)
    hour = np.arange(count)
    daily = np.sin(2 * np.pi * hour / 24) + 0.5 * np.sin(4 * np.pi * hour / 24 + 1)
    sizes = [4.0]
    for step in rng.normal(0, 0.8, count // 24 + 1):
        sizes.append(4 + 0.7 * (sizes[-1] - 4) + step)
    noise = np.convolve(rng.normal(0, 0.3, count + 4), np.ones(5) / 2, "valid")
    return 20 + 0.002 * hour + daily * np.interp(hour / 24, np.arange(len(sizes)), sizes) + noise


def _read(data: str) -> tuple[np.ndarray, int]:
    """A series and its season; 0 if that is to be guessed."""
    if data == "generated":
        return generated(2_160, seed=0).astype("float32"), 0
    if data == "bike_sharing":
        from sklearn.datasets import fetch_openml

        table = fetch_openml("Bike_Sharing_Demand", version=2, as_frame=True).frame
        return table["count"].to_numpy("float32"), 24
    path, _, rest = data.partition(".csv:")
    column, _, season = rest.partition(":")
    if season and not (season.isdecimal() and int(season) > 1):
        raise ValueError(
            "the season in `--data` FILE.csv:COLUMN:SEASON must be 2 steps or more; got "
            f"{season!r}"
        )
    return read_column(Path(f"{path}.csv" if rest else path), column), int(season or 0)


def read_column(path: Path, column: str) -> np.ndarray:
    """Read a column of a CSV file; an empty name is the last column of numbers.

    Raises:
        ValueError: There is no such file or column, or a value is missing.
    """
    if path.suffix != ".csv" or not path.is_file():
        raise ValueError(
            "`--data` must be generated, bike_sharing or an existing file FILE.csv or "
            f"FILE.csv:COLUMN; got {str(path)!r}"
        )
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # also of pandas' parser
        raise ValueError(f"{path} must be a CSV file in UTF-8: {error}") from error
    numeric = table.select_dtypes("number")
    column = column or str(numeric.columns[-1] if numeric.shape[1] else "")
    if column not in numeric:
        raise ValueError(
            f"{path} must have a column {column!r} of numbers; its columns of numbers are "
            f"{', '.join(map(str, numeric.columns)) or 'none'}"
        )
    if missing := int(numeric[column].isna().sum()):
        raise ValueError(
            f"{path}: the column {column!r} must have a number in every row; {missing} are missing"
        )
    return numeric[column].to_numpy("float32")


# The recipe as a program


class SeasonalNaive:
    """Forecasts the last season again."""

    def __init__(self, data: running.Splits, budget: running.Budget) -> None:
        self._season = data.training[1].shape[1]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Forecasts of shape (n, season) from windows of shape (n, window, 1)."""
        return x[:, -self._season :, 0]


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A GRU on standardised windows; its output is added to their mean."""
    task = _task()
    window = keras.Input(task.splits.training[0].shape[1:], name="window")
    x = layers.Dense(task.season)(layers.GRU(64)(standardised_window()(window)))
    model = keras.Model(window, rescaled("mean", task.season)([x, window]))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "mean_absolute_error")
    return model


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The mean absolute scaled error, and the mean absolute error in the unit of the series."""
    error = float(np.abs(running.predict(model, x) - y).mean())
    return {"mase": error / _task().scale, "mae": error}


RECIPE = running.Recipe(
    name="forecasting",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    larger_is_better=False,
    baselines={
        "seasonal naive": SeasonalNaive,
        "GRU": running.network(baseline_model, OBJECTIVE),
    },
    data="generated, bike_sharing, or FILE.csv[:COLUMN]",
    trials=15,
    epochs=20,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

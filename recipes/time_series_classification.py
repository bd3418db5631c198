"""Search for a classifier of time series: convolutions, recurrent layers and attention.

    keras-nas search recipes/time_series_classification.py --max-trials 15 --epochs 20
    python recipes/time_series_classification.py --data GunPoint --max-trials 15 --baseline
    python recipes/time_series_classification.py --data Wafer/Wafer_TRAIN.ts --baseline
    python recipes/time_series_classification.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: four shapes with noise, at any time; the default;
* a data set that the package `aeon` has on board (`pip install aeon`): GunPoint, ArrowHead,
  ItalyPowerDemand, OSULeaf, BasicMotions (6 channels), JapaneseVowels (12 channels, unequal);
* a `.ts` file of the UCR and UEA archives (timeseriesclassification.com): with `NAME_TRAIN.ts`,
  `NAME_TEST.ts` beside it is the test data;
* an `.npz` or Parquet file, as `keras_nas_plugin.starters.series_data.read_series` describes.

Series are standardised by a layer inside the models. Shorter ones are continued with their last
value; missing values are interpolated.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from keras import layers

from keras_nas_plugin.recipes import running
from keras_nas_plugin.space import Layer, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.presets import sequence_1d
from keras_nas_plugin.starters.series_data import Series, read_series

OBJECTIVE = "val_loss"  # many archives have few series, whose accuracies are often equal

SUFFIXES = (".ts", ".npz", ".parquet")


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build one network of the preset `sequence_1d` behind a layer that standardises."""
    return _space(_splits()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(splits: running.Splits) -> SpaceHyperModel:
    x, y = splits.training
    network = sequence_1d(x.shape[1:], classes=len(splits.class_names), rows=len(y))
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    return SpaceHyperModel(
        Sequential(standardised=Layer(standardised), network=network.space),
        inputs={"series": x.shape[1:]},
        compile={**network.compile, "learning_rate": rate},
        check=False,
    )


def standardised() -> keras.layers.Layer:
    """Standardises each channel by its values in the training series."""
    x, _ = _splits().training
    return layers.Normalization(mean=x.mean((0, 1)), variance=x.var((0, 1)))


# The data


def load_data() -> dict[str, Any]:
    """Load the series that `--data` names, in three splits."""
    return _splits().as_mapping()


def _splits() -> running.Splits:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> running.Splits:
    series = _read(data)
    channels = sorted({values.shape[1] for values in series.x})
    names = sorted(set(series.y))
    if len(names) < 2 or len(channels) > 1:
        raise ValueError(
            f"{data} must have series of two classes or more with the same channels; got the "
            f"classes {names} and {channels} channels"
        )
    series.x[:] = [interpolated(values) for values in series.x]
    x = series.stacked(max(map(len, series.x)))
    y = np.array([names.index(label) for label in series.y])
    rows = np.arange(len(y) - series.tests)
    if series.tests:
        test = np.arange(len(rows), len(y))
    else:
        rows, test = running.divide(len(y), labels=y)
    kept, held_out = running.divide(len(rows), labels=y[rows])
    parts = []
    for part in (rows[kept], rows[held_out], test):
        chosen = part[running.limited(len(part), limit)]
        parts.append((x[chosen], y[chosen]))
    return running.Splits(*parts, class_names=names)


def interpolated(values: np.ndarray) -> np.ndarray:
    """A series of shape (steps, channels) without missing values; 0 where a channel has none."""
    if not np.isnan(values).any():
        return values
    table = pd.DataFrame(values).interpolate(limit_direction="both")
    return table.fillna(0).to_numpy("float32")


def _read(data: str) -> Series:
    if data == "generated":
        return generated(600, seed=0)
    path = Path(data) if Path(data).suffix else _shipped(data)
    if path.suffix not in SUFFIXES or not path.is_file():
        raise ValueError(
            f"`--data` must be generated, an existing file {', '.join(SUFFIXES)}, or a data set "
            f"of the package aeon, such as GunPoint, if that is installed; got {data!r}"
        )
    return read_series(path)


def _shipped(name: str) -> Path:
    """The file of a data set in the package aeon, which is not imported for it."""
    package = importlib.util.find_spec("aeon")
    if package is None or package.origin is None:
        return Path(name)
    return Path(package.origin).parent / "datasets" / "data" / name / f"{name}_TRAIN.ts"


def generated(count: int, seed: int) -> Series:
    """A bump, a step, a ramp or a wave in noise, of 64 steps."""
    rng = np.random.default_rng(seed)
    time = np.arange(64)
    series, labels = [], []
    for i in range(count):
        at, size = rng.uniform(16, 48), rng.uniform(0.8, 1.6)
        shapes = {
            "bump": np.exp(-(((time - at) / 5) ** 2)),
            "step": (time > at).astype(float),
            "ramp": np.clip((time - at) / 12 + 0.5, 0, 1),
            "wave": 0.5 + 0.5 * np.sin((time - at) / rng.uniform(3, 6)),
        }
        label = list(shapes)[i % len(shapes)]
        values = size * shapes[label] + rng.normal(0, 0.3, len(time))
        series.append(values[:, np.newaxis])
        labels.append(label)
    return Series(series, labels)


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A fully convolutional network (Wang et al. 2017), a strong baseline of the UCR archive."""
    splits = _splits()
    series = keras.Input(splits.training[0].shape[1:], name="series")
    x = standardised()(series)
    for width, kernel in ((64, 8), (128, 5), (64, 3)):
        x = layers.Conv1D(width, kernel, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(series, layers.Dense(len(splits.class_names), activation="softmax")(x))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class NearestNeighbour:
    """The class of the nearest training or validation series, by Euclidean distance."""

    def __init__(self, data: running.Splits, budget: running.Budget) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        x, y = (
            np.concatenate(parts) for parts in zip(data.training, data.validation, strict=True)
        )
        self._classes = len(data.class_names)
        self.model = KNeighborsClassifier(1).fit(x.reshape(len(x), -1), y)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """One-hot vectors of the classes."""
        return np.eye(self._classes)[self.model.predict(x.reshape(len(x), -1))]


RECIPE = running.Recipe(
    name="time-series-classification",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=running.accuracy,
    baselines={
        "convolutions": running.network(baseline_model, OBJECTIVE),
        "nearest neighbour": NearestNeighbour,
    },
    data="generated, a .ts, .npz or .parquet file, or a data set in the package aeon",
    trials=15,
    epochs=20,
    batch_size=16,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

"""Series with a label each: classification and regression."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    REGRESSION,
    Classes,
    Draft,
    Request,
    Starter,
    checked_classes,
)
from keras_nas_plugin.starters.series_data import Series, list_columns, read_series
from keras_nas_plugin.starters.writing import constant, imported, module

# Bytes in memory for each byte of a file.
_EXPANSION = {".npz": 8, ".ts": 10, ".parquet": 12}


class SeriesStarter(Starter):
    """`.ts`, `.npz` and Parquet files with a series and a label per row."""

    kind = "time series"
    tasks = (CLASSIFICATION, REGRESSION)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        if source.suffix == ".parquet":
            return bool(list_columns(source))
        return source.is_file() and source.suffix in (".ts", ".npz")

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        path = request.source
        size = path.stat().st_size
        if size == 0:
            raise SourceError(f"`{path}` must have series; it is empty")
        needed = size * _EXPANSION[path.suffix]
        request.check_memory(path, needed, "Store fewer steps or series")
        series = read_series(path, request.target)
        task, guesses = _task(request, series)
        findings, classes = [], None
        if task == CLASSIFICATION:
            own = series.y[: len(series.y) - series.tests]
            classes = checked_classes(dict(Counter(own)), f"`{path}`", "series")
            findings += classes.findings
        elif _numbers(series.y) is None:
            raise SourceError(f"labels in `{path}` must be numbers for --task regression")
        length, channels = _shape(path, series, findings)
        if series.tests:
            findings.append(
                f"The {series.tests:,} series of the official test set are the test data."
            )
        recipe = _recipe(request, findings, classes, length, channels, len(series.x))
        summary = f"{len(series.x):,} series of {length} steps"
        return Draft(recipe, task, summary, findings, guesses)


def _task(request: Request, series: Series) -> tuple[str, list[str]]:
    """The task, and how it was guessed."""
    if request.task is not None:
        return request.task, []
    numbers = _numbers(series.y)
    is_class = numbers is None or (not (numbers % 1).any() and len(set(series.y)) <= 50)
    task, alternative = CLASSIFICATION, REGRESSION
    if not is_class:
        task, alternative = alternative, task
    return task, [
        f"Task: {task}, since there are {len(set(series.y)):,} different labels; "
        f"`--task {alternative}` overrides this."
    ]


def _shape(path: Path, series: Series, findings: list[str]) -> tuple[int, int]:
    """Steps and channels of the series; what is noticed is added to ``findings``.

    Raises:
        SourceError: They have no steps, or not the same channels.
    """
    channels = {values.shape[1] for values in series.x}
    if len(channels) > 1:
        raise SourceError(
            f"`{path}` must have as many channels in each series; got {sorted(channels)}"
        )
    lengths = [len(values) for values in series.x]
    length = max(lengths)
    if min(lengths) == 0:
        raise SourceError(f"`{path}` must have series of at least one step; one is empty")
    if min(lengths) < length:
        findings.append(
            f"Series have {min(lengths)} to {length} steps: the last step of shorter ones is "
            "repeated, and so must be that of those that are predicted."
        )
    missing = sum(bool(np.isnan(values).any()) for values in series.x)
    if missing:
        findings.append(f"{missing:,} series have missing values, which are replaced by the mean.")
    return length, channels.pop()


def _numbers(labels: list[str]) -> np.ndarray | None:
    try:
        return np.array(labels, dtype=float)
    except ValueError:
        return None


def _recipe(
    request: Request,
    findings: list[str],
    classes: Classes | None,
    length: int,
    channels: int,
    count: int,
) -> str:
    weighted = classes is not None and not classes.balanced
    names = "None" if classes is None else "CLASS_NAMES"
    target = ", target=TARGET" if request.target else ""
    weight = '\n        "class_weight": class_weights(y),' if weighted else ""
    of_each = "" if classes is None else ", of each class"
    data = f'''
@cached
def load_data():
    """60 percent of the series to train, 20 to validate, and 20 to test{of_each}."""
    (x, y), validation, test = series_splits(
        DATA, {names}, length=LENGTH{target}, seed=SEED
    )
    return {{
        "x": x,
        "y": y,
        "validation_data": validation,
        "test_data": test,{weight}
    }}
'''
    if classes is None:
        head = "outputs=1"
        output = (
            'y = load_data()["y"]\n'
            "    scale = keras.layers.Normalization(\n"
            "        mean=y.mean(), variance=y.var(), invert=True\n    )\n"
            "    output = scale(NETWORK.connect(hp, x))"
        )
        loss, metric = "mean_squared_error", "mean_absolute_error"
    else:
        head, output = "classes=len(CLASS_NAMES)", "output = NETWORK.connect(hp, x)"
        loss, metric = "sparse_categorical_crossentropy", "accuracy"
    model = f'''
def build_model(hp):
    """A model of raw series: standardised channels, then a network of `sequence_1d`."""
    inputs = keras.Input((LENGTH, CHANNELS), name="series")
    rows = load_data()["x"]
    mean, variance = np.nanmean(rows, axis=(0, 1)), np.nanvar(rows, axis=(0, 1))
    x = keras.ops.where(keras.ops.isnan(inputs), mean, inputs)
    x = keras.layers.Normalization(mean=mean, variance=variance)(x)
    {output}
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    loss = "{loss}"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["{metric}"])
    return model
'''
    task = REGRESSION if classes is None else CLASSIFICATION
    rows = round(0.6 * count)
    constants = [f"DATA = {request.path_code}"]
    constants += [constant("TARGET", request.target)] if request.target else []
    constants += [] if classes is None else [constant("CLASS_NAMES", classes.names)]
    return module(
        title=f"{task.capitalize()} of the series in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "import numpy as np",
            "",
            "from keras_nas_plugin.space.presets import sequence_1d",
            imported(["cached", "series_splits", *(["class_weights"] if weighted else [])]),
        ],
        constants=[
            *constants,
            constant("OBJECTIVE", "val_loss" if classes is None else "val_accuracy"),
            constant("SEED", 0, "of the split"),
            constant("LENGTH", length, "steps of a series"),
            constant("CHANNELS", channels),
            f"NETWORK = sequence_1d(\n    (LENGTH, CHANNELS), {head}, rows={rows}\n)",
        ],
        functions=[data, model],
    )

"""Search for a network that predicts a column of a table, and compare it with gradient boosting.

    keras-nas search recipes/tabular.py --max-trials 20 --epochs 30
    python recipes/tabular.py --max-trials 20 --epochs 30 --baseline
    python recipes/tabular.py --data adult --limit 5000 --baseline
    python recipes/tabular.py --data flowers.csv:species --baseline
    python recipes/tabular.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `breast_cancer` (569 rows, the default), `wine` (178) and `diabetes` (442, a number to predict),
  which scikit-learn has on board;
* `california_housing` (20,640, a number to predict) and `adult` (48,842, with texts and missing
  values), which scikit-learn downloads from figshare and openml.org, checks and stores;
* a CSV file with a header; the column to predict is the last one, or that of `FILE.csv:COLUMN`.

The models take raw rows: standardisation, missing values and categories are layers inside them.
Networks seldom beat gradient boosting on tables of this size (Grinsztajn et al. 2022, "Why do
tree-based models still outperform deep learning on typical tabular data?"): `--baseline` says who
wins on yours.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from keras import layers, ops

from keras_nas_plugin.recipes import running
from keras_nas_plugin.space import Layer, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.presets import tabular

OBJECTIVE = "val_loss"  # for classes and for numbers
SHIPPED = ("breast_cancer", "wine", "diabetes")
DOWNLOADED = ("california_housing", "adult")
MOST_CLASSES = 20  # a column with more distinct integers is a number to predict
RARE = 5  # texts in fewer training rows are one category, as are texts that are new


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table in three splits, and what the layers inside the models need of its training rows.

    Attributes:
        splits: Inputs are ``{"numbers": ..., "texts": ...}``, or the array of numbers alone.
        classes: Number of classes; 0 for a number to predict.
        means: Of the numeric columns, without missing values.
        variances: The same.
        vocabularies: Frequent texts of each text column.
        target_scale: Mean and standard deviation of a number to predict.
    """

    splits: running.Splits
    classes: int
    means: np.ndarray
    variances: np.ndarray
    vocabularies: tuple[tuple[str, ...], ...]
    target_scale: tuple[float, float]

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self.splits.training[1])


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build one network of the preset `tabular` behind the layers that prepare raw rows."""
    return _space(_table()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(table: Table) -> SpaceHyperModel:
    columns = len(table.means)
    network = tabular(
        columns + len(table.vocabularies),
        classes=table.classes or None,
        outputs=None if table.classes else 1,
        categories={columns + i: len(v) + 1 for i, v in enumerate(table.vocabularies)} or None,
        rows=table.rows,
    )
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    return SpaceHyperModel(
        Sequential(
            prepare=Layer(prepared),
            layers=network.space,
            unit=Layer(unit_of, classes=table.classes),
        ),
        inputs=_inputs(table),
        compile={**network.compile, "learning_rate": rate},
        check=False,
    )


def _inputs(table: Table) -> dict[str, Any]:
    inputs: dict[str, Any] = {"numbers": (len(table.means),)}
    if table.vocabularies:
        shape = (len(table.vocabularies),)
        inputs["texts"] = keras.Input(shape, dtype="string", name="texts")
    return inputs


def prepared() -> Any:
    """Standardises numbers, sets missing ones to the mean, and numbers the texts."""
    table = _table()

    def call(inputs: Any) -> keras.KerasTensor:
        numbers, *texts = inputs if isinstance(inputs, list) else [inputs]
        x = layers.Normalization(mean=table.means, variance=table.variances)(numbers)
        parts = [ops.where(ops.isnan(x), 0.0, x)]
        for column, words in enumerate(table.vocabularies):
            lookup = layers.StringLookup(vocabulary=list(words), num_oov_indices=1)
            category = lookup(texts[0][:, column : column + 1])
            parts.append(ops.cast(category, "float32"))
        return layers.Concatenate()(parts) if len(parts) > 1 else parts[0]

    return call


def unit_of(classes: int) -> Any:
    """Returns a number to predict in its own unit; nothing for classes."""
    mean, deviation = _table().target_scale
    return (lambda x: x) if classes else layers.Rescaling(deviation, offset=mean)


# The data


def load_data() -> dict[str, Any]:
    """Load the table that `--data` names, in three splits."""
    return _table().splits.as_mapping()


def _table() -> Table:
    return _load(*running.data_settings(SHIPPED[0]))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> Table:
    columns, target = _read(data)
    labels, names = _labels(target, where=data)
    kept, test = running.divide(len(target), labels=labels if names else None)
    first, second = running.divide(len(kept), labels=labels[kept] if names else None)
    training, validation, test = (
        part[running.limited(len(part), limit)] for part in (kept[first], kept[second], test)
    )

    numeric = columns.select_dtypes(["number", "bool"])
    texts = columns.drop(columns=numeric.columns).astype("string").fillna("")
    numbers = numeric.to_numpy("float32", na_value=np.nan)
    with np.errstate(invalid="ignore"):
        means, variances = np.nanmean(numbers[training], 0), np.nanvar(numbers[training], 0)
    y = labels[training]
    return Table(
        running.Splits(
            *(
                (_rows(numbers[rows], texts.iloc[rows]), labels[rows])
                for rows in (training, validation, test)
            ),
            class_names=names or None,
        ),
        classes=len(names),
        means=np.nan_to_num(means),
        variances=np.nan_to_num(variances, nan=1.0),
        vocabularies=tuple(_frequent(texts[name].iloc[training]) for name in texts),
        target_scale=(float(y.mean()), float(y.std()) or 1.0),
    )


def _rows(numbers: np.ndarray, texts: pd.DataFrame) -> Any:
    if texts.shape[1] == 0:
        return numbers
    import tensorflow as tf  # Keras takes texts as tensors only

    return {"numbers": numbers, "texts": tf.constant(texts.to_numpy(dtype=object).tolist())}


def _frequent(column: pd.Series) -> tuple[str, ...]:
    counts = column.value_counts()
    return tuple(sorted(text for text, count in counts.items() if text and count >= RARE))


def _labels(target: pd.Series, *, where: str) -> tuple[np.ndarray, list[str]]:
    """Class numbers and their names, or numbers to predict and no names."""
    if target.isna().any():
        raise ValueError(
            f"{where}: the column {target.name!r} to predict must have a value in every row; "
            f"{int(target.isna().sum())} are missing"
        )
    distinct = target.nunique()
    if distinct < 2:
        raise ValueError(
            f"{where}: the column {target.name!r} to predict must have two values or more; "
            f"got {distinct}"
        )
    numeric = pd.api.types.is_numeric_dtype(target)
    if numeric and (distinct > MOST_CLASSES or np.any(target.to_numpy() % 1)):
        return target.to_numpy("float32"), []
    values, names = pd.factorize(target, sort=True)
    return values.astype("int64"), [str(name) for name in names]


def _read(data: str) -> tuple[pd.DataFrame, pd.Series]:
    """The columns to predict from, and the column to predict."""
    from sklearn import datasets

    if data in SHIPPED:
        loaded = getattr(datasets, f"load_{data}")(as_frame=True)
        names = getattr(loaded, "target_names", None)
        target = loaded.target if names is None else loaded.target.map(dict(enumerate(names)))
        return loaded.data, target
    if data == "california_housing":
        loaded = datasets.fetch_california_housing(as_frame=True)
        return loaded.data, loaded.target
    if data == "adult":
        loaded = datasets.fetch_openml("adult", version=2, as_frame=True)
        return loaded.data, loaded.target
    path, _, column = data.partition(".csv:")
    file = Path(f"{path}.csv" if column else path)
    if file.suffix != ".csv" or not file.is_file():
        raise ValueError(
            f"`--data` must be {', '.join(SHIPPED + DOWNLOADED)} or an existing file FILE.csv or "
            f"FILE.csv:COLUMN; got {data!r}"
        )
    try:
        table = pd.read_csv(file)
    except ValueError as error:  # also of pandas' parser
        raise ValueError(f"{file} must be a CSV file in UTF-8: {error}") from error
    column = column or str(table.columns[-1])
    if column not in table or table.shape[1] < 2:
        raise ValueError(
            f"{file} must have the column {column!r} to predict, and others; got "
            f"{', '.join(map(str, table.columns))}"
        )
    return table.drop(columns=column), table[column]


# The recipe as a program


class GradientBoosting:
    """scikit-learn's gradient boosting behind the `predict` of a network.

    It is fitted once for each trial of the search, or until the time is used up, with other
    settings; the fit with the best validation score predicts. The first has scikit-learn's own
    settings.
    """

    def __init__(self, data: running.Splits, budget: running.Budget) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
        from sklearn.ensemble import HistGradientBoostingRegressor as Regressor

        self._classes = data.class_names is not None
        rng = np.random.default_rng(budget.seed)
        fitted, start = [], time.monotonic()
        for trial in range(budget.trials):
            if budget.seconds and time.monotonic() - start > budget.seconds:
                break
            settings = {
                "learning_rate": float(np.exp(rng.uniform(np.log(0.02), np.log(0.3)))),
                "max_leaf_nodes": int(rng.integers(4, 64)),
                "min_samples_leaf": int(rng.integers(2, 40)),
                "l2_regularization": float(rng.uniform(0, 1)),
            }
            model = (Classifier if self._classes else Regressor)(
                random_state=budget.seed, **(settings if trial else {})
            )
            model.fit(_frame(data.training[0]), data.training[1])
            fitted.append((model.score(_frame(data.validation[0]), data.validation[1]), model))
        self.model = max(fitted, key=lambda pair: pair[0])[1]

    def predict(self, x: Any) -> np.ndarray:
        """Probabilities of the classes, or numbers."""
        if self._classes:
            return self.model.predict_proba(_frame(x))
        return self.model.predict(_frame(x))


def _frame(x: Any) -> pd.DataFrame:
    """Raw rows as a table whose texts are categories, which scikit-learn takes as such."""
    if not isinstance(x, dict):
        return pd.DataFrame(x)
    words = _table().vocabularies
    frame = pd.DataFrame(x["numbers"])
    for column, texts in enumerate(x["texts"].numpy().astype(str).T):
        frequent = pd.Series(texts).where(np.isin(texts, words[column]))
        frame[f"text{column}"] = pd.Categorical(frequent, categories=words[column])
    frame.columns = frame.columns.astype(str)
    return frame


def score(model: running.Predictor, x: Any, y: np.ndarray) -> dict[str, float]:
    """Accuracy, or the coefficient of determination of numbers: 0 is what the mean predicts."""
    if _table().classes:
        return running.accuracy(model, x, y)
    from sklearn.metrics import r2_score

    return {"r2": float(r2_score(y, np.ravel(running.predict(model, x))))}


RECIPE = running.Recipe(
    name="tabular",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"gradient boosting": GradientBoosting},
    data=f"{', '.join(SHIPPED + DOWNLOADED)}, or FILE.csv[:COLUMN]",
    trials=20,
    epochs=30,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

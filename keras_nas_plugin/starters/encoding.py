"""Columns of a table as features, by Keras layers inside the model.

The layers and operations are Keras' own, so that a saved model needs nothing of this package.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

_DIGITS = [str(digit) for digit in range(10)]
# Digits of the parts of a date, by the directives of `datetime.strptime`.
_WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}


def column_inputs(columns: Mapping[str, np.ndarray]) -> dict[str, keras.KerasTensor]:
    """One input of shape ``(1,)`` for each column, of the type of its values.

    Args:
        columns: Training rows by column. In Keras, ``_`` takes the place of ``/`` in a name.
    """
    import keras

    def dtype(values: np.ndarray) -> str:
        return "string" if values.dtype.kind in "OSU" else values.dtype.name

    return {
        name: keras.Input((1,), dtype=dtype(values), name=name.replace("/", "_"))
        for name, values in columns.items()
    }


def scaled_number(x: keras.KerasTensor, values: np.ndarray) -> keras.KerasTensor:
    """A number with mean 0 and standard deviation 1, and 0 where it is missing.

    If numbers of the training rows are missing, a second feature is 1 where they are.

    Args:
        x: The input, shape ``(batch, 1)``.
        values: The training rows; NaN where a number is missing.

    Returns:
        A tensor of shape ``(batch, 1)`` or ``(batch, 2)``.
    """
    from keras import layers, ops

    present = np.asarray(values, "float64")
    present = present[~np.isnan(present)]
    missing = ops.isnan(x)
    mean, variance = (present.mean(), present.var()) if len(present) else (0.0, 1.0)
    scale = layers.Normalization(mean=float(mean), variance=float(variance or 1.0))
    scaled = scale(ops.where(missing, float(mean), x))
    if len(present) == len(values):
        return scaled
    return layers.Concatenate()([scaled, ops.cast(missing, "float32")])


def date_features(x: keras.KerasTensor, values: np.ndarray, pattern: str) -> keras.KerasTensor:
    """Features of a date that is written with digits in fixed positions.

    Its age in years (mean 0 and standard deviation 1), its positions in the year, in the week and,
    if ``pattern`` has hours, in the day, each as sine and cosine, and whether it is missing.

    Args:
        x: The input, texts of shape ``(batch, 1)``.
        values: The training rows; empty where a date is missing.
        pattern: As in `datetime.strptime`, for example ``"%Y-%m-%d %H:%M"``.

    Returns:
        A tensor of shape ``(batch, 6)``, or ``(batch, 8)`` with hours.
    """
    import pandas as pd
    from keras import layers, ops

    positions = _positions(pattern)
    length = max(end for _, end in positions.values())
    characters = layers.TextVectorization(
        vocabulary=_DIGITS, standardize=None, split="character", output_sequence_length=length
    )
    # 0 is padding, 1 any other character, and 2 the digit 0.
    tokens = ops.cast(characters(x), "float32")
    digits = ops.maximum(tokens - 2.0, 0.0)

    def part(name: str, default: float) -> Any:
        if name not in positions:
            return ops.zeros_like(digits[:, :1]) + default
        start, end = positions[name]
        powers = np.array([10.0 ** (end - 1 - i) for i in range(start, end)], "float32")
        return ops.sum(digits[:, start:end] * powers, axis=-1, keepdims=True)

    year, month, day = part("Y", 2000.0), part("m", 1.0), part("d", 1.0)
    missing = ops.cast(tokens[:, positions["Y"][0] : positions["Y"][0] + 1] < 2.0, "float32")
    present = 1.0 - missing
    in_year = (month - 1.0) / 12.0 + (day - 1.0) / 372.0
    texts = pd.Series(values[values != ""], dtype=object).str.replace("T", " ", regex=False)
    dates = pd.to_datetime(texts, format=pattern, errors="coerce")
    years = (dates.dt.year + (dates.dt.month - 1) / 12 + (dates.dt.day - 1) / 372).dropna()
    mean, deviation = (years.mean(), years.std(ddof=0)) if len(years) else (2000.0, 1.0)
    age = (year - float(mean) + in_year) / float(deviation or 1.0) * present
    # The number of the day in the Gregorian calendar, with years that begin in March.
    shifted = year - ops.cast(month < 3.0, "float32")
    months = ops.mod(month + 9.0, 12.0)
    leap = ops.floor(shifted / 4.0) - ops.floor(shifted / 100.0) + ops.floor(shifted / 400.0)
    number = 365.0 * shifted + leap + ops.floor((153.0 * months + 2.0) / 5.0) + day
    circles = [in_year, ops.mod(number, 7.0) / 7.0]
    if "H" in positions:
        circles.append(part("H", 0.0) / 24.0 + part("M", 0.0) / 1440.0)
    features = [age, missing]
    for circle in circles:
        angle = circle * (2.0 * math.pi)
        features += [ops.sin(angle) * present, ops.cos(angle) * present]
    return layers.Concatenate()(features)


def _positions(pattern: str) -> dict[str, tuple[int, int]]:
    """First and last position of each part of a date.

    >>> _positions("%d.%m.%Y")
    {'d': (0, 2), 'm': (3, 5), 'Y': (6, 10)}
    """
    positions, position = {}, 0
    for directive, character in re.findall(r"%(\w)|(.)", pattern):
        width = _WIDTHS.get(directive, 1)
        if directive:
            positions[directive] = (position, position + width)
        position += width if directive else len(character)
    return positions


def frequent_words(
    x: keras.KerasTensor, values: np.ndarray, words: int = 1000
) -> keras.KerasTensor:
    """Which of the most frequent words a text has.

    Args:
        x: The input, texts of shape ``(batch, 1)``.
        values: The training rows.
        words: Number of words.

    Returns:
        Zeros and ones of shape ``(batch, words)``, or fewer where there are fewer words.
    """
    from keras import layers

    vocabulary = _vocabulary(tuple(values), words)
    return layers.TextVectorization(vocabulary=vocabulary, output_mode="multi_hot")(x)


@functools.lru_cache(maxsize=16)  # every model of a search has the same
def _vocabulary(texts: tuple[str, ...], words: int) -> list[str]:
    from keras import layers

    layer = layers.TextVectorization(max_tokens=words, output_mode="multi_hot")
    layer.adapt(np.asarray(texts, dtype=str))
    return list(layer.get_vocabulary(include_special_tokens=False))

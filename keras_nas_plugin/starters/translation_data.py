"""Texts with their translations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.starters.splits import at_random
from keras_nas_plugin.starters.table_data import read_table


def pair_splits(
    path: str | Path, source: str, target: str, *, seed: int = 0
) -> tuple[dict[str, np.ndarray], ...]:
    """Training, validation and test pairs, 60, 20 and 20 percent.

    Args:
        path: See `read_table`.
        source: The column of texts.
        target: The column of their translations; pairs without one of both are left out.
        seed: Seed of the split.

    Returns:
        Three dictionaries of ``source`` and ``target``, arrays of texts of shape (n,).
    """
    table = read_table(path)
    table = table[(table[source] != "") & (table[target] != "")]
    texts = {"source": table[source].to_numpy(), "target": table[target].to_numpy()}
    parts = at_random(len(table), seed=seed)
    return tuple({name: values[rows] for name, values in texts.items()} for rows in parts)


def next_words(
    texts: np.ndarray, vocabulary: Sequence[str], *, length: int, end: int
) -> np.ndarray:
    """What a decoder is to predict after each word: the next one, and that the text ends.

    >>> next_words(np.array(["a b"]), ["a", "b"], length=3, end=9)
    array([[2, 3, 9, 0]])

    Args:
        texts: Texts, shape (n,).
        vocabulary: Words, which `keras.layers.TextVectorization` numbers from 2.
        length: Words that are read of each text.
        end: The number of the end.

    Returns:
        Numbers of words, int64 of shape (n, length + 1), with zeros after the end.
    """
    import keras

    layer = keras.layers.TextVectorization(
        vocabulary=list(vocabulary), output_sequence_length=length
    )
    tokens = keras.ops.convert_to_numpy(layer(np.asarray(texts, dtype=str))).astype("int64")
    labels = np.pad(tokens, ((0, 0), (0, 1)))
    labels[np.arange(len(labels)), (tokens > 0).sum(axis=1)] = end
    return labels


def translate(
    model: Any, texts: Sequence[str], vocabulary: Sequence[str], *, length: int
) -> list[str]:
    """Translate texts with a registered model, word by word: always the most likely one.

    Args:
        model: What `mlflow.pyfunc.load_model` returned for a model of a translation recipe. It
            takes the columns ``source`` and ``target``, the translation so far.
        texts: Texts to translate.
        vocabulary: Words of the translations, as `vocabularies` of the recipe returns them.
        length: The largest number of words; the recipe's ``LENGTHS[1]``.
    """
    import pandas as pd

    translations: list[list[str]] = [[] for _ in texts]
    finished = np.zeros(len(texts), dtype=bool)
    for step in range(length):
        so_far = [" ".join(words) for words in translations]
        rows = pd.DataFrame({"source": list(texts), "target": so_far})
        # The first two numbers are padding and unknown words.
        likely = np.asarray(model.predict(rows))[:, step, 2:].argmax(axis=-1)
        finished |= likely >= len(vocabulary)
        if finished.all():
            break
        for words, number, done in zip(translations, likely, finished, strict=True):
            if not done:
                words.append(vocabulary[number])
    return [" ".join(words) for words in translations]

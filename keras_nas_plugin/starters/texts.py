"""Texts in class folders or in a column of a table: classification."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    Classes,
    Draft,
    Request,
    Starter,
    checked_classes,
)
from keras_nas_plugin.starters.folders import class_folders, has_files
from keras_nas_plugin.starters.text_data import SUFFIXES, read_text
from keras_nas_plugin.starters.writing import constant, imported, module

# Bytes in memory for each byte of texts.
_EXPANSION = 6
_MOST_WORDS, _MOST_TOKENS = 20_000, 256
# Texts with longer words on average are of a language without spaces.
_LONGEST_WORDS = 20


class TextStarter(Starter):
    """A folder with a folder of texts for each class."""

    kind = "texts"
    tasks = (CLASSIFICATION,)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return has_files(source, SUFFIXES)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        folders = class_folders(request.source, SUFFIXES, "texts")
        classes = checked_classes(folders.counts, f"`{request.source}`", "texts")
        files = [path for name in classes.names for path in folders.files[name]]
        size = sum(path.stat().st_size for path in files) * _EXPANSION
        request.check_memory(
            request.source,
            size,
            "Write the texts to a Parquet file with the columns `text` and `label`, which is read "
            "in parts",
        )
        texts = [read_text(path) for path in files]
        empty = sum(not text.strip() for text in texts)
        findings = [*folders.findings, *classes.findings]
        if empty:
            findings.append(f"{empty:,} texts are empty.")
        if empty == len(texts):
            raise SourceError(f"`{request.source}` must have texts with words; all are empty")
        guesses = [] if request.task else ["Task: classification, since each folder is a class."]
        return text_draft(request, texts, classes, findings, guesses, column=None)


def text_draft(
    request: Request,
    texts: Sequence[str],
    classes: Classes,
    findings: list[str],
    guesses: list[str],
    *,
    column: tuple[str, str] | None,
) -> Draft:
    """The recipe of a classifier of texts.

    Args:
        request: What is asked for.
        texts: The texts.
        classes: Their classes.
        findings: See `Draft`.
        guesses: See `Draft`.
        column: Names of the columns of texts and of classes; None for class folders.
    """
    words = Counter(word for text in texts for word in re.findall(r"\w+", text.lower()))
    characters = sum(map(len, words)) / max(1, len(words)) > _LONGEST_WORDS
    if characters:
        findings = [*findings, "The texts have no spaces between words: tokens are characters."]
        words = Counter(character for text in texts for character in text)
    lengths = [len(text) if characters else len(text.split()) for text in texts]
    length = int(np.clip(np.quantile(lengths, 0.95), 8, _MOST_TOKENS))
    cut = sum(number > length for number in lengths)
    if cut:
        unit = "characters" if characters else "words"
        findings = [*findings, f"{cut:,} texts have more than {length} {unit} and are cut there."]
    vocabulary = min(_MOST_WORDS, sum(count > 1 for count in words.values()) + 2)
    vocabulary = max(vocabulary, 100)
    recipe = _recipe(
        request, findings, classes, column, vocabulary, length, characters, len(texts)
    )
    summary = f"{len(texts):,} texts of {len(classes.names)} classes"
    return Draft(recipe, CLASSIFICATION, summary, findings, guesses)


def _recipe(
    request: Request,
    findings: Sequence[str],
    classes: Classes,
    column: tuple[str, str] | None,
    words: int,
    length: int,
    characters: bool,
    count: int,
) -> str:
    helpers = ["cached", "stratified", *([] if classes.balanced else ["class_weights"])]
    if column is None:
        helpers.append("read_texts")
        read = "    texts, labels = read_texts(DATA, CLASS_NAMES)"
    else:
        helpers += ["labels_of", "read_table"]
        read = """    table = read_table(DATA)
    table = table[table[TARGET].isin(CLASS_NAMES)]
    texts, labels = table[TEXT].to_numpy(), labels_of(table[TARGET], CLASS_NAMES)"""
    weight = "" if classes.balanced else '\n        "class_weight": class_weights(y),'
    split = ', split="character"' if characters else ""
    data = f'''
@cached
def load_data():
    """60 percent of the texts to train, 20 to validate, and 20 to test, of each class."""
{read}
    parts = [(texts[rows], labels[rows]) for rows in stratified(labels, seed=SEED)]
    (x, y), validation, test = parts
    return {{
        "x": x,
        "y": y,
        "validation_data": validation,
        "test_data": test,{weight}
    }}
'''
    vocabulary = f'''
@cached
def vocabulary():
    """The most frequent words of the training texts."""
    layer = keras.layers.TextVectorization(WORDS{split})
    layer.adapt(load_data()["x"].astype(str))
    return layer.get_vocabulary(include_special_tokens=False)
'''
    name = "text" if column is None else "TEXT"
    quoted = '"text"' if column is None else name
    model = f'''
def build_model(hp):
    """A model of raw texts: words to numbers, then a network of `text_transformer`."""
    inputs = keras.Input((1,), dtype="string", name={quoted})
    x = keras.layers.TextVectorization(
        vocabulary=vocabulary(), output_sequence_length=LENGTH{split}
    )(inputs)
    output = NETWORK.connect(hp, x)
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 2e-4, 5e-3, sampling="log", default=1e-3)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model
'''
    constants = [f"DATA = {request.path_code}"]
    if column is not None:
        constants += [constant("TEXT", column[0]), constant("TARGET", column[1])]
    constants += [
        constant("CLASS_NAMES", classes.names),
        constant("OBJECTIVE", "val_accuracy"),
        constant("SEED", 0, "of the split"),
        constant("WORDS", words, "of the vocabulary; all others share a number"),
        constant("LENGTH", length, "words that are read of each text"),
        "NETWORK = text_transformer(\n    vocabulary=WORDS, length=LENGTH, "
        f"classes=len(CLASS_NAMES), rows={round(0.6 * count)}\n)",
    ]
    return module(
        title=f"Classification of the texts in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import text_transformer",
            imported(helpers),
        ],
        constants=constants,
        functions=[data, vocabulary, model],
    )

"""Tables with a column of texts and one of their translations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import TRANSLATION, Draft, Request, Starter, listed
from keras_nas_plugin.starters.table import Inspected, is_table
from keras_nas_plugin.starters.writing import constant, imported, module

_MOST_WORDS, _MOST_TOKENS = 15_000, 64
_FEWEST_PAIRS = 20


class TranslationStarter(Starter):
    """CSV, TSV and Parquet files with two columns of texts."""

    kind = "texts with translations"
    tasks = (TRANSLATION,)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return is_table(source)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        inspected = Inspected(request)
        if inspected.streamed:
            raise SourceError(
                f"`{request.source}` must fit into memory with {inspected.size / 1e6:,.0f} MB; "
                f"{request.available / 1e6:,.0f} MB are available"
            )
        table, findings = inspected.table, inspected.findings
        # Columns of texts have other characters than digits, and hardly two equal values.
        columns = [
            name
            for name in table.columns
            if table[name].str.contains(r"[^\W\d]").mean() > 0.5
            and table[name].nunique() > 0.5 * len(table)
        ]
        target, guesses = request.target, []
        if target is None and len(columns) == 2:
            target = columns[1]
            guesses.append(
                f"From `{columns[0]}` to `{target}`; `--target {columns[0]}` overrides this."
            )
        if target not in columns or len(columns) != 2:
            raise SourceError(
                f"`{request.source}` must have two columns of texts, of which `--target` names "
                f"the translations; got the columns of texts {listed(columns) or 'none'}, and the "
                f"target {target}"
            )
        source = next(name for name in columns if name != target)
        complete = (table[source] != "") & (table[target] != "")
        if not complete.all():
            findings.append(f"{int((~complete).sum()):,} rows without a text are left out.")
        table = table[complete]
        if len(table) < _FEWEST_PAIRS:
            raise SourceError(
                f"`{request.source}` must have at least {_FEWEST_PAIRS} pairs of texts; got "
                f"{len(table)}"
            )
        sizes = [_size(list(table[name])) for name in (source, target)]
        for name, (_, length, cut) in zip((source, target), sizes, strict=True):
            if cut:
                findings.append(f"{cut:,} texts of `{name}` are cut after {length} words.")
        recipe = _recipe(request, findings, source, target, sizes, len(table))
        summary = f"{len(table):,} pairs of texts"
        return Draft(recipe, TRANSLATION, summary, findings, guesses)


def _size(texts: Sequence[str]) -> tuple[int, int, int]:
    """Size of the vocabulary, length of the texts, and how many are longer."""
    words = Counter(word for text in texts for word in re.findall(r"\w+", text.lower()))
    lengths = [len(text.split()) for text in texts]
    length = int(np.clip(np.quantile(lengths, 0.98), 4, _MOST_TOKENS))
    # Padding and unknown words have a number as well.
    vocabulary = min(_MOST_WORDS, sum(count > 1 for count in words.values()) + 2)
    return max(vocabulary, 10), length, sum(number > length for number in lengths)


def _recipe(
    request: Request,
    findings: Sequence[str],
    source: str,
    target: str,
    sizes: Sequence[tuple[int, int, int]],
    count: int,
) -> str:
    data = '''
@cached
def pairs():
    """60 percent of the pairs to train, 20 to validate, and 20 to test, drawn at random."""
    return pair_splits(DATA, SOURCE, TARGET, seed=SEED)


@cached
def vocabularies():
    """The most frequent words of the training texts, and of their translations."""
    words = []
    for name, size in zip(("source", "target"), WORDS):
        layer = keras.layers.TextVectorization(size)
        layer.adapt(pairs()[0][name].astype(str))
        words.append(layer.get_vocabulary(include_special_tokens=False))
    return words


@cached
def load_data():
    """Texts with the correct translation; the model predicts each of its words by those before."""
    words = vocabularies()[1]
    training, validation, test = (
        (texts, next_words(texts["target"], words, length=LENGTHS[1], end=END))
        for texts in pairs()
    )
    return training, validation, test
'''
    model = '''
def build_model(hp):
    """A model of raw texts and of their translation so far, by a network of `seq2seq`."""
    source = keras.Input((1,), dtype="string", name="source")
    target = keras.Input((1,), dtype="string", name="target")
    tokens = [
        keras.layers.TextVectorization(vocabulary=words, output_sequence_length=length)(texts)
        for texts, words, length in zip((source, target), vocabularies(), LENGTHS)
    ]
    start = keras.ops.full_like(tokens[1][:, :1], START)
    so_far = keras.ops.concatenate([start, tokens[1]], axis=1)
    output = NETWORK.connect(hp, tokens[0], so_far)
    model = keras.Model({"source": source, "target": target}, output)
    rate = hp.Float("learning_rate", 2e-4, 5e-3, sampling="log", default=1e-3)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model
'''
    (source_words, source_length, _), (target_words, target_length, _) = sizes
    return module(
        title=f"Translation of `{source}` to `{target}` in {request.source.name}.",
        findings=[
            *findings,
            "`keras_nas_plugin.starters.translate` translates with the registered model.",
        ],
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import seq2seq",
            imported(["cached", "next_words", "pair_splits"]),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("SOURCE", source),
            constant("TARGET", target),
            constant("OBJECTIVE", "val_loss"),
            constant("SEED", 0, "of the split"),
            constant("WORDS", (source_words, target_words), "of the vocabularies"),
            constant(
                "LENGTHS", (source_length, target_length), "words that are read of each text"
            ),
            "END, START = WORDS[1], WORDS[1] + 1  # numbers of the end and the start of a text",
            "NETWORK = seq2seq(\n"
            "    source_vocabulary=WORDS[0],\n"
            "    target_vocabulary=WORDS[1] + 2,\n"
            "    source_length=LENGTHS[0],\n"
            "    target_length=LENGTHS[1] + 1,\n"
            f"    rows={round(0.6 * count)},\n)",
        ],
        functions=[data, model],
    )

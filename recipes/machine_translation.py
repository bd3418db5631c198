"""Search for an encoder-decoder that translates sentences.

    keras-nas search recipes/machine_translation.py --max-trials 10 --epochs 8
    python recipes/machine_translation.py --data sentences.tsv --max-trials 10 --baseline
    python recipes/machine_translation.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: numbers below 10,000 in English and German words, whose order differs (forty-three,
  dreiundvierzig); the default;
* a file of lines `source<TAB>target` or `split<TAB>source<TAB>target`, where the split is train,
  validation or test; UTF-8, compressed if its name ends in `.gz`. Such files are at
  manythings.org/anki (remove their third column), in Multi30k (github.com/multi30k/dataset) and in
  Tatoeba (opus.nlpl.eu). Missing splits are taken from the training sentences.

Words and punctuation marks in lower case are the tokens; rare words are one token. Encoders and
decoders are recurrent, with or without attention to the source, or consist of attention (preset
`seq2seq`). Translations are made word by word, the most probable one each time, and judged by BLEU
(Papineni et al. 2002) and chrF (Popovic 2015) of sacrebleu, which ignore case here:
`pip install sacrebleu`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin.recipes import running
from keras_nas_plugin.recipes.text_classification import read_lines
from keras_nas_plugin.space import SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.presets import seq2seq

OBJECTIVE = "val_loss"
PADDING, START, END, RARE = range(4)
SPECIAL = ("", "<start>", "<end>", "<rare>")
MOST_WORDS = 6_000
LONGEST = 40  # tokens; longer sentences are left out of the training
BATCH = 64  # sentences that are translated at once


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences as token numbers in three splits.

    Attributes:
        splits: ``x`` is ``{"source": tokens, "target": tokens}``, and ``y`` the target's tokens,
            each a step later; 0 is padding.
        source_words: The vocabulary of the source by token number.
        target_words: That of the target.
        references: The translations of the test sentences, as they are in the data.
    """

    splits: running.Splits
    source_words: tuple[str, ...]
    target_words: tuple[str, ...]
    references: tuple[str, ...]


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build one encoder-decoder of the preset `seq2seq`."""
    return _space(_corpus()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(corpus: Corpus) -> SpaceHyperModel:
    x, y = corpus.splits.training
    hypermodel = seq2seq(
        len(corpus.source_words),
        len(corpus.target_words),
        x["source"].shape[1],
        x["target"].shape[1],
        rows=len(y),
    )
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    hypermodel.compile = {**hypermodel.compile, "learning_rate": rate}
    return hypermodel


# The data


def load_data() -> tuple[Any, Any, Any]:
    """Load the sentences that `--data` names, in three splits."""
    splits = _corpus().splits
    return splits.training, splits.validation, splits.test


def _corpus() -> Corpus:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> Corpus:
    pairs = _read(data)
    for missing in (split for split in ("test", "validation") if not pairs.get(split)):
        rows = pairs["train"]
        kept, held_out = running.divide(len(rows))
        pairs["train"], pairs[missing] = ([rows[i] for i in part] for part in (kept, held_out))
    chosen = {
        split: [rows[i] for i in running.limited(len(rows), limit)]
        for split, rows in pairs.items()
    }
    tokens = {
        split: [(tokens_of(source), tokens_of(target)) for source, target in rows]
        for split, rows in chosen.items()
    }
    training = [pair for pair in tokens["train"] if max(map(len, pair)) <= LONGEST]
    if not training:
        raise ValueError(f"{data} must have sentences of at most {LONGEST} words; got none")
    words = [vocabulary([pair[side] for pair in training]) for side in (0, 1)]
    lengths = [max(len(pair[side]) for pair in training) for side in (0, 1)]
    parts = []
    for rows in (training, tokens["validation"], tokens["test"]):
        source = numbered([pair[0] for pair in rows], words[0], lengths[0])
        target = numbered(
            [[SPECIAL[START], *pair[1][: lengths[1]], SPECIAL[END]] for pair in rows],
            words[1],
            lengths[1] + 2,
        )
        parts.append(({"source": source, "target": target[:, :-1]}, target[:, 1:]))
    references = tuple(target for _, target in chosen["test"])
    return Corpus(running.Splits(*parts), *words, references)


def tokens_of(sentence: str) -> list[str]:
    """Words and punctuation marks in lower case.

    >>> tokens_of("Two dogs, running.")
    ['two', 'dogs', ',', 'running', '.']
    """
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def vocabulary(sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The special tokens, and the words that occur twice or more, by frequency."""
    counts = Counter(word for sentence in sentences for word in sentence)
    frequent = [word for word, count in counts.most_common(MOST_WORDS) if count > 1]
    return (*SPECIAL, *frequent)


def numbered(sentences: Sequence[Sequence[str]], words: Sequence[str], length: int) -> np.ndarray:
    """Token numbers of shape (n, length), with PADDING at the end; what is longer is cut off."""
    numbers = {word: number for number, word in enumerate(words)}
    rows = np.full((len(sentences), length), PADDING, "int32")
    for row, sentence in zip(rows, sentences, strict=True):
        tokens = [numbers.get(word, RARE) for word in sentence[:length]]
        row[: len(tokens)] = tokens
    return rows


def _read(data: str) -> dict[str, list[tuple[str, str]]]:
    if data == "generated":
        numbers = np.random.default_rng(0).permutation(10_000)[:3_000]
        return {"train": [(english(int(n)), german(int(n))) for n in numbers]}
    if Path(data).is_file():
        return read_lines(Path(data), ("source", "target"))
    raise ValueError(
        f"`--data` must be generated or an existing file of lines source<TAB>target; got {data!r}"
    )


_ENGLISH = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_GERMAN = """null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn
fünfzehn sechzehn siebzehn achtzehn neunzehn""".split()
_GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()


def english(number: int) -> str:
    """An integer below 10,000 in words.

    >>> english(2043)
    'two thousand forty three'
    """
    return " ".join(_large(number, _ENGLISH, "thousand", "hundred", _english_rest))


def german(number: int) -> str:
    """An integer below 10,000 in words, which are separated, unlike in print.

    >>> german(2143)
    'zwei tausend ein hundert drei und vierzig'
    """
    units = ["null", "ein", *_GERMAN[2:]]
    return " ".join(_large(number, units, "tausend", "hundert", _german_rest))


def _large(number: int, units: list[str], thousand: str, hundred: str, rest: Any) -> list[str]:
    words = []
    for size, name in ((1000, thousand), (100, hundred)):
        count, number = divmod(number, size)
        words += [units[count], name] if count else []
    return words + (rest(number) if number or not words else [])


def _english_rest(number: int) -> list[str]:
    if number < 20:
        return [_ENGLISH[number]]
    tens, unit = divmod(number, 10)
    return [_ENGLISH_TENS[tens - 2], *([_ENGLISH[unit]] if unit else [])]


def _german_rest(number: int) -> list[str]:
    if number < 20:
        return [_GERMAN[number]]
    tens, unit = divmod(number, 10)
    first = ["ein" if unit == 1 else _GERMAN[unit], "und"] if unit else []
    return [*first, _GERMAN_TENS[tens - 2]]


# The metric


def translate(model: keras.Model, source: np.ndarray, steps: int) -> np.ndarray:
    """Translate sentences by the most probable token at each step.

    Args:
        model: Takes ``source`` and ``target`` and predicts the next token at each step.
        source: Token numbers of shape (n, length).
        steps: Largest number of tokens of a translation.

    Returns:
        Token numbers of shape (n, steps), with PADDING from the end of the sentence.
    """
    target = np.full((len(source), steps + 1), PADDING, "int32")
    target[:, 0] = START
    for start in range(0, len(source), BATCH):
        rows = target[start : start + BATCH]  # a view
        open_rows = np.ones(len(rows), bool)
        for step in range(steps):
            inputs = {"source": source[start : start + BATCH], "target": rows[:, :-1]}
            token = np.argmax(model.predict_on_batch(inputs)[:, step], axis=-1)
            open_rows &= (token != END) & (token != PADDING)
            if not open_rows.any():
                break
            rows[open_rows, step + 1] = token[open_rows]
    return target[:, 1:]


def bleu(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of a corpus, from 0 to 100, by sacrebleu, in lower case."""
    import sacrebleu

    hypotheses, answers = list(translations), [list(references)]
    return {
        "bleu": sacrebleu.corpus_bleu(hypotheses, answers, lowercase=True).score,
        "chrf": sacrebleu.corpus_chrf(
            [text.lower() for text in hypotheses], [[text.lower() for text in answers[0]]]
        ).score,
    }


def score(model: keras.Model, x: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
    """BLEU and chrF of the translations of the test sentences."""
    corpus = _corpus()
    rows = translate(model, x["source"], x["target"].shape[1])
    texts = [" ".join(corpus.target_words[token] for token in row if token) for row in rows]
    return bleu(texts, corpus.references)


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A bidirectional GRU, and a GRU with attention to it (Luong et al. 2015)."""
    corpus = _corpus()
    x, _ = corpus.splits.training
    inputs = {name: keras.Input(x[name].shape[1:], name=name) for name in ("source", "target")}
    embedded = [
        layers.Embedding(len(words), 64, mask_zero=True)(inputs[name])
        for name, words in (("source", corpus.source_words), ("target", corpus.target_words))
    ]
    encoder = layers.Bidirectional(layers.GRU(32, return_sequences=True, return_state=True))
    encoded, *states = encoder(embedded[0])
    decoded = layers.GRU(64, return_sequences=True)(
        embedded[1], initial_state=layers.Concatenate()(states)
    )
    context = layers.Attention()([decoded, encoded])
    x = layers.Dense(64, activation="tanh")(layers.Concatenate()([decoded, context]))
    outputs = layers.Dense(len(corpus.target_words), activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    rate = hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


RECIPE = running.Recipe(
    name="machine-translation",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"GRU with attention": running.network(baseline_model, OBJECTIVE)},
    data="generated, or a file of lines source<TAB>target",
    trials=10,
    epochs=8,
    batch_size=64,
    smoke_rows=80,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    if importlib.util.find_spec("sacrebleu") is None:
        raise SystemExit(
            "This recipe needs the package sacrebleu, which is missing: pip install sacrebleu"
        )
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

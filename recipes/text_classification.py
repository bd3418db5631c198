"""Search for a classifier of texts: a small transformer encoder, convolutions, or both.

    keras-nas search recipes/text_classification.py --max-trials 12 --epochs 5
    python recipes/text_classification.py --data messages.tsv --max-trials 12 --baseline
    python recipes/text_classification.py --data imdb --limit 5000 --baseline
    python recipes/text_classification.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: sentences of four topics from a small grammar, for a first look; the default;
* `imdb`: 50,000 film reviews, good or bad (Maas et al. 2011, 84 MB from ai.stanford.edu);
* `20newsgroups`: 18,846 messages of 20 groups (scikit-learn downloads, checks and stores them);
* a file of lines `label<TAB>text` or `split<TAB>label<TAB>text`, where the split is train,
  validation or test; UTF-8, compressed if its name ends in `.gz`. Missing splits are taken from
  the training texts.

Each block of the encoder mixes the tokens by attention, as BERT does, or by a separable
convolution. The models take texts: `TextVectorization`, a layer inside, splits them into words.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf  # Keras takes texts as tensors only
from keras import layers

from keras_nas_plugin.recipes import running
from keras_nas_plugin.space import Layer, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.presets import text_transformer
from keras_nas_plugin.space.presets.attention import masked_mean, token_mask

OBJECTIVE = "val_accuracy"
IMDB = (
    "aclImdb_v1.tar.gz",
    "https://ai.stanford.edu/~amaas/data/sentiment/",
    "7c2ac02c03563afcf9b574c7e56c153a",  # MD5
)
SPLITS = ("train", "validation", "test")
MOST_WORDS = 10_000
LONGEST = 256  # words of a text that count

#: Texts and their labels by the name of the split.
Texts = dict[str, list[tuple[str, str]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Texts in three splits; the words and the length that the models take."""

    splits: running.Splits
    words: tuple[str, ...]
    length: int


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build one encoder of the preset `text_transformer` behind a layer that splits texts."""
    return _space(_corpus()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(corpus: Corpus) -> SpaceHyperModel:
    encoder = text_transformer(
        vocabulary=len(corpus.words) + 2,  # padding and unknown words
        length=corpus.length,
        classes=len(corpus.splits.class_names),
        rows=len(corpus.splits.training[1]),
    )
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    return SpaceHyperModel(
        Sequential(words=Layer(word_numbers), encoder=encoder.space),
        inputs={"text": keras.Input((1,), dtype="string", name="text")},
        compile={**encoder.compile, "learning_rate": rate},
        check=False,
    )


def word_numbers() -> keras.layers.Layer:
    """Splits a text into words, and gives each its number in the vocabulary."""
    corpus = _corpus()
    return layers.TextVectorization(
        vocabulary=list(corpus.words), output_sequence_length=corpus.length
    )


# The data


def load_data() -> dict[str, Any]:
    """Load the texts that `--data` names, in three splits."""
    return _corpus().splits.as_mapping()


def _corpus() -> Corpus:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> Corpus:
    texts = _read(data)
    names = sorted({label for split in texts.values() for label, _ in split})
    if len(names) < 2:
        raise ValueError(f"{data} must have two labels or more; got {names}")
    for missing in (split for split in ("test", "validation") if not texts.get(split)):
        rows = texts["train"]
        kept, held_out = running.divide(len(rows), labels=np.array([row[0] for row in rows]))
        texts["train"], texts[missing] = ([rows[i] for i in part] for part in (kept, held_out))
    number = {name: i for i, name in enumerate(names)}
    parts = []
    for split in SPLITS:
        rows = [texts[split][i] for i in running.limited(len(texts[split]), limit)]
        x = tf.constant([[text] for _, text in rows])
        parts.append((x, np.array([number[label] for label, _ in rows])))
    words, length = _vocabulary(parts[0][0])
    return Corpus(running.Splits(*parts, class_names=names), words, length)


def _vocabulary(texts: tf.Tensor) -> tuple[tuple[str, ...], int]:
    """The most frequent words, and a length that holds 95% of the texts."""
    splitter = layers.TextVectorization(MOST_WORDS, ragged=True)
    splitter.adapt(texts)
    lengths = splitter(tf.reshape(texts, [-1])).row_lengths().numpy()
    length = int(np.clip(np.quantile(lengths, 0.95), 4, LONGEST))
    return tuple(splitter.get_vocabulary()[2:]), length


def _read(data: str) -> Texts:
    if data == "generated":
        return {"train": list(generated(2_000, seed=0))}
    if data == "imdb":
        return read_imdb(running.download(*IMDB))
    if data == "20newsgroups":
        return _newsgroups()
    path = Path(data)
    if path.is_file():
        return read_imdb(path) if path.name == IMDB[0] else read_lines(path)
    raise ValueError(
        "`--data` must be generated, imdb, 20newsgroups or an existing file of lines "
        f"label<TAB>text; got {data!r}"
    )


def generated(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Sentences in which a topic shows in one word of seven, and a negation in a pair of words."""
    topics = {
        "weather": "rain snow wind storm sunshine frost clouds fog".split(),
        "kitchen": "bread soup onion oven salt butter pepper cake".split(),
        "travel": "train ticket hotel harbour airport luggage map tram".split(),
    }
    filler = "we often think about the and then talk of more with some friends at home".split()
    rng = np.random.default_rng(seed)
    labels = [*topics, "none of them"]
    for _ in range(count):
        label = labels[rng.integers(len(labels))]
        words = list(rng.choice(filler, rng.integers(6, 14)))
        topic = label if label in topics else rng.choice(list(topics))
        subject = [rng.choice(topics[topic])]
        if label not in topics:
            subject = ["not", *subject]
        at = int(rng.integers(len(words)))
        yield label, " ".join([*words[:at], *subject, *words[at:]])


def read_lines(path: Path, columns: tuple[str, str] = ("label", "text")) -> Texts:
    """Read lines of two texts separated by a tabulator, with or without the split in front.

    Args:
        path: The file; compressed if its name ends in ``.gz``.
        columns: What the two texts are, for error messages.

    Raises:
        ValueError: A line has another form, or the file is no text in UTF-8.
    """
    texts: Texts = {}
    content = path.read_bytes()
    try:
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} must be a text file in UTF-8: {error}") from error
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        split, *rest = line.removesuffix("\r").split("\t")
        if len(rest) == 1:  # no split
            split, rest = "train", [split, *rest]
        split = {"val": "validation", "valid": "validation"}.get(split, split)
        if len(rest) != 2 or split not in SPLITS or not all(rest):
            form = "<TAB>".join(columns)
            raise ValueError(
                f"{path}, line {number}: must be {form} or split<TAB>{form} with the split "
                f"{', '.join(SPLITS)}; got {line[:60]!r}"
            )
        texts.setdefault(split, []).append((rest[0], rest[1]))
    if "train" not in texts:
        raise ValueError(f"{path} must have lines with training texts; got none")
    return texts


def read_imdb(archive: Path) -> Texts:
    """Read the archive of Maas et al.; its files are `aclImdb/train/pos/0_9.txt` and so on."""
    texts: Texts = {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            file = tar.extractfile(member) if len(parts) == 4 and parts[2] in "pos neg" else None
            if file is not None:
                text = file.read().decode("utf-8").replace("<br />", " ")
                texts[parts[1]].append(({"pos": "good", "neg": "bad"}[parts[2]], text))
    return texts


def _newsgroups() -> Texts:
    from sklearn.datasets import fetch_20newsgroups

    texts: Texts = {}
    for split in ("train", "test"):
        loaded = fetch_20newsgroups(subset=split, remove=("headers", "footers", "quotes"))
        labels = [loaded.target_names[i] for i in loaded.target]
        texts[split] = list(zip(labels, loaded.data, strict=True))
    return texts


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """The mean of word vectors and a softmax (Joulin et al. 2017, "Bag of Tricks")."""
    corpus = _corpus()
    text = keras.Input((1,), dtype="string", name="text")
    words = word_numbers()(text)
    vectors = layers.Embedding(len(corpus.words) + 2, 64)(words)
    # Keras' own pooling divides by zero where a text has no words.
    x = layers.Dropout(0.3)(masked_mean(vectors, token_mask()(words)))
    model = keras.Model(
        text, layers.Dense(len(corpus.splits.class_names), activation="softmax")(x)
    )
    rate = hp.Float("learning_rate", 1e-3, 3e-2, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


class BagOfWords:
    """Logistic regression on tf-idf weights of words and pairs of words, behind `predict`.

    Its regularisation is chosen among as many values as the search has trials; the first is
    scikit-learn's own.
    """

    def __init__(self, data: running.Splits, budget: running.Budget) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._weights = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        x = self._weights.fit_transform(_plain(data.training[0]))
        x_validation = self._weights.transform(_plain(data.validation[0]))
        fitted, start = [], time.monotonic()
        for strength in (1.0, *np.logspace(-1, 2, budget.trials - 1)):
            if fitted and budget.seconds and time.monotonic() - start > budget.seconds:
                break
            model = LogisticRegression(C=strength, max_iter=300).fit(x, data.training[1])
            fitted.append((model.score(x_validation, data.validation[1]), model))
        self.model = max(fitted, key=lambda pair: pair[0])[1]

    def predict(self, x: tf.Tensor) -> np.ndarray:
        """Probabilities of the classes."""
        return self.model.predict_proba(self._weights.transform(_plain(x)))


def _plain(texts: tf.Tensor) -> list[str]:
    return [text.decode("utf-8") for text in texts.numpy().ravel()]


def score(model: running.Predictor, x: tf.Tensor, y: np.ndarray) -> dict[str, float]:
    """Accuracy, and the mean of the F1 scores of the classes, which rare classes lower."""
    from sklearn.metrics import f1_score

    labels = np.argmax(running.predict(model, x), axis=-1)
    f1 = f1_score(y, labels, average="macro", zero_division=0)
    return {"accuracy": float(np.mean(labels == y)), "macro_f1": float(f1)}


RECIPE = running.Recipe(
    name="text-classification",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={
        "mean of word vectors": running.network(baseline_model, OBJECTIVE),
        "tf-idf": BagOfWords,
    },
    data="generated, imdb, 20newsgroups, or a file of lines label<TAB>text",
    epochs=5,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

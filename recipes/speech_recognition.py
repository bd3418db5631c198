"""Search for a recogniser of spoken sequences, such as digits, that learns without alignments.

    keras-nas search recipes/speech_recognition.py --max-trials 8 --epochs 10
    python recipes/speech_recognition.py --data digits.npz --max-trials 8 --epochs 10 --baseline
    python recipes/speech_recognition.py --data speech_commands --limit 3000 --baseline
    python recipes/speech_recognition.py --smoke

`--data` (or `NAS_DATASET`) is that of `keyword_spotting.py`: `generated`, `speech_commands`, a
folder of folders of WAV files, or an `.npz` file of clips of single words. Sequences of two to
four of these clips, without the silence around them, are what is to be recognised; a clip of the
test is in no sequence of the training.

The models take sound (int16), and give at each step of the spectrogram the scores of the words and
of a blank, trained by connectionist temporal classification (Graves et al. 2006). They are judged
by the word error rate: the words that must be substituted, deleted or inserted to correct the
transcriptions, as a share of the words that were spoken.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence as Words
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin.recipes import running
from keras_nas_plugin.recipes.keyword_spotting import load_clips, log_mel
from keras_nas_plugin.space import (
    Layer,
    LayerChoice,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
)
from keras_nas_plugin.space.presets.attention import convolution, normalized, recurrent

OBJECTIVE = "val_loss"
FEWEST, MOST = 2, 4  # words of a sequence
BLANK = 0  # also what fills up the rows of labels; words are numbered from 1
SILENCE = 0.05  # a frame below this share of the loudest one is silence
SEQUENCES = {"training": 3, "validation": 1, "test": 1}  # for each clip


@dataclasses.dataclass(frozen=True)
class Speech:
    """Sequences of words in three splits.

    Attributes:
        splits: Sound, int16 of shape (n, samples), and word numbers of shape (n, MOST).
        words: What the numbers from 1 mean.
        rate: Samples per second.
    """

    splits: running.Splits
    words: tuple[str, ...]
    rate: int


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build a network of convolutions and recurrent layers that keeps the steps of the sound."""
    speech = _speech()
    block = LayerChoice(
        {
            "convolution": Layer(
                convolution,
                kernel_size=ValueChoice([3, 7, 15], default=7),
                dilation=ValueChoice([1, 2, 4]),
                dropout=0.1,
            ),
            "recurrent": Layer(recurrent, cell=ValueChoice(["GRU", "LSTM"]), dropout=0.1),
        }
    )
    network = Sequential(
        spectrogram=Layer(log_mel, rate=speech.rate),
        stem=Layer(
            "Conv1D",
            filters=ValueChoice([32, 64, 128], default=64),
            kernel_size=7,
            strides=ValueChoice([2, 4]),
            padding="same",
        ),
        blocks=Repeat(block, 1, 4, default=2, counter="depth"),
        norm=Layer(normal_layer),
        scores=Layer("Dense", units=len(speech.words) + 1, dtype="float32"),
    )
    rate = ValueChoice(low=5e-4, high=1e-2, sampling="log", default=2e-3)
    return SpaceHyperModel(
        network,
        inputs={"sound": keras.Input(speech.splits.training[0].shape[1:], name="sound")},
        compile={"optimizer": "adam", "loss": keras.losses.CTC(), "learning_rate": rate},
        check=False,
    ).build(hp)


def normal_layer() -> Any:
    """Normalises the output of the last residual block."""
    return normalized


# The data


def load_data() -> tuple[Any, Any, Any]:
    """Load sequences of the clips that `--data` names, in three splits."""
    splits = _speech().splits
    return splits.training, splits.validation, splits.test


def _speech() -> Speech:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> Speech:
    clips = load_clips(data, limit)
    longest = max(
        len(spoken(clip)) for x, _ in (clips.splits.training, clips.splits.test) for clip in x
    )
    samples = MOST * longest + (MOST + 1) * clips.rate // 10
    parts = []
    for seed, (name, times) in enumerate(SEQUENCES.items()):
        x, y = getattr(clips.splits, name)
        parts.append(sequences(x, y, min(limit or len(y), len(y)) * times, samples, seed))
    used = max(int(np.flatnonzero(x.any(axis=0))[-1]) + 1 for x, _ in parts)
    cut = [(x[:, :used], y) for x, y in parts]
    return Speech(running.Splits(*cut), tuple(clips.splits.class_names), clips.rate)


def sequences(
    clips: np.ndarray, labels: np.ndarray, count: int, samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Clips after one another, with up to a tenth of a second of silence between them.

    Args:
        clips: Clips of single words, int16 of shape (n, rate).
        labels: Their classes from 0, of shape (n,).
        count: Number of sequences.
        samples: Length of each; what would not fit is left out.
        seed: Of the order of clips.

    Returns:
        Sound of shape (count, samples), and words of shape (count, MOST), filled up with BLANK.
    """
    rng = np.random.default_rng(seed)
    rate = clips.shape[1]
    sound = np.zeros((count, samples), "int16")
    words = np.full((count, MOST), BLANK, "int32")
    for row in range(count):
        position = int(rng.integers(rate // 10))
        chosen = rng.integers(len(clips), size=rng.integers(FEWEST, MOST + 1))
        for number, clip in enumerate(chosen):
            word = spoken(clips[clip])
            if position + len(word) > samples:
                break
            sound[row, position : position + len(word)] = word
            words[row, number] = labels[clip] + 1
            position += len(word) + int(rng.integers(rate // 10))
    return sound, words


def spoken(clip: np.ndarray) -> np.ndarray:
    """A clip without the silence before and after its word.

    >>> spoken(np.array([0] * 100 + [9000, -9000] * 100 + [0] * 700, dtype="int16")).size
    200
    """
    frame = max(1, len(clip) // 50)
    whole = clip[: len(clip) // frame * frame].astype("float32").reshape(-1, frame)
    loudness = np.sqrt((whole**2).mean(axis=1))
    loud = np.flatnonzero(loudness >= SILENCE * loudness.max())
    return clip[loud[0] * frame : (loud[-1] + 1) * frame]


# The metric


def transcribed(scores: np.ndarray) -> list[list[int]]:
    """The most probable path, with repeated words joined and blanks left out.

    >>> transcribed(np.eye(4)[[[0, 3, 3, 0, 3, 1, 1]]])
    [[3, 3, 1]]

    Args:
        scores: Of shape (n, steps, 1 + words).
    """
    paths = np.argmax(scores, axis=-1)
    return [
        [
            int(word)
            for i, word in enumerate(path)
            if word != BLANK and (i == 0 or word != path[i - 1])
        ]
        for path in paths
    ]


def word_error_rate(spoken_words: Words[Words], transcriptions: Words[Words]) -> float:
    """Substitutions, deletions and insertions as a share of the words that were spoken.

    >>> word_error_rate(["one two three".split()], ["one three four".split()])  # of 3 words
    0.6666666666666666

    Args:
        spoken_words: Words of each sequence.
        transcriptions: Words of each transcription.

    Raises:
        ValueError: There are not as many transcriptions as sequences, or no words.
    """
    words = sum(map(len, spoken_words))
    if len(spoken_words) != len(transcriptions) or words == 0:
        raise ValueError(
            "`transcriptions` must be as many as `spoken_words`, which must have words; got "
            f"{len(transcriptions)} and {len(spoken_words)} with {words} words"
        )
    pairs = zip(spoken_words, transcriptions, strict=True)
    return sum(edits(reference, words) for reference, words in pairs) / words


def edits(first: Words, second: Words) -> int:
    """The Levenshtein distance of two sequences (Wagner & Fischer 1974)."""
    above = list(range(len(second) + 1))
    for row, left in enumerate(first, 1):
        costs = [row]
        for column, right in enumerate(second, 1):
            substituted = above[column - 1] + (left != right)
            costs.append(min(substituted, above[column] + 1, costs[-1] + 1))
        above = costs
    return above[-1]


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Two convolutions and a bidirectional GRU, in the manner of Deep Speech 2 (2016)."""
    speech = _speech()
    sound = keras.Input(speech.splits.training[0].shape[1:], name="sound")
    x = log_mel(speech.rate)(sound)
    for strides in (2, 2):
        x = layers.Conv1D(64, 7, strides=strides, padding="same", activation="relu")(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Bidirectional(layers.GRU(48, return_sequences=True))(x)
    model = keras.Model(sound, layers.Dense(len(speech.words) + 1)(x))
    rate = hp.Float("learning_rate", 5e-4, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), keras.losses.CTC())
    return model


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The word error rate, and the share of sequences with an error."""
    references = [[int(word) for word in row if word != BLANK] for row in y]
    transcriptions = transcribed(running.predict(model, x))
    wrong = [a != b for a, b in zip(references, transcriptions, strict=True)]
    return {
        "wer": word_error_rate(references, transcriptions),
        "wrong_sequences": float(np.mean(wrong)),
    }


RECIPE = running.Recipe(
    name="speech-recognition",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    larger_is_better=False,
    baselines={"GRU": running.network(baseline_model, OBJECTIVE)},
    data="generated, speech_commands, a folder of folders of WAV files, or an .npz file",
    trials=8,
    epochs=10,
    smoke_rows=80,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

"""Search for a network that recognises spoken keywords, with 1-D or 2-D convolutions.

    keras-nas search recipes/keyword_spotting.py --max-trials 12 --epochs 8
    python recipes/keyword_spotting.py --data clips/ --max-trials 12 --epochs 8 --baseline
    python recipes/keyword_spotting.py --data speech_commands --limit 5000 --baseline
    python recipes/keyword_spotting.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: ten pairs of tones in noise, which are no speech; the default;
* `speech_commands`: ten words of Google's Speech Commands (Warden 2018, version 0.02, 2.3 GB from
  download.tensorflow.org), with its own validation and test speakers;
* a folder with a folder of WAV files for each word, such as that of Speech Commands; the files in
  its `validation_list.txt` and `testing_list.txt` are held out;
* an `.npz` file with `x_train`, `y_train`, optionally `x_val`, `y_val` and `x_test`, `y_test`, and
  `rate` (8000 if it is missing). Clips are rows of int16, float (-1 to 1), or int8 (mu-law).

The models take clips of int16 of a second: the spectrogram on a mel scale, in decibels, is a layer
inside them. 1-D networks take it as a sequence (preset `sequence_1d`), 2-D networks as an image
(preset `residual_cnn`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers, ops

from keras_nas_plugin.recipes import running
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.space.presets import residual_cnn, sequence_1d
from keras_nas_plugin.starters.audio_data import read_clip
from keras_nas_plugin.starters.series_data import load_npz

OBJECTIVE = "val_accuracy"
SPEECH_COMMANDS = (
    "speech_commands_v0.02.tar.gz",
    "https://storage.googleapis.com/download.tensorflow.org/data/",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
WORDS = "yes no up down left right on off stop go".split()
RATE = 8000  # of generated clips, in Hz
MEL_BINS = 40
FRAME_MS, STEP_MS = 32, 10  # of the spectrogram
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Clips of a second in three splits, int16 of shape (n, rate); their rate in Hz."""

    splits: running.Splits
    rate: int


# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build a network on log-mel spectrograms: 1-D or 2-D, which is a decision."""
    return _space(_clips()).build(hp)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _space(clips: Clips) -> SpaceHyperModel:
    rows, classes = len(clips.splits.training[1]), len(clips.splits.class_names)
    frames = log_mel(clips.rate)(keras.KerasTensor((None, clips.rate))).shape[1]
    sequence = sequence_1d((frames, MEL_BINS), classes=classes, rows=rows, stem_strides=(1, 2, 4))
    image = residual_cnn((frames, MEL_BINS, 1), classes=classes, rows=rows)
    to_image = Layer("Reshape", target_shape=(frames, MEL_BINS, 1))
    rate = ValueChoice(low=3e-4, high=1e-2, sampling="log", default=1e-3)
    return SpaceHyperModel(
        Sequential(
            spectrogram=Layer(log_mel, rate=clips.rate),
            network=LayerChoice(
                {"1d": sequence.space, "2d": Sequential(image=to_image, network=image.space)}
            ),
        ),
        inputs={"clip": keras.Input((clips.rate,), name="clip")},
        compile={**sequence.compile, "learning_rate": rate},
        check=False,
    )


def log_mel(rate: int) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Spectrograms in decibels, of shape (frames, MEL_BINS), each standardised as a whole.

    Args:
        rate: Samples per second of the clips, of type int16.
    """

    def call(clip: keras.KerasTensor) -> keras.KerasTensor:
        frame = rate * FRAME_MS // 1000
        x = layers.MelSpectrogram(
            fft_length=1 << (frame - 1).bit_length(),
            sequence_length=frame,
            sequence_stride=rate * STEP_MS // 1000,
            sampling_rate=rate,
            num_mel_bins=MEL_BINS,
            min_freq=60,
            max_freq=rate / 2,
            power_to_db=True,
        )(layers.Rescaling(1 / 32768)(clip))
        x = layers.Permute((2, 1))(x)
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        return (x - mean) / (ops.std(x, axis=(1, 2), keepdims=True) + 1e-3)

    return call


# The data


def load_data() -> dict[str, Any]:
    """Load the clips that `--data` names, in three splits."""
    return _clips().splits.as_mapping()


def _clips() -> Clips:
    return load_clips(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def load_clips(data: str, limit: int) -> Clips:
    """Load clips and their labels.

    Args:
        data: See the top of this file.
        limit: Largest number of clips of each split; 0 for no limit.

    Raises:
        ValueError: There are no such data, or they cannot be used; the message says why.
    """
    parts, names, rate = _read(data)
    if len(names) < 2:
        raise ValueError(f"{data} must have two words or more; got {names}")
    for missing in (split for split in ("test", "validation") if split not in parts):
        x, y = parts["train"]
        kept, rows = running.divide(len(y), labels=y)
        parts["train"], parts[missing] = (x[kept], y[kept]), (x[rows], y[rows])
    splits = []
    for x, y in (parts["train"], parts["validation"], parts["test"]):
        chosen = running.limited(len(y), limit)
        splits.append((x[chosen], y[chosen]))
    return Clips(running.Splits(*splits, class_names=names), rate)


Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def _read(data: str) -> tuple[Parts, list[str], int]:
    """Clips and labels by split, the words, and the rate."""
    if data == "generated":
        x, y = generated(1_500, seed=0)
        return {"train": (x, y)}, [f"tones {i}" for i in range(10)], RATE
    if data == "speech_commands":
        return read_folder(running.download(*SPEECH_COMMANDS, extract=True), WORDS)
    if Path(data).is_dir():
        return read_folder(Path(data))
    if data.endswith(".npz"):
        return read_arrays(Path(data))
    raise ValueError(
        "`--data` must be generated, speech_commands, a folder with a folder of WAV files for "
        f"each word, or an .npz file; got {data!r}"
    )


def generated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A low and a high tone after one another, ten pairs of them, in noise, for half a second."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    clips = rng.normal(0, 0.05, (count, RATE))
    length = RATE // 4
    time = np.arange(length) / RATE
    for clip, label in zip(clips, labels, strict=True):
        start = rng.integers(0, RATE - 2 * length)
        for part, tone in enumerate((400 + 150 * (label % 5), 1600 + 500 * (label // 5))):
            wave_form = np.sin(2 * np.pi * tone * rng.uniform(0.95, 1.05) * time)
            clip[start + part * length :][:length] += 0.3 * np.hanning(length) * wave_form
    return pcm(clips), labels


def pcm(clips: np.ndarray) -> np.ndarray:
    """Samples of -1 to 1 as int16."""
    return np.round(np.clip(clips, -1, 1) * 32767).astype("int16")


def read_folder(folder: Path, words: list[str] | None = None) -> tuple[Parts, list[str], int]:
    """Read WAV files from a folder for each word.

    Args:
        folder: Their folder.
        words: The words to read; None for all.

    Raises:
        ValueError: There are none, or one cannot be read.
    """
    held_out = {
        name: split
        for split, file in LISTS.items()
        if (folder / file).is_file()
        for name in (folder / file).read_text(encoding="utf-8").split()
    }
    names = words or sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("_")
    )
    clips: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[int]] = {}
    rate = None  # that of the first file
    for label, name in enumerate(names):
        for path in sorted((folder / name).glob("*.wav")):
            clip, rate = read_clip(path, rate)
            split = held_out.get(f"{name}/{path.name}", "train")
            clips.setdefault(split, []).append(pcm(np.pad(clip, (0, rate))[:rate]))
            labels.setdefault(split, []).append(label)
    if rate is None or "train" not in clips:
        raise ValueError(f"{folder} must have a folder of WAV files for each word; got none")
    parts = {split: (np.stack(clips[split]), np.array(labels[split])) for split in clips}
    return parts, names, rate


def read_arrays(path: Path) -> tuple[Parts, list[str], int]:
    """Read clips from an `.npz` file: see the top of this file.

    Raises:
        ValueError: The file cannot be read, or lacks an array.
    """
    arrays = load_npz(path)
    rate, parts = int(arrays.get("rate", RATE)), {}
    for split, suffix in (("train", "train"), ("validation", "val"), ("test", "test")):
        x, y = arrays.get(f"x_{suffix}"), arrays.get(f"y_{suffix}")
        if split != "train" and x is None and y is None:
            continue
        if x is None or y is None or x.ndim != 2 or y.shape != x.shape[:1]:
            got = {name: value.shape for name, value in arrays.items()}
            raise ValueError(
                f"{path} must have clips x_{suffix} of shape (n, samples) and a label in "
                f"y_{suffix} for each; got {got}"
            )
        x = x if x.dtype == np.int16 else pcm(expanded(x) if x.dtype == np.int8 else x)
        short = max(0, rate - x.shape[1])
        parts[split] = np.pad(x, [(0, 0), (0, short)])[:, :rate], y.astype("int64")
    words = 1 + max(int(y.max()) for _, y in parts.values())
    return parts, [str(word) for word in range(words)], rate


def expanded(clips: np.ndarray) -> np.ndarray:
    """Samples of -1 to 1 from mu-law codes of -127 to 127 (ITU-T G.711, the continuous curve).

    >>> expanded(np.array([-127, 0, 127], dtype="int8"))
    array([-1.,  0.,  1.])
    """
    codes = clips / 127
    return np.sign(codes) * (256 ** np.abs(codes) - 1) / 255


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Three 1-D convolutions on log-mel spectrograms."""
    clips = _clips()
    clip = keras.Input((clips.rate,), name="clip")
    x = log_mel(clips.rate)(clip)
    for width in (64, 64, 128):
        x = layers.Conv1D(width, 5, padding="same", activation="relu")(x)
        x = layers.MaxPooling1D(2)(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(x))
    classes = len(clips.splits.class_names)
    model = keras.Model(clip, layers.Dense(classes, activation="softmax")(x))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


RECIPE = running.Recipe(
    name="keyword-spotting",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=running.accuracy,
    baselines={"convolutions": running.network(baseline_model, OBJECTIVE)},
    data="generated, speech_commands, a folder of folders of WAV files, or an .npz file",
    epochs=8,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

"""Sound clips in class folders: classification."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from keras_nas_plugin.starters.audio_data import SUFFIXES, read_clip
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    Classes,
    Draft,
    Request,
    Starter,
    checked_classes,
    class_weighting,
    listed,
)
from keras_nas_plugin.starters.folders import class_folders, has_files
from keras_nas_plugin.starters.writing import constant, imported, module

_HIGHEST_RATE = 16_000
_LONGEST_SECONDS = 10.0
# Seconds of a frame of the spectrogram, and between two frames.
_FRAME, _STEP = 0.032, 0.016
_BANDS = 40


class AudioStarter(Starter):
    """A folder with a folder of WAV files for each class."""

    kind = "sound clips"
    tasks = (CLASSIFICATION,)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return has_files(source, SUFFIXES)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        folders = class_folders(request.source, SUFFIXES, "WAV files")
        findings = list(folders.findings)
        classes = checked_classes(folders.counts, f"`{request.source}`", "clips")
        findings += classes.findings
        files = [path for name in classes.names for path in folders.files[name]]
        rates: Counter[int] = Counter()
        seconds, stereo = [], 0
        for path in files:
            samples, rate = read_clip(path)
            rates[rate] += 1
            seconds.append(len(samples) / rate)
            stereo += _channels(path) > 1
        rate = min(rates.most_common(1)[0][0], _HIGHEST_RATE)
        if set(rates) != {rate}:
            shown = listed([f"{count:,} of {own:,} Hz" for own, count in rates.items()])
            findings.append(
                f"Clips are resampled to {rate:,} Hz, and so must be those that are predicted "
                f"({shown})."
            )
        if stereo:
            findings.append(f"{stereo:,} clips have several channels: their mean is used.")
        duration = min(float(np.quantile(seconds, 0.95)), _LONGEST_SECONDS)
        length = max(round(duration * rate), round(4 * _FRAME * rate))
        longer = sum(round(duration * rate) > length for duration in seconds)
        shorter = sum(round(duration * rate) < length for duration in seconds)
        if longer:
            findings.append(f"{longer:,} clips are longer than {length / rate:.2f} s and are cut.")
        if shorter:
            findings.append(f"{shorter:,} clips are shorter and are padded with silence.")
        streamed = not request.fits(len(files) * length * 4 * 3)
        if streamed:
            findings.append(
                "The clips do not fit into memory together: they are read while models are "
                "trained."
            )
        recipe = _recipe(request, findings, classes, rate, length, streamed, len(files))
        summary = (
            f"{len(files):,} clips of {len(classes.names)} classes, {length / rate:.2f} s at "
            f"{rate:,} Hz"
        )
        guesses = [] if request.task else ["Task: classification, since each folder is a class."]
        return Draft(recipe, CLASSIFICATION, summary, findings, guesses)


def _channels(path: Path) -> int:
    """Number of channels by the header of a WAV file that can be read."""
    with path.open("rb") as file:
        start = file.read(4096)
    position = start.find(b"fmt ")
    return int.from_bytes(start[position + 10 : position + 12], "little") if position > 0 else 1


def _recipe(
    request: Request,
    findings: list[str],
    classes: Classes,
    rate: int,
    length: int,
    streamed: bool,
    count: int,
) -> str:
    weight, helper, weights = class_weighting(classes, streamed)
    first = '"x": training,' if streamed else '"x": training[0],\n        "y": training[1],'
    argument = ", streamed=True" if streamed else ""
    helpers = ["cached", "clip_splits", *helper]
    sample = 'next(iter(load_data()["x"]))[0]' if streamed else 'load_data()["x"][:500]'
    data = f'''
@cached
def load_data():
    """60 percent of the clips to train, 20 to validate, and 20 to test, of each class."""
    training, validation, test = clip_splits(
        DATA, CLASS_NAMES, rate=RATE, length=LENGTH, seed=SEED{argument}
    )
    return {{
        {first}
        "validation_data": validation,
        "test_data": test,{weight}
    }}
'''
    mel = '''
def log_mel(x):
    """The logarithm of the mel spectrogram, shape (clips, frames, bands)."""
    spectrogram = keras.layers.MelSpectrogram(
        fft_length=FRAME,
        sequence_stride=STEP,
        sampling_rate=RATE,
        num_mel_bins=BANDS,
        max_freq=RATE / 2,
        power_to_db=False,
    )
    return keras.ops.log(keras.ops.transpose(spectrogram(x), (0, 2, 1)) + 1e-5)
'''
    statistics = f'''
@cached
def statistics():
    """Mean and variance of each band in some training clips."""
    bands = keras.ops.convert_to_numpy(log_mel({sample}))
    return bands.mean(axis=(0, 1)), bands.var(axis=(0, 1))
'''
    model = '''
def build_model(hp):
    """A model of raw samples (-1 to 1): mel spectrogram, then a network of `sequence_1d`."""
    inputs = keras.Input((LENGTH,), name="samples")
    mean, variance = statistics()
    x = keras.layers.Normalization(mean=mean, variance=variance)(log_mel(inputs))
    output = NETWORK.connect(hp, x)
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model
'''
    frame = 2 ** round(np.log2(_FRAME * rate))
    return module(
        title=f"Classification of the sound clips in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import sequence_1d",
            imported(helpers),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("CLASS_NAMES", classes.names),
            *weights,
            constant("OBJECTIVE", "val_accuracy"),
            constant("SEED", 0, "of the split"),
            constant("RATE", rate, "samples per second"),
            constant("LENGTH", length, "samples of a clip"),
            constant("FRAME", frame, "samples of a frame of the spectrogram"),
            constant("STEP", round(_STEP * rate), "samples between two frames"),
            constant("BANDS", _BANDS, "of the spectrogram"),
            "NETWORK = sequence_1d(\n    (1 + LENGTH // STEP, BANDS), "
            f"classes=len(CLASS_NAMES), rows={round(0.6 * count)}\n)",
        ],
        functions=[data, mel, statistics, model],
    )

"""Sound clips in class folders."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.folders import file_splits, files_of

#: Names of the files that are read.
SUFFIXES = (".wav",)


def read_clip(path: Path, rate: int | None = None) -> tuple[np.ndarray, int]:
    """A clip as float32 in [-1, 1], of shape (samples,); the mean of its channels.

    Args:
        path: A WAV file of integers or of floating-point numbers.
        rate: Samples per second that it is resampled to; None for its own.

    Returns:
        The samples, and their rate.

    Raises:
        SourceError: The file is no WAV file, or has no samples.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            own_rate, samples = wavfile.read(path)
    except (ValueError, OSError, EOFError, KeyError, UnboundLocalError) as error:
        raise SourceError(f"`{path}` must be a WAV file; {error}") from error
    if samples.dtype.kind == "u":
        samples = (samples.astype("float32") - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        samples = samples.astype("float32") / -float(np.iinfo(samples.dtype).min)
    samples = samples.astype("float32")
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not len(samples):
        raise SourceError(f"`{path}` must have samples; it has a length of 0 seconds")
    if rate is not None and rate != own_rate:
        divisor = math.gcd(rate, own_rate)
        samples = resample_poly(samples, rate // divisor, own_rate // divisor).astype("float32")
    return samples, rate or own_rate


def clip_splits(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    rate: int,
    length: int,
    seed: int = 0,
    streamed: bool = False,
    batch_size: int = 32,
) -> tuple[Any, Any, Any]:
    """Training, validation and test clips, 60, 20 and 20 percent of each class.

    Args:
        folder: A folder with a folder of WAV files for each class.
        class_names: Names of those to read; their indices are the labels.
        rate: Samples per second that all clips are resampled to.
        length: Samples of a clip; longer ones are cut, and zeros follow shorter ones.
        seed: Seed of the split.
        streamed: Whether the clips are read while models are trained, for those that do not fit
            into memory.
        batch_size: Clips of a batch, where they are read while models are trained.

    Returns:
        Three pairs of clips, float32 of shape (n, length), and labels, or three `tf.data.Dataset`
        of batches of these.
    """
    files, classes = files_of(folder, class_names, SUFFIXES)

    def read(row: int) -> np.ndarray:
        samples = read_clip(files[row], rate)[0][:length]
        return np.pad(samples, (0, length - len(samples)))

    return file_splits(
        read,
        np.array(classes),
        shape=(length,),
        dtype="float32",
        seed=seed,
        streamed=streamed,
        batch_size=batch_size,
    )

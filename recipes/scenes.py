"""Generated scenes for recipes: scikit-learn's digits in noise, with their boxes and masks."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from sklearn.datasets import load_digits

from keras_nas_plugin.recipes import running

SIZE = 48  # height and width of a scene, in pixels
MOST = 4  # digits of a scene
CLASSES = ("zero", "one", "two", "three")
NOISE = 0.15  # standard deviation, where a stroke has up to 1
STROKE = 0.3  # the least intensity of a stroke that belongs to a digit


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Scenes and what is in them.

    Attributes:
        images: uint8 of shape (n, SIZE, SIZE, 1).
        masks: int64 of shape (n, SIZE, SIZE): 0 for the background, or 1 + the class.
        boxes: float32 of shape (n, MOST, 5): class, left, top, right and bottom as fractions of
            the scene; -1 as the class where there is no further digit.
    """

    images: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray


@functools.lru_cache(maxsize=1)
def scene_splits(training: int, validation: int, test: int) -> tuple[Scenes, Scenes, Scenes]:
    """Scenes of three splits, which share no digit; the same every time."""
    images, labels = load_digits(n_class=len(CLASSES), return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16
    rest, last = running.divide(len(labels), labels=labels)
    first, middle = running.divide(len(rest), labels=labels[rest])
    parts = (rest[first], training), (rest[middle], validation), (last, test)
    return tuple(
        _scenes(images[rows], labels[rows], count, np.random.default_rng(seed))
        for seed, (rows, count) in enumerate(parts)
    )


def _scenes(
    digits: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> Scenes:
    images = rng.normal(0.15, NOISE, (count, SIZE, SIZE))
    masks = np.zeros((count, SIZE, SIZE), "int64")
    boxes = np.zeros((count, MOST, 5), "float32")
    boxes[..., 0] = -1
    for image, mask, box in zip(images, masks, boxes, strict=True):
        for number in range(rng.integers(1, MOST + 1)):
            row = rng.integers(len(labels))
            # Nearest-neighbour scaling to 12 to 20 pixels.
            size = int(rng.integers(12, 21))
            pixels = np.arange(size) * 8 // size
            digit = digits[row][pixels][:, pixels]
            top, left = rng.integers(0, SIZE - size + 1, size=2)
            part = np.s_[top : top + size, left : left + size]
            stroke = digit >= STROKE
            if mask[part].any():  # no digit covers another
                continue
            image[part] = np.maximum(image[part], digit)
            mask[part][stroke] = 1 + labels[row]
            rows, columns = np.nonzero(stroke)
            corners = left + columns.min(), top + rows.min()
            opposite = left + columns.max() + 1, top + rows.max() + 1
            box[number] = labels[row], *(np.array([*corners, *opposite]) / SIZE)
    pixels = np.round(np.clip(images, 0, 1) * 255).astype("uint8")
    return Scenes(pixels[..., np.newaxis], masks, boxes)

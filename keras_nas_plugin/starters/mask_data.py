"""Images with a mask each, which has the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.image_data import SUFFIXES, read_image
from keras_nas_plugin.starters.splits import at_random

#: Names of the folders of images and of masks.
IMAGES, MASKS = "images", "masks"


def image_and_mask_files(folder: str | Path) -> list[tuple[Path, Path]]:
    """Images with the masks of the same name, in the order of their names.

    Raises:
        SourceError: An image has no mask.
    """
    folder = Path(folder)

    def by_name(name: str) -> dict[str, Path]:
        paths = (path for path in sorted((folder / name).iterdir()) if path.name[0] != ".")
        return {path.stem: path for path in paths if path.suffix.lower() in SUFFIXES}

    images, masks = by_name(IMAGES), by_name(MASKS)
    missing = sorted(images.keys() - masks.keys())
    if missing or not images:
        got = f"none of {images[missing[0]].name}" if missing else "no images"
        raise SourceError(
            f"`{folder}` must have a mask in `{MASKS}/` for each image in `{IMAGES}/`, with the "
            f"same name; got {got}"
        )
    return [(images[name], masks[name]) for name in images]


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as integers of shape (height, width).

    Args:
        path: An image of grey values, or of a palette, whose indices are taken.
        size: Height and width that it is resized to, without new values; None for its own.

    Raises:
        SourceError: The file is no such image.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            mask: Image.Image = opened
            if mask.mode not in ("1", "L", "P", "I", "I;16"):
                raise SourceError(
                    f"`{path}` must be an image of grey values or of a palette, one for each "
                    f"class; got colours ({mask.mode})"
                )
            if size is not None and mask.size != size[::-1]:
                mask = mask.resize(size[::-1], Image.Resampling.NEAREST)
            return np.asarray(mask).astype("int64")
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"`{path}` must be an image; {error}") from error


def mask_splits(
    folder: str | Path,
    values: Sequence[int],
    *,
    size: tuple[int, int],
    channels: int = 3,
    seed: int = 0,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Training, validation and test images with their masks, 60, 20 and 20 percent.

    Args:
        folder: A folder with `images/` and `masks/`, whose files have the same names.
        values: Values of the masks; their indices are the labels of pixels.
        size: Height and width that all are resized to.
        channels: 3 for colours, 1 for grey.
        seed: Seed of the split.

    Returns:
        Three pairs of images, uint8 of shape (n, height, width, channels), and labels, int64 of
        shape (n, height, width).

    Raises:
        SourceError: A mask has another value, or a file cannot be read.
    """
    files = image_and_mask_files(folder)
    images = np.stack([read_image(image, size, channels) for image, _ in files])
    masks = np.stack([read_mask(mask, size) for _, mask in files])
    unexpected = sorted(set(np.unique(masks)) - set(values))
    if unexpected:
        raise SourceError(f"masks must have the values {list(values)}; got {unexpected[0]}")
    labels = np.searchsorted(values, masks)
    return tuple((images[rows], labels[rows]) for rows in at_random(len(files), seed=seed))

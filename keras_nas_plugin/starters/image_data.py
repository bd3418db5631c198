"""Images in class folders."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.folders import file_splits, files_of, in_hidden
from keras_nas_plugin.starters.splits import at_random

#: Names of the files that are read.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


def read_image(path: Path, size: tuple[int, int] | None = None, channels: int = 3) -> np.ndarray:
    """An image as uint8 of shape (height, width, channels).

    Args:
        path: The file.
        size: Height and width that it is resized to; None for its own.
        channels: 3 for colours, 1 for grey.

    Raises:
        SourceError: The file is no image that can be read.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                image = opened.convert("L" if channels == 1 else "RGB")
                if size is not None and image.size != size[::-1]:
                    image = image.resize(size[::-1], Image.Resampling.BILINEAR)
                pixels = np.asarray(image, "uint8")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"`{path}` must be an image; {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, of which only the beginning is read.

    Raises:
        SourceError: The file is no image.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                return opened.size[::-1]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"`{path}` must be an image; {error}") from error


def image_files(folder: Path) -> list[Path]:
    """The images of a folder and of the folders in it, in the order of their names.

    Raises:
        SourceError: There are none.
    """
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    files = [
        folder / path for path in paths if path.suffix.lower() in SUFFIXES and not in_hidden(path)
    ]
    if not files:
        raise SourceError(f"`{folder}` must have images ({', '.join(SUFFIXES)}); got none")
    return files


def unlabelled_image_splits(
    folder: str | Path, *, size: tuple[int, int], channels: int = 3, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Training, validation and test images, 60, 20 and 20 percent, drawn at random.

    Args:
        folder: A folder of images; those of the folders in it are read as well.
        size: Height and width that all images are resized to.
        channels: 3 for colours, 1 for grey.
        seed: Seed of the split.

    Returns:
        Three arrays of images, uint8 of shape (n, height, width, channels).

    Raises:
        SourceError: There are fewer than three images, or one cannot be read.
    """
    files = image_files(Path(folder))
    images = np.stack([read_image(path, size, channels) for path in files])
    return tuple(images[rows] for rows in at_random(len(files), seed=seed))


def image_splits(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    size: tuple[int, int],
    channels: int = 3,
    seed: int = 0,
    streamed: bool = False,
    batch_size: int = 32,
) -> tuple[Any, Any, Any]:
    """Training, validation and test images, 60, 20 and 20 percent of each class.

    Args:
        folder: A folder with a folder of images for each class.
        class_names: Names of those to read; their indices are the labels.
        size: Height and width that all images are resized to.
        channels: 3 for colours, 1 for grey.
        seed: Seed of the split.
        streamed: Whether the images are read while models are trained, for those that do not fit
            into memory.
        batch_size: Images of a batch, where they are read while models are trained.

    Returns:
        Three pairs of images, uint8 of shape (n, height, width, channels), and labels, or three
        `tf.data.Dataset` of batches of these.
    """
    files, classes = files_of(folder, class_names, SUFFIXES)

    def read(row: int) -> np.ndarray:
        return read_image(files[row], size, channels)

    return file_splits(
        read,
        np.array(classes),
        shape=(*size, channels),
        dtype="uint8",
        seed=seed,
        streamed=streamed,
        batch_size=batch_size,
    )

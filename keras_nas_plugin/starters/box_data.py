"""Images with the boxes of the objects in them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import listed
from keras_nas_plugin.starters.box_formats import Annotations, Box, ImageIndex, read_annotations
from keras_nas_plugin.starters.image_data import image_size, read_image
from keras_nas_plugin.starters.splits import at_random

# If more boxes than this share reach beyond their images, they are not in pixels of these images.
_MOST_OUTSIDE = 0.5


@dataclasses.dataclass(frozen=True)
class BoxedImages:
    """Images and the boxes of the objects in them.

    Attributes:
        files: The images.
        class_names: The classes of the boxes.
        boxes: Shape (m, 6): number of the image, number of the class, and left, top, right and
            bottom as fractions of the image, from 0 to 1; each box has an area.
        findings: What was noticed, a sentence each.
    """

    files: list[Path]
    class_names: list[str]
    boxes: np.ndarray
    findings: list[str]

    @property
    def most(self) -> int:
        """The largest number of boxes of an image."""
        return int(np.bincount(self.boxes[:, 0].astype(int)).max())


def read_boxes(folder: str | Path) -> BoxedImages:
    """Read and check the boxes of a folder; images are only opened for their sizes.

    Args:
        folder: A folder with `images/` and boxes: see `box_splits`.

    Raises:
        SourceError: A file cannot be read, or boxes do not fit the images; the message names the
            place.
    """
    folder = Path(folder)
    images = ImageIndex(folder)
    annotations = read_annotations(folder, images)
    boxes, findings = _fractions(folder, annotations, images.files)
    names = [name for name in annotations.class_names if boxes[name]]
    rows = [(image, number, *sides) for number, name in enumerate(names)
            for image, sides in boxes[name]]  # fmt: skip
    unused = [name for name in annotations.class_names if name not in names]
    if unused:
        findings.append(f"Classes without boxes are left out: {listed(unused)}.")
    folders = {path.relative_to(images.folder).parts[0] for path in images.files
               if path.parent != images.folder}  # fmt: skip
    if folders:
        findings.append(
            f"Images in the folders {listed(sorted(folders))} are put together, and divided anew."
        )
    return BoxedImages(
        images.files, names, np.array(rows, "float64"), [*annotations.findings, *findings]
    )


_Sides = tuple[float, float, float, float]


def _fractions(
    folder: Path, annotations: Annotations, files: Sequence[Path]
) -> tuple[dict[str, list[tuple[int, _Sides]]], list[str]]:
    """Number of the image and sides from 0 to 1 of the boxes with an area, by class; findings.

    Raises:
        SourceError: A box is none, most of them reach beyond their images, or none has an area.
    """
    sizes: dict[int, tuple[int, int]] = {}
    boxes: dict[str, list[tuple[int, _Sides]]] = {name: [] for name in annotations.class_names}
    outside, empty = [], []
    for box in annotations.boxes:
        if box.image not in sizes:
            sizes[box.image] = _checked_size(box, annotations, files)
        sides, reach = _checked_sides(box, sizes[box.image], annotations.in_pixels)
        # Rounded sides may be beyond the border by less than a pixel.
        if reach > 0.5:
            outside.append(box)
        if sides[0] == sides[2] or sides[1] == sides[3]:
            empty.append(box)
        else:
            boxes[box.class_name].append((box.image, sides))
    if len(outside) > _MOST_OUTSIDE * len(annotations.boxes):
        height, width = sizes[outside[0].image]
        raise SourceError(
            f"`{folder}` must have boxes within its images; {len(outside):,} of "
            f"{len(annotations.boxes):,} reach beyond them, such as {outside[0].where}, "
            f"{list(outside[0].sides)} in an image of {width}x{height} pixels"
        )
    if len(empty) == len(annotations.boxes):
        got = f"{len(empty):,} without one" if empty else "none"
        raise SourceError(f"`{folder}` must have boxes with an area; got {got}")
    findings = []
    for affected, what in (
        (outside, "reach beyond the border of their images and are clipped"),
        (empty, "have no area and are left out"),
    ):
        if affected:
            places = listed([box.where for box in affected], 1)
            findings.append(f"{len(affected):,} boxes {what}: {places}.")
    return boxes, findings


def _checked_sides(box: Box, size: tuple[int, int], in_pixels: bool) -> tuple[_Sides, float]:
    """Sides from 0 to 1, and by how many pixels the box reached beyond its image.

    Raises:
        SourceError: The sides are no numbers, or not in order.
    """
    if not all(map(math.isfinite, box.sides)):
        raise SourceError(f"{box.where} must have finite numbers; got {list(box.sides)}")
    left, top, right, bottom = box.sides
    if left > right or top > bottom:
        raise SourceError(
            f"{box.where} must have left <= right and top <= bottom; got {left:g} to {right:g} "
            f"and {top:g} to {bottom:g}"
        )
    height, width = size
    if in_pixels:
        left, top, right, bottom = left / width, top / height, right / width, bottom / height
    reach = max(-left * width, -top * height, (right - 1) * width, (bottom - 1) * height)
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in (left, top, right, bottom))
    return (left, top, right, bottom), reach


def _checked_size(box: Box, annotations: Annotations, files: Sequence[Path]) -> tuple[int, int]:
    """Height and width of the image of a box.

    Raises:
        SourceError: The image cannot be read, or has another size than its annotations say.
    """
    path = files[box.image]
    size = image_size(path)
    declared = annotations.sizes.get(box.image, size)
    if declared != size:
        raise SourceError(
            f"`{path}` must have the size that its boxes were drawn in, {declared[1]}x"
            f"{declared[0]}; got {size[1]}x{size[0]}"
        )
    return size


def box_splits(
    folder: str | Path,
    class_names: Sequence[str],
    *,
    size: tuple[int, int],
    channels: int = 3,
    seed: int = 0,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Training, validation and test images with their boxes, 60, 20 and 20 percent.

    Args:
        folder: A folder with `images/` and one of `boxes.csv` (columns image, class, left, top,
            right and bottom; in pixels, or as fractions if none is greater than 1),
            `annotations.json` (COCO), `annotations/*.xml` (Pascal VOC) or `labels/*.txt` (YOLO,
            with the names of the classes in `classes.txt` or `data.yaml`).
        class_names: Classes of the boxes to read; their indices are the labels.
        size: Height and width that all images are resized to.
        channels: 3 for colours, 1 for grey.
        seed: Seed of the split.

    Returns:
        Three pairs of images, uint8 of shape (n, height, width, channels), and boxes: see
        `padded_boxes`.

    Raises:
        SourceError: A class has no boxes, a file cannot be read, or boxes do not fit the images.
    """
    source = read_boxes(folder)
    missing = [name for name in class_names if name not in source.class_names]
    if missing:
        raise SourceError(
            f"`class_names` must be classes of boxes in `{folder}`, some of "
            f"{listed(source.class_names)}; got {missing[0]!r}"
        )
    labels = {source.class_names.index(name): label for label, name in enumerate(class_names)}
    boxes = source.boxes[np.isin(source.boxes[:, 1], list(labels))]
    boxes[:, 1] = [labels[int(number)] for number in boxes[:, 1]]
    images = np.stack([read_image(path, size, channels) for path in source.files])
    padded = padded_boxes(len(images), boxes)
    parts = at_random(len(images), seed=seed)
    return tuple((images[rows], padded[rows]) for rows in parts)


def padded_boxes(images: int, boxes: np.ndarray, most: int | None = None) -> np.ndarray:
    """Boxes by image, in the form that models for detection are trained on.

    >>> boxes = np.array([[1, 0, 0.1, 0.2, 0.3, 0.4]])
    >>> padded_boxes(2, boxes)[:, 0].round(1).tolist()[0]
    [-1.0, 0.0, 0.0, 0.0, 0.0]

    Args:
        images: Number of images.
        boxes: Shape (m, 6): number of the image, class, left, top, right, bottom.
        most: Boxes of an image, at least as many as any has; None for as many.

    Returns:
        float32 of shape (images, most, 5): class, left, top, right, bottom; -1 as the class where
        an image has no further box.
    """
    numbers = boxes[:, 0].astype("int64")
    most = int(np.bincount(numbers).max(initial=0)) if most is None else most
    padded = np.zeros((images, most, 5), "float32")
    padded[..., 0] = -1
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    place = np.arange(len(numbers)) - np.searchsorted(numbers, numbers)
    padded[numbers, place] = boxes[order, 1:]
    return padded

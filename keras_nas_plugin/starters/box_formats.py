"""Files with the boxes of objects in images: CSV, COCO, Pascal VOC and YOLO."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import yaml

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import listed
from keras_nas_plugin.starters.folders import in_hidden
from keras_nas_plugin.starters.image_data import image_files
from keras_nas_plugin.starters.mask_data import IMAGES

_TABLE, _COCO, _VOC, _YOLO = "boxes.csv", "annotations.json", "annotations", "labels"
#: The files that can have boxes, for messages.
LAYOUTS = f"{_TABLE}, {_COCO} (COCO), {_VOC}/*.xml (Pascal VOC) or {_YOLO}/*.txt (YOLO)"
_SIDES = ("left", "top", "right", "bottom")
# Names of columns in the tables of other programs.
_ALIASES = {"filename": "image", "label": "class"}
_ALIASES |= {"xmin": "left", "ymin": "top", "xmax": "right", "ymax": "bottom"}


class Box(NamedTuple):
    """A box as its file has it.

    Attributes:
        where: The place in the file, for messages.
        image: Number of the image.
        class_name: The class of the object.
        sides: Left, top, right and bottom, in pixels or as fractions of the image.
    """

    where: str
    image: int
    class_name: str
    sides: tuple[float, float, float, float]


@dataclasses.dataclass
class Annotations:
    """The boxes of a folder.

    Attributes:
        class_names: All classes in the order of the file, also those without boxes.
        in_pixels: Whether sides are in pixels; else they are fractions of the image.
        boxes: The boxes.
        sizes: Height and width of images by number, where the file has them.
        findings: What was noticed, a sentence each.
    """

    class_names: list[str]
    in_pixels: bool
    boxes: list[Box] = dataclasses.field(default_factory=list)
    sizes: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    findings: list[str] = dataclasses.field(default_factory=list)


class ImageIndex:
    """The images of a folder, by the names that other files have for them.

    Args:
        folder: A folder with `images/`, in which there may be further folders.

    Attributes:
        files: The images in the order of their names.

    Raises:
        SourceError: There are no images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / IMAGES
        self.files = image_files(self.folder)
        self._numbers: dict[str, list[int]] = {}
        for number, path in enumerate(self.files):
            relative = path.relative_to(self.folder)
            names = {relative.as_posix(), relative.with_suffix("").as_posix()}
            for name in names | {path.name, path.stem}:
                self._numbers.setdefault(name, []).append(number)

    def __contains__(self, name: str) -> bool:
        return bool(self._candidates(name))

    def number(self, name: str, where: str) -> int:
        """The number of an image.

        Args:
            name: Its path within `images/` or its name, also without the ending.
            where: What names it, for messages.

        Raises:
            SourceError: There is no such image, or more than one.
        """
        numbers = self._candidates(name)
        if len(numbers) == 1:
            return numbers[0]
        paths = [self.files[number].relative_to(self.folder) for number in numbers]
        got = f", which may be {listed(paths)}" if paths else ", which does not exist"
        raise SourceError(f"{where} must name an image in `{self.folder}`; got {name!r}{got}")

    def _candidates(self, name: str) -> list[int]:
        name = name.replace("\\", "/").removeprefix("./").removeprefix(f"{IMAGES}/")
        last = name.rpartition("/")[2]
        for candidate in (name, last, Path(last).stem):
            if candidate in self._numbers:
                return self._numbers[candidate]
        return []


def annotation_files(folder: Path) -> list[Path]:
    """The files and folders with boxes that a folder has; usually one, of `LAYOUTS`."""
    if not (folder / IMAGES).is_dir():
        return []
    sources = [folder / _TABLE] if (folder / _TABLE).is_file() else []
    sources += _coco_files(folder)
    if _files(folder / _VOC, "*.xml"):
        sources.append(folder / _VOC)
    if _files(folder / _YOLO, "**/*.txt"):
        sources.append(folder / _YOLO)
    return sources


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files by the order of their names, without hidden ones."""
    return [p for p in sorted(folder.glob(pattern)) if not in_hidden(p.relative_to(folder))]


def read_annotations(folder: Path, images: ImageIndex) -> Annotations:
    """Read the boxes of a folder.

    Raises:
        SourceError: There are none, several files have boxes, or one of them cannot be read.
    """
    sources = annotation_files(folder)
    if len(sources) != 1:
        got = listed([path.relative_to(folder) for path in sources]) or "none"
        raise SourceError(f"`{folder}` must have boxes in one of {LAYOUTS}; got {got}")
    (source,) = sources
    if source.suffix == ".json":
        return _read_coco(source, images)
    if source.is_file():
        return _read_table(source, images)
    return _read_voc(source, images) if source.name == _VOC else _read_yolo(source, images)


def _read_table(path: Path, images: ImageIndex) -> Annotations:
    """Rows with the columns image, class, left, top, right and bottom.

    Sides are fractions if none is greater than 1. A row with an image only is one without boxes.
    """
    from keras_nas_plugin.starters.table_data import as_numbers, check_fields, read_table

    check_fields(path)
    table = read_table(path)
    lower = [str(name).lower() for name in table.columns]
    table.columns = [_ALIASES.get(name, name) for name in lower]
    expected = ["image", "class", *_SIDES]
    if any(list(table.columns).count(name) != 1 for name in expected):
        raise SourceError(
            f"`{path}` must have the columns {', '.join(expected)}; got {', '.join(lower)}"
        )
    filled = (table[expected[1:]] != "").any(axis=1).to_numpy()
    numbers = np.stack([as_numbers(table[side]) for side in _SIDES], axis=1)
    annotations = Annotations(
        sorted(set(table["class"][filled])), bool(np.nanmax(numbers, initial=0) > 1)
    )
    for row in range(len(table)):
        where = f"row {row + 1} of {path.name}"
        image = images.number(table["image"][row], where)
        if not filled[row]:
            continue
        texts = [table[side][row] for side in _SIDES]
        if not table["class"][row] or not np.isfinite(numbers[row]).all():
            raise SourceError(
                f"{where} must have a class and four numbers; got {table['class'][row]!r} and "
                f"{', '.join(map(repr, texts))}"
            )
        left, top, right, bottom = map(float, numbers[row])
        box = Box(where, image, table["class"][row], (left, top, right, bottom))
        annotations.boxes.append(box)
    return annotations


def _coco_files(folder: Path) -> list[Path]:
    """The file in COCO's format, if there is one."""
    if (folder / _COCO).is_file():
        return [folder / _COCO]
    paths = [*_files(folder, "*.json"), *_files(folder / _VOC, "*.json")]
    return paths if len(paths) == 1 and not _lacking(_json(paths[0], refuse=False)) else []


def _json(path: Path, *, refuse: bool = True) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if not refuse:
            return None
        raise SourceError(f"`{path}` must be a JSON file in UTF-8; {error}") from error


def _lacking(content: object) -> list[str]:
    keys = ("images", "annotations", "categories")
    mapping = content if isinstance(content, dict) else {}
    return [key for key in keys if not isinstance(mapping.get(key), list)]


def _read_coco(path: Path, images: ImageIndex) -> Annotations:
    """COCO's format: boxes are left, top, width and height in pixels.

    Source: https://cocodataset.org/#format-data, "Object Detection".
    """
    content: Any = _json(path)
    if lacking := _lacking(content):
        raise SourceError(
            f"`{path}` must have the lists images, annotations and categories, as COCO has; it "
            f"lacks {', '.join(lacking)}"
        )
    try:
        entries = {image["id"]: image for image in content["images"]}
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        objects = [(entry["image_id"], entry["category_id"], entry["bbox"])
                   for entry in content["annotations"]]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise SourceError(
            f"`{path}` must have images with id and file_name, categories with id and name, and "
            f"annotations with image_id, category_id and bbox; got one without: {error}"
        ) from error
    annotations = Annotations(list(dict.fromkeys(categories.values())), in_pixels=True)
    crowds = 0
    for number, (image, category, sides) in enumerate(objects):
        where = f"annotation {content['annotations'][number].get('id', number)} of {path.name}"
        if image not in names or category not in categories:
            kind, got = ("an image", image) if image not in names else ("a category", category)
            raise SourceError(f"{where} must have the id of {kind} in the file; got {got!r}")
        if not _are_numbers(sides):
            raise SourceError(f"{where} must have a bbox of four numbers; got {sides!r}")
        if content["annotations"][number].get("iscrowd"):
            crowds += 1
            continue
        row = images.number(names[image], where)
        x, y, width, height = map(float, sides)
        annotations.boxes.append(
            Box(where, row, categories[category], (x, y, x + width, y + height))
        )
        height, width = entries[image].get("height"), entries[image].get("width")
        if isinstance(height, int) and isinstance(width, int):
            annotations.sizes[row] = height, width
    if crowds:
        annotations.findings.append(
            f"{crowds:,} regions of crowds are left out, since they are no single objects."
        )
    return annotations


def _are_numbers(sides: object) -> bool:
    return (
        isinstance(sides, list)
        and len(sides) == 4
        and all(isinstance(side, int | float) and not isinstance(side, bool) for side in sides)
    )


def _read_voc(folder: Path, images: ImageIndex) -> Annotations:
    """Pascal VOC's format: an XML file for each image, with sides in pixels counted from 1.

    Source: Everingham & Winn 2012, "The PASCAL Visual Object Classes Challenge 2012 Development
    Kit", section 3.3: the sides are the first and the last pixel of a box.
    """
    annotations = Annotations([], in_pixels=True)
    for path in _files(folder, "*.xml"):
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise SourceError(f"`{path}` must be an XML file; {error}") from error
        objects = root.findall("object")
        named = root.findtext("filename") or ""
        # Renamed images often keep the old name in their XML file.
        name = path.stem if path.stem in images or not named.strip() else named.strip()
        if not objects and name not in images:
            continue
        image = images.number(name, f"`{path}`")
        size = [root.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
        if all(side.isdecimal() and int(side) > 0 for side in size):
            annotations.sizes[image] = int(size[0]), int(size[1])
        for number, element in enumerate(objects):
            where = f"object {number + 1} of {path.name}"
            class_name = (element.findtext("name") or "").strip()
            texts = [element.findtext(f"bndbox/{side}") for side in _VOC_SIDES]
            sides = [_number(text) for text in texts]
            if not class_name or None in sides:
                raise SourceError(
                    f"{where} must have a name and a bndbox with the numbers "
                    f"{', '.join(_VOC_SIDES)}; got {class_name!r} and {texts}"
                )
            left, top, right, bottom = (float(side) for side in sides if side is not None)
            if left <= right and top <= bottom:
                left, top = max(0.0, left - 1), max(0.0, top - 1)
            annotations.boxes.append(Box(where, image, class_name, (left, top, right, bottom)))
    annotations.class_names = sorted({box.class_name for box in annotations.boxes})
    return annotations


_VOC_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _read_yolo(folder: Path, images: ImageIndex) -> Annotations:
    """YOLO's format: a text file for each image, with a line for each box.

    A line is the number of the class, then centre (x, y), width and height as fractions.
    Source: https://docs.ultralytics.com/datasets/detect/.
    """
    names = _yolo_names(folder)
    numbers: set[int] = set()
    boxes = []
    for path in _files(folder, "**/*.txt"):
        if path.name == _CLASSES:
            continue
        relative = path.relative_to(folder)
        for where, kind, (x, y, width, height) in _yolo_lines(path, relative, names):
            image = images.number(relative.with_suffix("").as_posix(), f"`{path}`")
            numbers.add(kind)
            sides = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            boxes.append(Box(where, image, names[kind] if names else str(kind), sides))
    class_names = list(dict.fromkeys(names or map(str, sorted(numbers))))
    return Annotations(class_names, in_pixels=False, boxes=boxes)


def _yolo_lines(
    path: Path, relative: Path, names: list[str]
) -> Iterator[tuple[str, int, tuple[float, float, float, float]]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"`{path}` must be a text file in UTF-8; {error}") from error
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        where = f"line {number + 1} of {relative}"
        values = [_number(text) for text in line.split()]
        fractions = [value for value in values[1:] if value is not None]
        if len(values) != 5 or len(fractions) != 4 or any(abs(value) > 1 for value in fractions):
            raise SourceError(
                f"{where} must have a class and the fractions x, y, width and height; got "
                f"{line.strip()[:60]!r}"
            )
        kind, most = values[0], len(names) or math.inf
        if kind is None or kind != kind // 1 or not 0 <= kind < most:
            known = f"0 to {len(names) - 1}" if names else "an integer from 0"
            raise SourceError(
                f"{where} must begin with the number of a class, {known}; got {line.split()[0]!r}"
            )
        x, y, width, height = fractions
        yield where, int(kind), (x, y, width, height)


_CLASSES = "classes.txt"


def _yolo_names(folder: Path) -> list[str]:
    """The names of the classes by number; none if no file has them.

    Raises:
        SourceError: A file has no names that can be read.
    """
    for path in (folder.parent / _CLASSES, folder / _CLASSES):
        if path.is_file():
            return _read(path, lambda text: [line.strip() for line in text.split("\n") if line])
    for name in ("data.yaml", "data.yml"):
        path = folder.parent / name
        if path.is_file():
            return _read(path, _names_of_yaml)
    return []


def _names_of_yaml(text: str) -> list[str]:
    names = yaml.safe_load(text)["names"]
    if isinstance(names, dict):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"got the names {names!r}")
    return [str(name) for name in names]


def _read(path: Path, parse: Callable[[str], list[str]]) -> list[str]:
    try:
        return parse(path.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"`{path}` must have the names of the classes; {type(error).__name__}: {reason}"
        ) from error

"""Search for a detector: an anchor-free head over a searched backbone.

    keras-nas search recipes/object_detection.py --max-trials 10 --epochs 20
    python recipes/object_detection.py --data cells.npz --max-trials 10 --epochs 20 --baseline
    python recipes/object_detection.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: scikit-learn's digits (0 to 3) in noise; the default;
* a folder with `images/` and boxes, as CSV, COCO, Pascal VOC or YOLO: see
  `keras_nas_plugin.starters.box_splits`;
* an `.npz` file with images `x_train` of shape (n, height, width, channels) in uint8, and
  `boxes_train` of shape (m, 6), a row for each box: number of the image, number of the class, and
  left, top, right and bottom from 0 to 1. Optionally the same with `val` and `test`, and the names
  of the classes as `classes`.

Models predict a map of each class, whose peaks are the centres of its objects, and the position
and size of the box of each cell (Zhou et al. 2019, "Objects as Points"). The search chooses by the
loss, which every architecture has on the same grid. The best model is judged by mean average
precision.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers, ops

from keras_nas_plugin.recipes import image_classification, running, scenes
from keras_nas_plugin.space.presets.cropping import cropped
from keras_nas_plugin.starters.box_data import box_splits, padded_boxes, read_boxes
from keras_nas_plugin.starters.images import common_size, inspect_images
from keras_nas_plugin.starters.series_data import load_npz

OBJECTIVE = "val_loss"
STRIDE = 8  # pixels of a cell of the grid
THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # of COCO
MOST_DETECTIONS = 100  # of an image
LEAST_SCORE = 0.01
OVERLAP = 0.5  # of two detections of the same class, of which the weaker is left out
GENERATED = (800, 200, 200)

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Stages of convolutions at 1/4, 1/8 and 1/16 of the resolution, a neck and a head.

    Decisions: the kind, kernel and number of blocks of each stage, width, normalization, whether
    the coarsest stage is merged into the one before (Lin et al. 2017, "Feature Pyramid Networks"),
    depth and width of the head, learning rate.
    """
    finish = functools.partial(
        image_classification.normalize_and_activate,
        normalization=hp.Choice("normalization", ["batch", "group"]),
        activation=hp.Choice("activation", ["relu", "silu"]),
    )
    width = hp.Choice("width", [16, 24, 32], default=24)
    neck = hp.Choice("neck", ["none", "pyramid"], default="pyramid")
    image = keras.Input(_splits().training[0].shape[1:], name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = finish(layers.Conv2D(width, 3, strides=2, padding="same")(x))
    stages = []
    for stage in (1, 2, 3):
        with hp.conditional_scope("neck", ["none", "pyramid"] if stage < 3 else ["pyramid"]):
            kind = hp.Choice(f"stage{stage}_block", ["conv", "separable", "residual"])
            kernel = hp.Choice(f"stage{stage}_kernel", [3, 5])
            blocks = hp.Int(f"stage{stage}_blocks", 1, 2)
        if stage == 3 and neck == "none":  # inactive: the values above are None
            continue
        channels = width * stage
        x = finish(layers.Conv2D(channels, 3, strides=2, padding="same")(x))
        for _ in range(blocks):
            x = image_classification.block_of(x, kind, channels, kernel, finish)
        stages.append(x)
    x = stages[1]
    if neck == "pyramid":
        up = layers.UpSampling2D(2)(layers.Conv2D(x.shape[-1], 1)(stages[2]))
        x = layers.Add()([x, cropped(up, x)])
    for _ in range(hp.Int("head_blocks", 1, 2)):
        x = finish(
            layers.Conv2D(hp.Choice("head_width", [32, 64], default=64), 3, padding="same")(x)
        )
    rate = hp.Float("learning_rate", 5e-4, 1e-2, sampling="log", default=2e-3)
    return _compiled(image, x, rate)


def _compiled(image: keras.KerasTensor, x: keras.KerasTensor, rate: float) -> keras.Model:
    model = keras.Model(image, detection_head(x, len(_splits().class_names)))
    model.compile(keras.optimizers.Adam(rate), DetectionLoss())
    return model


def detection_head(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Logits of the classes, and four numbers of a box, for each cell: see `DetectionLoss`.

    Args:
        x: Features of shape (batch, rows, columns, channels).
        classes: Number of classes.
    """
    # The bias of Lin et al. 2017, "Focal Loss", section 4.1: at first, every cell is improbable.
    rare = keras.initializers.Constant(-2.2)
    return layers.Concatenate(dtype="float32", name="grid")(
        [
            layers.Conv2D(classes, 1, bias_initializer=rare, dtype="float32", name="centres")(x),
            layers.Conv2D(4, 1, dtype="float32", name="boxes")(x),
        ]
    )


class DetectionLoss(keras.losses.Loss):
    """Focal loss of the centres plus the absolute error of the boxes.

    Source: Zhou et al. 2019, "Objects as Points", equations 1 to 3; widths and heights are
    logarithms of cells, so that small and large objects count the same.

    Labels have the shape (batch, most, 5): class, left, top, right, bottom, as those of
    `padded_boxes`.
    Predictions have the shape (batch, rows, columns, classes + 4): logits, then the centre within
    the cell (x, y), and the logarithms of width and height in cells.
    """

    def __init__(self, name: str = "detection", **options: Any) -> None:
        super().__init__(name=name, **options)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """See `keras.losses.Loss.call`; the loss of each image, of shape (batch,)."""
        rows, columns, channels = y_pred.shape[1:]
        classes = channels - 4
        present = ops.cast(y_true[..., 0] >= 0, "float32")
        count = ops.maximum(ops.sum(present, axis=1), 1.0)
        left, top, right, bottom = (y_true[..., 1 + i] for i in range(4))
        x, y = (left + right) / 2 * columns, (top + bottom) / 2 * rows
        width = ops.maximum((right - left) * columns, 1e-3)
        height = ops.maximum((bottom - top) * rows, 1e-3)
        column = ops.clip(ops.floor(x), 0, columns - 1)
        row = ops.clip(ops.floor(y), 0, rows - 1)

        # 1 at the cell of a centre, and a Gaussian around it, by class.
        across = _bell(ops.arange(columns, dtype="float32"), column, width)
        down = _bell(ops.arange(rows, dtype="float32"), row, height)
        near = down[..., :, None] * across[..., None, :] * present[..., None, None]
        kind = ops.one_hot(ops.cast(y_true[..., 0], "int32"), classes)
        heat = ops.max(near[..., None] * kind[:, :, None, None, :], axis=1)
        logits = y_pred[..., :classes]
        probability = ops.sigmoid(logits)
        centre = ops.cast(heat > 0.999, "float32")
        focal = centre * (1 - probability) ** 2 * ops.log_sigmoid(logits)
        focal += (1 - centre) * (1 - heat) ** 4 * probability**2 * ops.log_sigmoid(-logits)

        cell = ops.cast(row * columns + column, "int32")
        flat = ops.reshape(y_pred[..., classes:], (-1, rows * columns, 4))
        boxes = ops.take_along_axis(flat, ops.repeat(cell[..., None], 4, axis=-1), axis=1)
        wanted = ops.stack([x - column, y - row, ops.log(width), ops.log(height)], axis=-1)
        error = ops.sum(ops.abs(boxes - wanted), axis=-1) * present
        return (ops.sum(error, axis=1) - ops.sum(focal, axis=(1, 2, 3))) / count


def _bell(cells: Any, centre: Any, size: Any) -> Any:
    """A Gaussian over the cells of a row or column, for each box: (batch, most, cells)."""
    deviation = ops.maximum(size / 6, 0.3)
    return ops.exp(-(((cells - centre[..., None]) / deviation[..., None]) ** 2) / 2)


# The data


def load_data() -> dict[str, Any]:
    """Load the images and boxes that `--data` names, in three splits."""
    mapping = _splits().as_mapping()
    del mapping[
        "class_names"
    ]  # those of a classifier: the registered model would name its outputs
    return mapping


def _splits() -> running.Splits:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> running.Splits:
    if data == "generated":
        parts = [(part.images, part.boxes) for part in scenes.scene_splits(*GENERATED)]
        names: Sequence[str] = scenes.CLASSES
    elif Path(data).is_dir():
        parts, names = read_folder(Path(data))
    elif data.endswith(".npz"):
        parts, names = read_arrays(Path(data))
    else:
        raise ValueError(
            "`--data` must be generated, a folder with images/ and boxes, or an .npz file; "
            f"got {data!r}"
        )
    limited = [(x[rows], y[rows]) for x, y in parts for rows in [running.limited(len(x), limit)]]
    return running.Splits(*limited, class_names=names)


def read_folder(folder: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """Read the images and boxes of a folder: see the top of this file.

    Returns:
        As `read_arrays`.

    Raises:
        ValueError: A file is missing or cannot be read, or boxes do not fit the images.
    """
    source = read_boxes(folder)
    for finding in source.findings:
        warnings.warn(f"{folder}: {finding}", stacklevel=2)
    sizes, colours = inspect_images(source.files)
    names, channels = source.class_names, 3 if colours else 1
    return list(box_splits(folder, names, size=common_size(sizes), channels=channels)), names


def read_arrays(path: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """Read images and boxes from an `.npz` file: see the top of this file.

    Returns:
        Images with padded boxes, as those of `Scenes`, of three splits; the names of the classes.

    Raises:
        ValueError: The file cannot be read, or its arrays do not fit together.
    """
    arrays = load_npz(path)
    parts = {}
    for suffix in ("train", "val", "test"):
        x, boxes = arrays.get(f"x_{suffix}"), arrays.get(f"boxes_{suffix}")
        if suffix != "train" and x is None and boxes is None:
            continue
        _check(path, suffix, x, boxes)
        empty = (boxes[:, 2] == boxes[:, 4]) | (boxes[:, 3] == boxes[:, 5])
        if empty.all():
            raise ValueError(f"{path} must have boxes with an area in boxes_{suffix}; got none")
        if empty.any():
            warnings.warn(
                f"{path}: boxes without area in boxes_{suffix} are left out: {empty.sum()}",
                stacklevel=2,
            )
        parts[suffix] = x, boxes[~empty]
    running.check_images(path, {name: x for name, (x, _) in parts.items()})
    classes = 1 + max(int(boxes[:, 1].max(initial=0)) for _, boxes in parts.values())
    names = [str(name) for name in arrays.get("classes", range(classes))]
    if len(names) < classes:
        raise ValueError(
            f"{path} must have a name in `classes` for each of {classes}; got {names}"
        )
    most = max(int(np.bincount(boxes[:, 0].astype(int)).max()) for _, boxes in parts.values())
    padded = {name: (x, padded_boxes(len(x), boxes, most)) for name, (x, boxes) in parts.items()}
    for missing in (name for name in ("test", "val") if name not in padded):
        x, y = padded["train"]
        rest, held_out = running.divide(len(x))
        padded["train"], padded[missing] = (x[rest], y[rest]), (x[held_out], y[held_out])
    return [padded[name] for name in ("train", "val", "test")], names


def _check(path: Path, suffix: str, x: np.ndarray | None, boxes: np.ndarray | None) -> None:
    got = {name: getattr(array, "shape", None) for name, array in (("x", x), ("boxes", boxes))}
    if x is None or boxes is None or x.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 6:
        raise ValueError(
            f"{path} must have images x_{suffix} of shape (n, height, width, channels) and "
            f"boxes_{suffix} of shape (m, 6); got {got}"
        )
    image, kind, left, top, right, bottom = boxes.T
    if not np.all(np.isfinite(boxes)):
        raise ValueError(f"{path}: boxes_{suffix} must be finite numbers; got NaN or infinity")
    if np.any(image < 0) or np.any(image >= len(x)) or np.any(kind < 0):
        raise ValueError(
            f"{path}: boxes_{suffix} must begin with the number of one of {len(x)} images, and "
            f"of a class; got images {image.min():g} to {image.max():g} and classes from "
            f"{kind.min():g}"
        )
    sides = boxes[:, 2:]
    wrong = (left > right) | (top > bottom) | (sides < 0).any(axis=1) | (sides > 1).any(axis=1)
    if wrong.any():
        raise ValueError(
            f"{path}: boxes_{suffix} must have left <= right and top <= bottom from 0 to 1; "
            f"got {sides[wrong][0].tolist()}"
        )


# How a model is judged


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Mean average precision at an overlap of 0.5, and the mean over 0.5 to 0.95."""
    grids = running.predict(model, x)
    detected, truths = _objects(y, grids)
    values = [mean_average_precision(detected, truths, threshold) for threshold in THRESHOLDS]
    return {"map_50": values[0], "map_50_95": float(np.mean(values))}


def map_50(y: np.ndarray, grids: np.ndarray) -> float:
    """Mean average precision at an overlap of 0.5, for `keras-nas promote --metric`."""
    return average_precision_at(0.5, y, grids)


def average_precision_at(threshold: float, y: np.ndarray, grids: np.ndarray) -> float:
    """The mean average precision of predictions.

    Args:
        threshold: See `mean_average_precision`.
        y: Boxes of each image, shape ``[images, most, 5]``; those of class -1 are padding.
        grids: Predictions: see `detections`.
    """
    return mean_average_precision(*_objects(y, grids), threshold)


def _objects(y: np.ndarray, grids: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The objects that are detected in each image, and those that are in it."""
    return [detections(grid) for grid in grids], [boxes[boxes[:, 0] >= 0] for boxes in y]


def detections(grid: np.ndarray) -> np.ndarray:
    """The objects that a model sees in an image, the most probable first.

    Args:
        grid: Its prediction, of shape (rows, columns, classes + 4); see `DetectionLoss`.

    Returns:
        Shape (k, 6): class, probability, left, top, right, bottom.
    """
    rows, columns, channels = grid.shape
    probability = 1 / (1 + np.exp(-grid[..., : channels - 4].astype("float64")))
    order = np.argsort(-probability, axis=None, kind="stable")[: 4 * MOST_DETECTIONS]
    row, column, kind = np.unravel_index(order, probability.shape)
    x, y, width, height = grid[row, column, channels - 4 :].T.astype("float64")
    width, height = np.exp(np.clip([width, height], -10, 10))
    x, y = column + x, row + y
    left, right = (x - width / 2) / columns, (x + width / 2) / columns
    top, bottom = (y - height / 2) / rows, (y + height / 2) / rows
    boxes = np.clip(np.stack([left, top, right, bottom], axis=1), 0, 1)
    likely = probability[row, column, kind]
    chosen: list[int] = []
    for i in np.flatnonzero(likely >= LEAST_SCORE):
        rivals = [j for j in chosen if kind[j] == kind[i]]
        if not rivals or overlaps(boxes[i : i + 1], boxes[rivals]).max() <= OVERLAP:
            chosen.append(i)
        if len(chosen) == MOST_DETECTIONS:
            break
    return np.column_stack([kind, likely, boxes])[chosen]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of boxes (left, top, right, bottom): shape (n, m).

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([[0.333, 0.   ]])
    """
    corner = np.maximum(first[:, np.newaxis, :2], second[:, :2])
    opposite = np.minimum(first[:, np.newaxis, 2:], second[:, 2:])
    shared = np.prod(np.clip(opposite - corner, 0, None), axis=2)
    area, other = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second))
    return shared / np.maximum(area[:, np.newaxis] + other - shared, 1e-12)


def mean_average_precision(
    predicted: Sequence[np.ndarray], truths: Sequence[np.ndarray], threshold: float
) -> float:
    """The mean of the average precisions of all classes that occur.

    Args:
        predicted: Detections of each image, of shape (k, 6): see `detections`.
        truths: Boxes of each image, of shape (m, 5): class, left, top, right, bottom.
        threshold: The least overlap of a detection with its box. The detections, the most probable
            of all images first, each take the box that they overlap most; a box that is taken
            already counts as a false detection, as in PASCAL VOC.

    Raises:
        ValueError: There are no boxes, or not as many images in both.
    """
    if len(predicted) != len(truths):
        raise ValueError(
            f"`predicted` must have {len(truths)} images as `truths`; got {len(predicted)}"
        )
    kinds = {int(kind) for boxes in truths for kind in boxes[:, 0]}
    if not kinds:
        raise ValueError("`truths` must have boxes; got none")
    return float(
        np.mean([_average_precision(predicted, truths, k, threshold) for k in sorted(kinds)])
    )


def _average_precision(
    predicted: Sequence[np.ndarray], truths: Sequence[np.ndarray], kind: int, threshold: float
) -> float:
    probabilities, hits, count = [], [], 0
    for objects, boxes in zip(predicted, truths, strict=True):
        objects, boxes = objects[objects[:, 0] == kind], boxes[boxes[:, 0] == kind]
        count += len(boxes)
        taken = np.zeros(len(boxes), bool)
        overlap = overlaps(objects[:, 2:], boxes[:, 1:])
        for i in np.argsort(-objects[:, 1], kind="stable"):
            best = int(overlap[i].argmax()) if len(boxes) else -1
            hit = best >= 0 and overlap[i, best] >= threshold and not taken[best]
            if hit:
                taken[best] = True
            probabilities.append(objects[i, 1])
            hits.append(hit)
    order = np.argsort(-np.array(probabilities), kind="stable")
    return average_precision(np.array(hits, bool)[order], count)


def average_precision(hits: np.ndarray, count: int) -> float:
    """The area under the curve of precision by recall, made non-increasing (VOC since 2010).

    Args:
        hits: Whether each detection is right, the most probable first.
        count: Number of boxes, at least 1.

    >>> average_precision(np.array([True, False, True]), 2)  # 1/2 * 1 + 1/2 * 2/3
    0.8333333333333333
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_after = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_after[hits.astype(bool)].sum() / count)


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Five convolutions with batch normalization; only the learning rate varies."""
    image = keras.Input(_splits().training[0].shape[1:], name="image")
    x = layers.Rescaling(1 / 255)(image)
    for width, strides in ((16, 2), (32, 2), (64, 2), (64, 1), (64, 1)):
        x = layers.Conv2D(width, 3, strides=strides, padding="same")(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))
    return _compiled(image, x, hp.Float("learning_rate", 5e-4, 1e-2, sampling="log"))


RECIPE = running.Recipe(
    name="object-detection",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"convolutions": running.network(baseline_model, OBJECTIVE)},
    data="generated, a folder with images/ and boxes, or an .npz file with both",
    smoke_rows=64,
    trials=10,
    epochs=20,
    batch_size=16,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

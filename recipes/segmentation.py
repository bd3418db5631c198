"""Search for a U-Net that finds the class of every pixel.

    keras-nas search recipes/segmentation.py --max-trials 10 --epochs 8
    python recipes/segmentation.py --data photos/ --max-trials 10 --epochs 8 --baseline
    python recipes/segmentation.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `generated`: scikit-learn's digits (0 to 3) in noise; the default;
* a folder with `images/` and `masks/`, whose files have the same names; the values of the masks
  are the classes. All are resized to 128 x 128 pixels;
* an `.npz` file with images `x_train` of shape (n, height, width, channels) in uint8, masks
  `y_train` of shape (n, height, width) with classes from 0, and optionally the same with `val`
  and `test`.

The space is the preset `unet`, limited in size by the number of training images. The search
chooses by the mean intersection over union of the classes.
"""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin.recipes import running, scenes
from keras_nas_plugin.space import SpaceHyperModel
from keras_nas_plugin.space.presets import unet
from keras_nas_plugin.starters import mask_splits
from keras_nas_plugin.starters.mask_data import MASKS, image_and_mask_files, read_mask
from keras_nas_plugin.starters.series_data import load_npz

OBJECTIVE = keras_tuner.Objective("val_mean_iou", "max")
SIZE = (128, 128)  # of the images of a folder
GENERATED = (800, 200, 200)
Part = tuple[np.ndarray, np.ndarray]

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A U-Net of the preset `unet`, which takes raw pixels (0 to 255)."""
    image = keras.Input(_splits().training[0].shape[1:], name="image")
    network = _network(_splits())
    outputs = network.connect(hp, layers.Rescaling(1 / 255)(image))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    return _compiled(image, outputs, rate)


@functools.lru_cache(maxsize=1)  # the size that fits the data takes a second to find
def _network(splits: running.Splits) -> SpaceHyperModel:
    x, y = splits.training
    return unet(x.shape[1:], classes=_classes(), rows=len(y))


def _compiled(image: keras.KerasTensor, outputs: keras.KerasTensor, rate: float) -> keras.Model:
    model = keras.Model(image, outputs)
    mean_iou = keras.metrics.MeanIoU(_classes(), sparse_y_pred=False, name="mean_iou")
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[mean_iou])
    return model


def _classes() -> int:
    splits = _splits()
    parts = (splits.training, splits.validation, splits.test)
    return max(2, 1 + max(int(y.max()) for _, y in parts))


# The data


def load_data() -> tuple[Part, Part, Part]:
    """Load the images and masks that `--data` names, in three splits."""
    splits = _splits()
    return splits.training, splits.validation, splits.test


def _splits() -> running.Splits:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> running.Splits:
    if data == "generated":
        parts = [(part.images, part.masks) for part in scenes.scene_splits(*GENERATED)]
    elif Path(data).is_dir():
        parts = read_folder(Path(data))
    elif data.endswith(".npz"):
        parts = read_arrays(Path(data))
    else:
        raise ValueError(
            "`--data` must be generated, a folder with images/ and masks/, or an .npz file; "
            f"got {data!r}"
        )
    chosen = [running.limited(len(x), limit) for x, _ in parts]
    return running.Splits(
        *((x[rows], y[rows]) for (x, y), rows in zip(parts, chosen, strict=True))
    )


def read_folder(folder: Path) -> list[Part]:
    """Read the images and masks of a folder: see the top of this file.

    Raises:
        ValueError: A folder is missing, an image has no mask, or a file cannot be read.
    """
    missing = [name for name in ("images", MASKS) if not (folder / name).is_dir()]
    if missing:
        raise ValueError(f"{folder} must have the folders images/ and masks/; lacks {missing}")
    masks = (read_mask(mask) for _, mask in image_and_mask_files(folder))
    values = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)))
    return list(mask_splits(folder, values, size=SIZE))


def read_arrays(path: Path) -> list[Part]:
    """Read images and masks from an `.npz` file: see the top of this file.

    Raises:
        ValueError: The file cannot be read, or its arrays do not fit together.
    """
    arrays = load_npz(path)
    parts: dict[str, Part] = {}
    for suffix in ("train", "val", "test"):
        x, y = arrays.get(f"x_{suffix}"), arrays.get(f"y_{suffix}")
        if suffix != "train" and x is None and y is None:
            continue
        if x is None or y is None or x.ndim != 4 or y.shape != x.shape[:3]:
            got = {name: array.shape for name, array in arrays.items()}
            raise ValueError(
                f"{path} must have images x_{suffix} of shape (n, height, width, channels) and "
                f"masks y_{suffix} of shape (n, height, width); got {got}"
            )
        if y.dtype.kind not in "iub" or y.min() < 0:
            raise ValueError(
                f"{path}: y_{suffix} must be integers from 0; got {y.dtype} from {y.min()}"
            )
        parts[suffix] = x, y.astype("int64")
    running.check_images(path, {name: x for name, (x, _) in parts.items()})
    for missing in (name for name in ("test", "val") if name not in parts):
        x, y = parts["train"]
        rest, held_out = running.divide(len(x))
        parts["train"], parts[missing] = (x[rest], y[rest]), (x[held_out], y[held_out])
    return [parts[name] for name in ("train", "val", "test")]


# How a model is judged


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Mean intersection over union and mean Dice coefficient over the classes in `y`."""
    return mean_scores(y, np.argmax(running.predict(model, x), axis=-1))


def mean_scores(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Means over the classes that occur in `y`, each over all pixels of all images.

    Args:
        y: Classes of the pixels, of any shape.
        predicted: The same, as predicted.

    >>> scores = mean_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    >>> {name: round(value, 4) for name, value in scores.items()}  # 1/2 and 2/3; 2/3 and 4/5
    {'mean_iou': 0.5833, 'dice': 0.7333}
    """
    both, either, total = [], [], []
    for kind in np.unique(y):
        true, positive = y == kind, predicted == kind
        both.append(np.sum(true & positive))
        either.append(np.sum(true | positive))
        total.append(np.sum(true) + np.sum(positive))
    shared = np.array(both, "float64")
    return {
        "mean_iou": float(np.mean(shared / either)),
        "dice": float(np.mean(2 * shared / total)),
    }


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A U-Net of two levels as it is made by hand; only its learning rate varies."""
    from keras_nas_plugin.space.presets.cropping import cropped

    image = keras.Input(_splits().training[0].shape[1:], name="image")
    x, skipped = layers.Rescaling(1 / 255)(image), []
    for width in (16, 32):
        x = _twice(x, width)
        skipped.append(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = _twice(x, 64)
    for width in (32, 16):
        level = skipped.pop()
        up = cropped(layers.Conv2DTranspose(width, 2, strides=2)(x), level)
        x = _twice(layers.Concatenate()([level, up]), width)
    outputs = layers.Conv2D(_classes(), 1, activation="softmax", dtype="float32")(x)
    return _compiled(image, outputs, hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"))


def _twice(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    for _ in range(2):
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))
    return x


RECIPE = running.Recipe(
    name="segmentation",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"u-net": running.network(baseline_model, OBJECTIVE)},
    data="generated, a folder with images/ and masks/, or an .npz file",
    smoke_rows=64,
    trials=10,
    epochs=8,
    batch_size=16,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

"""Search for an image classifier.

From the command line, with every option of a search:

    keras-nas search recipes/image_classification.py --max-trials 12 --epochs 3

or as a program of its own, which also trains a network made by hand with the same budget:

    python recipes/image_classification.py --max-trials 12 --epochs 3 --baseline
    python recipes/image_classification.py --smoke
    python recipes/image_classification.py --evaluate models:/image-classification@challenger

Both read the data set from `NAS_DATASET` (the second also takes `--data`), which is one of

* `digits`: 1,797 images of 8x8 pixels from scikit-learn; the default, needs no network;
* `fashion_mnist`: 70,000 images of 28x28 pixels, from the Debian package `dataset-fashion-mnist`
  if it is installed, otherwise downloaded by Keras;
* a folder with the four files of an MNIST-like data set (`train-images-idx3-ubyte`, ...[.gz]);
* an `.npz` file with `x_train, y_train` (or `x, y`), and optionally `x_val, y_val` and
  `x_test, y_test`. Images are grey or colour, channels last; labels are integers or one-hot.

`NAS_LIMIT` is the largest number of images of each split. A missing split is taken from the
training images, always the same ones. The search uses training and validation images only: the
test images are for the best model of the search.
"""

from __future__ import annotations

import functools
import gzip
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_nas_plugin.recipes import running

Split = tuple[np.ndarray, np.ndarray]
Tensor = keras.KerasTensor

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
OBJECTIVE = "val_accuracy"  # the default objective of `keras-nas search`

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Build and compile one classifier of the space.

    A stem, one to four stages of convolution blocks, each at half the resolution of the previous
    stage, and a pooled head.
    """
    image_shape, classes = image_shape_and_classes()
    inputs = keras.Input(image_shape, name="image")
    x = features(hp, inputs)
    # Probabilities stay in float32 when the search runs in mixed precision.
    outputs = layers.Dense(classes, activation="softmax", dtype="float32", name="class")(x)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            learning_rate=hp.Float("learning_rate", 1e-3, 1e-2, sampling="log"),
            weight_decay=hp.Float("weight_decay", 1e-5, 1e-1, sampling="log"),
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def features(hp: keras_tuner.HyperParameters, x: Tensor) -> Tensor:
    """All layers but the last: shape (batch, features)."""
    return _head(hp, _trunk(hp, x))


def _trunk(hp: keras_tuner.HyperParameters, x: Tensor) -> Tensor:
    """Stem and stages. Every stage is declared, so that one build declares the complete space."""
    finish = functools.partial(
        normalize_and_activate,
        normalization=hp.Choice("normalization", ["batch", "group", "none"]),
        activation=hp.Choice("activation", ["relu", "silu", "gelu"]),
    )
    stem = hp.Choice("stem_width", [16, 24, 32])
    x = finish(layers.Conv2D(stem, 3, strides=_stem_stride(x.shape), padding="same")(x))
    max_stages = _max_stages(x.shape)
    stages = hp.Int("stages", 1, max_stages, default=min(3, max_stages))
    for stage in range(1, max_stages + 1):
        with hp.conditional_scope("stages", list(range(stage, max_stages + 1))):
            if stage > 1:
                pooling = hp.Choice(f"stage{stage}_pooling", ["max", "average", "strided"])
            block = hp.Choice(f"stage{stage}_block", ["conv", "separable", "residual"])
            blocks = hp.Int(f"stage{stage}_blocks", 1, 2)
            # Wider at lower resolutions, so that every stage costs about the same.
            width = hp.Choice(f"stage{stage}_width", [stage * base for base in (16, 24, 32)])
            kernel = hp.Choice(f"stage{stage}_kernel", [3, 5])
        if stage > stages:  # inactive: the values above are None
            continue
        if stage > 1:
            x = _halve(x, pooling)
        for _ in range(blocks):
            x = block_of(x, block, width, kernel, finish)
    return x


def block_of(
    x: Tensor, block: str, width: int, kernel: int, finish: Callable[[Tensor], Tensor]
) -> Tensor:
    """One block of `width` channels; `finish` normalizes and activates."""
    if block == "conv":
        return finish(layers.Conv2D(width, kernel, padding="same")(x))
    if block == "separable":
        return finish(layers.SeparableConv2D(width, kernel, padding="same")(x))
    shortcut = x if x.shape[-1] == width else layers.Conv2D(width, 1)(x)
    x = finish(layers.Conv2D(width, kernel, padding="same")(x))
    x = layers.Conv2D(width, kernel, padding="same")(x)
    return finish(layers.Add()([x, shortcut]))


def normalize_and_activate(x: Tensor, *, normalization: str, activation: str) -> Tensor:
    """Normalization (`batch`, `group` or `none`), then an activation."""
    if normalization == "batch":
        # Keras' momentum of 0.99 takes about 500 steps to forget the initial values; a short trial
        # has 100.
        x = layers.BatchNormalization(momentum=0.9)(x)
    elif normalization == "group":
        x = layers.GroupNormalization(groups=8)(x)
    return layers.Activation(activation)(x)


def _halve(x: Tensor, pooling: str) -> Tensor:
    if pooling == "max":
        return layers.MaxPooling2D(2)(x)
    if pooling == "average":
        return layers.AveragePooling2D(2)(x)
    return layers.Conv2D(x.shape[-1], 3, strides=2, padding="same")(x)


def _head(hp: keras_tuner.HyperParameters, x: Tensor) -> Tensor:
    pooling = hp.Choice("head_pooling", ["average", "max", "flatten"])
    units = hp.Choice("head_units", [0, 32, 64, 128])
    if pooling == "average":
        x = layers.GlobalAveragePooling2D()(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D()(x)
    else:  # preserves positions, on a grid of at most 8x8
        grid = (math.ceil(x.shape[1] / 8), math.ceil(x.shape[2] / 8))
        x = layers.Flatten()(layers.AveragePooling2D(grid)(x))
    if units:
        x = layers.Dense(units, activation="relu")(x)
    return layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.1))(x)


def _stem_stride(shape: tuple[int | None, ...]) -> int:
    """Stride of the stem, 1, 2 or 4: large images need no costly stage at full resolution."""
    smaller_side = min(shape[1], shape[2])
    return 1 if smaller_side < 28 else 2 if smaller_side < 56 else 4


def _max_stages(shape: tuple[int | None, ...]) -> int:
    """Largest number of stages that leaves at least 2x2 pixels, at most four."""
    return min(4, max(1, int(math.log2(min(shape[1], shape[2])))))


# The data


def load_data() -> tuple[Split, Split, Split]:
    """Load the images and labels that `NAS_DATASET` names.

    Returns:
        Training, validation and test split. Each is a pair: images of shape
        (n, height, width, channels) in float32, where integer pixels were scaled to [0, 1],
        and labels of shape (n,) from 0.
    """
    return _load(*running.data_settings("digits"))


def image_shape_and_classes() -> tuple[tuple[int, ...], int]:
    """Return (height, width, channels) of the images, and the number of classes."""
    splits = load_data()
    return splits[0][0].shape[1:], 1 + max(int(labels.max()) for _, labels in splits)


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(dataset: str, limit: int) -> tuple[Split, Split, Split]:
    read = {name: _checked(*split, where=f"{dataset}, {name}") for name, split in _read(dataset)}
    train = read["train"]
    test = read.get("test")
    if test is None:
        train, test = _divide(train)
    validation = read.get("val")
    if validation is None:
        train, validation = _divide(train)
    splits = train, validation, test

    shapes = {images.shape[1:] for images, _ in splits}
    if len(shapes) > 1:
        raise ValueError(f"{dataset} must have images of one shape; got {sorted(shapes)}")
    integer = np.issubdtype(train[0].dtype, np.integer)
    max_pixel = max(1, train[0].max()) if integer else 1
    rng = np.random.default_rng(running.SPLIT_SEED)
    selected = [rng.permutation(len(y))[: limit or None] for _, y in splits]
    return tuple(
        (x[rows].astype("float32") / np.float32(max_pixel), y[rows])
        for (x, y), rows in zip(splits, selected, strict=True)
    )


def _divide(split: Split) -> tuple[Split, Split]:
    """Hold out the fraction `running.HELD_OUT` of a split, stratified by class."""
    images, labels = split
    x, x_held, y, y_held = train_test_split(
        images,
        labels,
        test_size=running.HELD_OUT,
        random_state=running.SPLIT_SEED,
        stratify=labels,
    )
    return (x, y), (x_held, y_held)


def _checked(images: np.ndarray, labels: np.ndarray, *, where: str) -> Split:
    """Return images with a channel axis and integer labels, or raise a ValueError."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            f"{where}: `x` must have the shape (n, height, width) or (n, height, width, channels)"
            f"; got {images.shape}"
        )
    got = f"got shape {labels.shape} of {labels.dtype}"
    if labels.dtype.kind not in "biuf" or np.any(labels < 0) or np.any(labels % 1):
        raise ValueError(f"{where}: `y` must be integer labels from 0; {got}")
    if labels.ndim == 2 and labels.shape[1] > 1:
        if np.any(labels > 1) or np.any(labels.sum(axis=1) != 1):
            raise ValueError(f"{where}: two-dimensional `y` must have one-hot rows; {got}")
        labels = labels.argmax(axis=1)
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"{where}: `y` must have one label for each of {len(images)} images; {got}"
        )
    return images, labels.reshape(-1).astype("int64")


def _read(dataset: str) -> list[tuple[str, Split]]:
    """Read the splits of a data set: `train`, and `val` and `test` if it has them."""
    if dataset == "digits":
        digits = load_digits()
        return [("train", (digits.images.astype("uint8"), digits.target))]
    if dataset == "fashion_mnist" and DEBIAN_FASHION_MNIST.is_dir():
        return _read_idx_folder(DEBIAN_FASHION_MNIST)
    if dataset == "fashion_mnist":
        return list(zip(("train", "test"), keras.datasets.fashion_mnist.load_data(), strict=True))
    if Path(dataset).is_dir():
        return _read_idx_folder(Path(dataset))
    if dataset.endswith(".npz"):
        return _read_npz(Path(dataset))
    raise ValueError(
        "`NAS_DATASET` (`--data`) must be digits, fashion_mnist, a folder of idx files or an "
        f".npz file; got {dataset!r}"
    )


def _read_npz(path: Path) -> list[tuple[str, Split]]:
    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except (zipfile.BadZipFile, ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path} must be an .npz file of plain arrays: {error}") from error
    splits = []
    for name in ("train", "val", "test"):
        x, y = f"x_{name}", f"y_{name}"
        if name == "train" and x not in arrays and "x" in arrays:
            x, y = "x", "y"
        missing = [key for key in (x, y) if key not in arrays]
        if len(missing) == 1 or (missing and name == "train"):
            raise ValueError(f"{path} must have {' and '.join(missing)}; got {sorted(arrays)}")
        if not missing:
            splits.append((name, (arrays[x], arrays[y])))
    return splits


def _read_idx_folder(folder: Path) -> list[tuple[str, Split]]:
    """Read the four files; the files of test images are named `t10k`."""
    return [
        (
            name,
            tuple(_read_idx(folder, f"{stem}-{part}") for part in ("images-idx3", "labels-idx1")),
        )
        for name, stem in (("train", "train"), ("test", "t10k"))
    ]


def _read_idx(folder: Path, stem: str) -> np.ndarray:
    """Read an array of unsigned bytes in the idx format of http://yann.lecun.com/exdb/mnist."""
    path = folder / f"{stem}-ubyte"
    if path.exists():
        content = path.read_bytes()
    else:
        path = path.with_name(f"{path.name}.gz")
        content = gzip.decompress(path.read_bytes())
    # Two zero bytes, the type (8: unsigned byte), the rank; the sizes as big-endian integers.
    header = 4 + 4 * content[3] if len(content) > 3 else 4
    if content[:3] != b"\0\0\x08" or len(content) < header:
        raise ValueError(f"{path} must be in the idx format with unsigned bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"{path} must have {math.prod(shape)} values of shape {shape}; "
            f"got {len(content) - header}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A convolutional network as it is made by hand; only its learning rate varies."""
    image_shape, classes = image_shape_and_classes()
    model = keras.Sequential([keras.Input(image_shape, name="image")])
    for width in (32, 64):
        model.add(layers.Conv2D(width, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2, padding="same"))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(classes, activation="softmax"))
    rate = hp.Float("learning_rate", 3e-4, 3e-3, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


RECIPE = running.Recipe(
    name="image-classification",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=running.accuracy,
    baselines={"convolutions": running.network(baseline_model, OBJECTIVE)},
    data="digits, fashion_mnist, a folder of idx files or an .npz file",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

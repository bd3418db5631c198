"""Images with a mask each: the class of every pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import SEGMENTATION, Draft, Request, Starter, listed
from keras_nas_plugin.starters.images import common_size, inspect_images
from keras_nas_plugin.starters.mask_data import IMAGES, MASKS, image_and_mask_files, read_mask
from keras_nas_plugin.starters.writing import constant, imported, module

_MOST_VALUES = 50
_FEWEST_IMAGES = 5


class SegmentationStarter(Starter):
    """A folder with `images/` and `masks/`, whose files have the same names."""

    kind = "images with masks"
    tasks = (SEGMENTATION,)
    layout = f"a folder with `{IMAGES}/` and `{MASKS}/`, whose files have the same names"

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return (source / IMAGES).is_dir() and (source / MASKS).is_dir()

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        files = image_and_mask_files(request.source)
        if len(files) < _FEWEST_IMAGES:
            raise SourceError(
                f"`{request.source}` must have at least {_FEWEST_IMAGES} images; got {len(files)}"
            )
        sizes, colours = inspect_images([image for image, _ in files])
        size = common_size(sizes)
        findings = []
        if set(sizes) != {size}:
            findings.append(f"Images and masks are resized to {size[1]}x{size[0]} pixels.")
        values, shares = _values(files)
        least = min(shares, key=lambda value: shares[value])
        if shares[least] < 0.05:
            findings.append(
                f"The classes are imbalanced: {shares[least]:.1%} of the pixels have the value "
                f"{least}. The objective is the mean over the classes."
            )
        channels = 3 if colours else 1
        needed = len(files) * size[0] * size[1] * (4 * channels + 8)
        request.check_memory(request.source, needed, "Store smaller images")
        guesses = []
        if request.task is None:
            guesses.append(
                f"Task: segmentation, since there are `{IMAGES}/` and `{MASKS}/`; `--task "
                "classification` takes them as classes."
            )
        summary = f"{len(files):,} images of {size[1]}x{size[0]} pixels, {len(values)} classes"
        recipe = _recipe(request, findings, values, size, channels, len(files))
        return Draft(recipe, SEGMENTATION, summary, findings, guesses)


def _values(files: list[tuple[Path, Path]]) -> tuple[list[int], dict[int, float]]:
    """The values of the masks, and the share of the pixels of each.

    Raises:
        SourceError: A mask has not the size of its image, or there are too few or many values.
    """
    from PIL import Image

    counts: dict[int, int] = {}
    for image, path in files:
        mask = read_mask(path)
        with Image.open(image) as opened:
            if opened.size != mask.shape[::-1]:
                raise SourceError(
                    f"`{path}` must have the size of its image, {opened.size[0]}x"
                    f"{opened.size[1]}; got {mask.shape[1]}x{mask.shape[0]}"
                )
        for value, count in zip(*np.unique(mask, return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    values = sorted(counts)
    if not 2 <= len(values) <= _MOST_VALUES:
        hint = ". JPEG files change values: store masks as PNG" if len(values) > 2 else ""
        raise SourceError(
            f"masks must have a value for each class, 2 to {_MOST_VALUES}; got {len(values)} "
            f"({listed(values)}){hint}"
        )
    return values, {value: counts[value] / sum(counts.values()) for value in values}


def _recipe(
    request: Request,
    findings: list[str],
    values: list[int],
    size: tuple[int, int],
    channels: int,
    count: int,
) -> str:
    data = '''
def load_data():
    """60 percent of the images to train, 20 to validate, and 20 to test, drawn at random."""
    training, validation, test = mask_splits(
        DATA, VALUES, size=SIZE, channels=CHANNELS, seed=SEED
    )
    return training, validation, test
'''
    model = '''
def build_model(hp):
    """A model of raw pixels (0 to 255), which predicts the class of each, by a `unet`."""
    inputs = keras.Input((*SIZE, CHANNELS), name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, NETWORK.connect(hp, x))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    # Mean over the classes of correct pixels / (correct, missed and wrong pixels).
    mean_iou = keras.metrics.MeanIoU(len(VALUES), sparse_y_pred=False, name="mean_iou")
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy", mean_iou])
    return model
'''
    return module(
        title=f"Segmentation of the images in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import unet",
            imported(["mask_splits"]),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("VALUES", values, "of the masks, a class each"),
            constant("OBJECTIVE", "val_mean_iou:max"),
            constant("SEED", 0, "of the split"),
            constant("SIZE", size, "height and width of the images"),
            constant("CHANNELS", channels, "3 for colours, 1 for grey"),
            f"NETWORK = unet((*SIZE, CHANNELS), classes=len(VALUES), rows={round(0.6 * count)})",
        ],
        functions=[data, model],
    )

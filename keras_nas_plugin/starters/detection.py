"""Images with boxes: where the objects of an image are, and of which class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import DETECTION, Classes, Draft, Request, Starter
from keras_nas_plugin.starters.box_data import BoxedImages, read_boxes
from keras_nas_plugin.starters.box_formats import LAYOUTS, annotation_files
from keras_nas_plugin.starters.images import common_size, inspect_images
from keras_nas_plugin.starters.mask_data import IMAGES
from keras_nas_plugin.starters.writing import constant, imported, module

_FEWEST_IMAGES = 5
_STRIDE = 8  # pixels of a cell of the written model
# Boxes that share a cell are named if they are more than this share.
_MANY_SHARED = 0.02


class DetectionStarter(Starter):
    """A folder with `images/` and files that have the boxes of their objects."""

    kind = "images with boxes"
    tasks = (DETECTION,)
    layout = f"a folder with `{IMAGES}/` and boxes in {LAYOUTS}"

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return bool(annotation_files(source))

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        source = read_boxes(request.source)
        sizes, colours = inspect_images(source.files)
        size, channels = common_size(sizes), 3 if colours else 1
        boxed = len(np.unique(source.boxes[:, 0]))
        if boxed < _FEWEST_IMAGES:
            raise SourceError(
                f"`{request.source}` must have at least {_FEWEST_IMAGES} images with boxes; got "
                f"{boxed}"
            )
        count = len(source.files)
        needed = count * (size[0] * size[1] * 4 * channels + source.most * 5 * 4)
        request.check_memory(request.source, needed, "Store smaller images")
        findings = list(source.findings)
        if boxed < count:
            findings.append(
                f"Images without boxes: {count - boxed:,}. The model learns that they show no "
                "object."
            )
        if set(sizes) != {size}:
            findings.append(f"Images are resized to {size[1]}x{size[0]} pixels.")
        findings += _imbalance(source) + _shared_cells(source, size)
        guesses = []
        if request.task is None:
            (boxes,) = annotation_files(request.source)
            guesses.append(
                f"Task: detection, since there are `{IMAGES}/` and boxes in `{boxes.name}`; "
                "`--task generation` takes the images alone."
            )
        summary = (
            f"{len(source.boxes):,} boxes of {len(source.class_names)} classes in {count:,} "
            f"images of {size[1]}x{size[0]} pixels"
        )
        recipe = _recipe(request, findings, source.class_names, size, channels)
        return Draft(recipe, DETECTION, summary, findings, guesses)


def _imbalance(source: BoxedImages) -> list[str]:
    counts = np.bincount(source.boxes[:, 1].astype(int)).tolist()
    least = int(np.argmin(counts))
    if Classes(source.class_names, counts, []).balanced:
        return []
    images = len(np.unique(source.boxes[source.boxes[:, 1] == least, 0]))
    return [
        f"The classes are imbalanced: {source.class_names[least]!r} has {counts[least]:,} of "
        f"{len(source.boxes):,} boxes. Images with this class: {images:,}. Rare classes are found "
        "less reliably."
    ]


def _shared_cells(source: BoxedImages, size: tuple[int, int]) -> list[str]:
    """Name the boxes that the model cannot tell apart, since it has one box per class and cell."""
    rows, columns = (-(-side // _STRIDE) for side in size)
    image, kind, left, top, right, bottom = source.boxes.T
    column = np.minimum((left + right) / 2 * columns // 1, columns - 1)
    row = np.minimum((top + bottom) / 2 * rows // 1, rows - 1)
    cells = np.unique(np.stack([image, kind, row, column], axis=1), axis=0)
    shared = len(source.boxes) - len(cells)
    if shared <= _MANY_SHARED * len(source.boxes):
        return []
    return [
        f"Boxes whose centre is in the same cell of {_STRIDE}x{_STRIDE} pixels as that of another "
        f"box of their class: {shared:,}. They cannot be told apart: a larger SIZE separates them."
    ]


def _recipe(
    request: Request,
    findings: list[str],
    class_names: list[str],
    size: tuple[int, int],
    channels: int,
) -> str:
    data = '''
def load_data():
    """60 percent of the images to train, 20 to validate, and 20 to test, drawn at random.

    Labels have the shape (images, most, 5): class, left, top, right, bottom from 0 to 1.
    """
    training, validation, test = box_splits(
        DATA, CLASSES, size=SIZE, channels=CHANNELS, seed=SEED
    )
    return training, validation, test
'''
    model = '''
def build_model(hp):
    """A model of raw pixels (0 to 255), which predicts classes and a box for 8x8 pixels each."""
    inputs = keras.Input((*SIZE, CHANNELS), name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    activation = hp.Choice("activation", ["relu", "silu"])

    def finish(x):
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        return keras.layers.Activation(activation)(x)

    width = hp.Choice("width", [16, 24, 32], default=24)
    for stage in (1, 2, 3):  # each halves height and width
        channels = stage * width
        x = finish(keras.layers.Conv2D(channels, 3, strides=2, padding="same")(x))
        block = hp.Choice(f"stage{stage}_block", ["conv", "separable", "residual"])
        kernel = hp.Choice(f"stage{stage}_kernel", [3, 5])
        for _ in range(hp.Int(f"stage{stage}_blocks", 1, 2)):
            x = block_of(x, block, channels, kernel, finish)
    growth = hp.Choice("head_dilation", [1, 2], default=2)  # of what a cell sees around it
    for layer in range(hp.Int("head_layers", 1, 2, default=2)):
        head = keras.layers.Conv2D(64, 3, dilation_rate=growth**layer, padding="same")
        x = finish(head(x))
    model = keras.Model(inputs, detection_head(x, len(CLASSES)))
    rate = hp.Float("learning_rate", 5e-4, 1e-2, sampling="log", default=2e-3)
    model.compile(keras.optimizers.Adam(rate), DetectionLoss())
    return model
'''
    use = '''
def objects_in(model, images):
    """The objects in each image: class, probability, left, top, right, bottom from 0 to 1.

    `model` is a model of Keras, or `mlflow.pyfunc.load_model("models:/NAME@challenger")`.
    """
    return [detections(grid) for grid in model.predict(images)]
'''
    return module(
        title=f"Detection of the objects in {request.source.name}.",
        findings=[
            *findings,
            "`keras_nas_plugin.recipes.object_detection.score` computes the mean average "
            "precision of a model.",
        ],
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.recipes.image_classification import block_of",
            "from keras_nas_plugin.recipes.object_detection import (",
            "    DetectionLoss,",
            "    detection_head,",
            "    detections,",
            ")",
            imported(["box_splits"]),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("CLASSES", class_names, "of the objects"),
            constant("OBJECTIVE", "val_loss"),
            constant("SEED", 0, "of the split"),
            constant("SIZE", size, "height and width of the images"),
            constant("CHANNELS", channels, "3 for colours, 1 for grey"),
        ],
        functions=[data, model, use],
    )

"""Images in class folders: classification."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    Classes,
    Draft,
    Request,
    Starter,
    checked_classes,
    class_weighting,
    listed,
)
from keras_nas_plugin.starters.folders import class_folders, has_files
from keras_nas_plugin.starters.image_data import SUFFIXES
from keras_nas_plugin.starters.writing import constant, imported, module

# Images are resized to at most so many pixels of their shorter side.
_LARGEST = 128


class ImageStarter(Starter):
    """A folder with a folder of images for each class."""

    kind = "images"
    tasks = (CLASSIFICATION,)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return has_files(source, SUFFIXES)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        folders = class_folders(request.source, SUFFIXES, "images")
        findings = list(folders.findings)
        classes = checked_classes(folders.counts, f"`{request.source}`", "images")
        findings += classes.findings
        files = [path for name in classes.names for path in folders.files[name]]
        sizes, colours = inspect_images(files)
        height, width = common_size(sizes)
        if len(sizes) > 1:
            smallest, largest = min(sizes), max(sizes)
            findings.append(
                f"Images have {len(sizes):,} sizes, from {smallest[1]}x{smallest[0]} to "
                f"{largest[1]}x{largest[0]} pixels: all are resized to {width}x{height}, and so "
                "must be those that are predicted."
            )
        elif (height, width) not in sizes:
            findings.append(f"Images are resized to {width}x{height} pixels.")
        streamed = not request.fits(len(files) * height * width * (3 if colours else 1) * 4)
        if streamed:
            findings.append(
                "The images do not fit into memory together: they are read while models are "
                "trained."
            )
        recipe = _recipe(request, findings, classes, (height, width),
                         3 if colours else 1, streamed, len(files))  # fmt: skip
        summary = (
            f"{len(files):,} images of {len(classes.names)} classes, {width}x{height} pixels, "
            f"{'colour' if colours else 'grey'}"
        )
        guess = ["Task: classification, since each folder is a class."]
        return Draft(recipe, CLASSIFICATION, summary, findings, guess if not request.task else [])


def inspect_images(files: list[Path]) -> tuple[Counter[tuple[int, int]], bool]:
    """Number of images by height and width, and whether any has colours.

    Raises:
        SourceError: A file is no image.
    """
    import warnings

    from PIL import Image, UnidentifiedImageError

    sizes: Counter[tuple[int, int]] = Counter()
    colours, unreadable = False, []
    for path in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    sizes[image.size[::-1]] += 1
                    colours = colours or image.mode not in ("1", "L", "LA", "I", "I;16", "F")
                    if len(files) <= 20_000:
                        image.load()
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
            unreadable.append(path)
    if unreadable:
        raise SourceError(
            f"`{unreadable[0]}` must be an image; it cannot be read. Remove the "
            f"{len(unreadable)} unreadable files: "
            f"{listed([path.name for path in unreadable])}"
        )
    return sizes, colours


def common_size(sizes: Counter[tuple[int, int]], largest: int = _LARGEST) -> tuple[int, int]:
    """Height and width that images are resized to.

    Args:
        sizes: Number of images by height and width.
        largest: The largest number of pixels of the shorter side.
    """
    height, width = sizes.most_common(1)[0][0]
    shorter = min(height, width)
    if shorter <= largest:
        return height, width
    return round(height * largest / shorter), round(width * largest / shorter)


def _recipe(
    request: Request,
    findings: list[str],
    classes: Classes,
    size: tuple[int, int],
    channels: int,
    streamed: bool,
    count: int,
) -> str:
    splits = "    training, validation, test = image_splits(\n"
    splits += "        DATA, CLASS_NAMES, size=SIZE, channels=CHANNELS, seed=SEED"
    splits += ", streamed=True\n    )" if streamed else "\n    )"
    weight, helper, weights = class_weighting(classes, streamed)
    first = '"x": training,' if streamed else '"x": training[0],\n        "y": training[1],'
    helpers = ["image_splits", *helper]
    data = f'''
def load_data():
    """60 percent of the images to train, 20 to validate, and 20 to test, of each class."""
{splits}
    return {{
        {first}
        "validation_data": validation,
        "test_data": test,{weight}
    }}
'''
    model = '''
def build_model(hp):
    """A model of raw pixels (0 to 255): augmentation, then a network of `residual_cnn`."""
    inputs = keras.Input((*SIZE, CHANNELS), name="image")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    if hp.Boolean("augmentation", default=False):  # applies in training only
        x = keras.layers.RandomFlip("horizontal")(x)
        x = keras.layers.RandomTranslation(0.1, 0.1)(x)
    output = NETWORK.connect(hp, x)
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model
'''
    return module(
        title=f"Classification of the images in {request.source.name}.",
        findings=findings,
        output=request.output.name,
        imports=[
            "from pathlib import Path",
            "",
            "import keras",
            "",
            "from keras_nas_plugin.space.presets import residual_cnn",
            imported(helpers),
        ],
        constants=[
            f"DATA = {request.path_code}",
            constant("CLASS_NAMES", classes.names),
            *weights,
            constant("OBJECTIVE", "val_accuracy"),
            constant("SEED", 0, "of the split"),
            constant("SIZE", size, "height and width of the images"),
            constant("CHANNELS", channels, "3 for colours, 1 for grey"),
            "NETWORK = residual_cnn(\n"
            f"    (*SIZE, CHANNELS), classes=len(CLASS_NAMES), rows={round(0.6 * count)}\n)",
        ],
        functions=[data, model],
    )

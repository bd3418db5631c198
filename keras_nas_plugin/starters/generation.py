"""Images without labels: new ones that look like them."""

from __future__ import annotations

import math
from pathlib import Path

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import GENERATION, Draft, Request, Starter
from keras_nas_plugin.starters.detection import DetectionStarter
from keras_nas_plugin.starters.image_data import image_files
from keras_nas_plugin.starters.images import ImageStarter, common_size, inspect_images
from keras_nas_plugin.starters.mask_data import IMAGES
from keras_nas_plugin.starters.segmentation import SegmentationStarter
from keras_nas_plugin.starters.writing import constant, imported, module

# Images are resized to at most so many pixels of their shorter side.
_LARGEST = 64
_FEWEST_IMAGES = 10
#: Fewer images are named: see `GenerationStarter.draft`.
FEW_IMAGES = 200


class GenerationStarter(Starter):
    """A folder of images, flat or in folders, which is recognised as images by others as well.

    Thereby it is used only if the task is asked for.
    """

    kind = "images"
    tasks = (GENERATION,)
    layout = "a folder of images"

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return ImageStarter().recognises(source) or DetectionStarter().recognises(source)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        source = request.source
        # Masks are no images of the kind that is to be generated.
        beside_masks = SegmentationStarter().recognises(source)
        folder = source / IMAGES if beside_masks else source
        files = image_files(folder)
        if len(files) < _FEWEST_IMAGES:
            raise SourceError(
                f"`{folder}` must have at least {_FEWEST_IMAGES} images; got {len(files)}"
            )
        sizes, colours = inspect_images(files)
        size, channels = common_size(sizes, _LARGEST), 3 if colours else 1
        # Pixels as integers and as the numbers that are to be predicted.
        needed = len(files) * math.prod(size) * channels * (1 + 4)
        request.check_memory(folder, needed, "Use fewer images")
        findings = []
        if len(files) < FEW_IMAGES:
            findings.append(
                f"WARNING: {len(files):,} images are few; with fewer than {FEW_IMAGES}, generated "
                "images tend to be blurred averages of them."
            )
        if set(sizes) != {size}:
            findings.append(f"Images are resized to {size[1]}x{size[0]} pixels.")
        if beside_masks:
            findings.append(f"Only the images in `{IMAGES}/` are used.")
        kind = "colour" if colours else "grey"
        summary = f"{len(files):,} {kind} images of {size[1]}x{size[0]} pixels"
        recipe = _recipe(request, findings, size, channels, beside_masks)
        return Draft(recipe, GENERATION, summary, findings)


def _recipe(
    request: Request,
    findings: list[str],
    size: tuple[int, int],
    channels: int,
    beside_masks: bool,
) -> str:
    data = '''
def load_data():
    """60 percent of the images to train, 20 to validate, and 20 to test, drawn at random.

    Each image is to be predicted from itself, with pixels from 0 to 1.
    """
    parts = unlabelled_image_splits(DATA, size=SIZE, channels=CHANNELS, seed=SEED)
    return tuple((images, np.divide(images, 255, dtype="float32")) for images in parts)
'''
    model = '''
def build_model(hp):
    """A variational autoencoder of raw pixels (0 to 255), whose part `decoder` makes images."""
    activation = hp.Choice("activation", ["relu", "silu", "gelu"])
    kernel = hp.Choice("kernel", [3, 5])
    depth = hp.Int("depth", 1, DEPTH)  # each level halves height and width

    def convolution(filters, **options):
        return keras.layers.Conv2D(
            filters, kernel, padding="same", activation=activation, **options
        )

    image = keras.Input((*SIZE, CHANNELS), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    width = hp.Choice("encoder_width", [16, 32, 48], default=32)
    for level in range(depth):
        x = convolution(width * 2**level, strides=2)(x)
    latents = hp.Choice("latents", [4, 8, 16, 32, 64], default=16)
    distribution = keras.layers.Dense(2 * latents)(keras.layers.Flatten()(x))
    sampling = Sampling(math.prod(image.shape[1:]), noise_at_inference=False)

    latent = keras.Input((latents,), name="latent")
    width = hp.Choice("decoder_width", [16, 32, 48], default=32)
    grid = (*x.shape[1:3], width * 2 ** (depth - 1))
    y = keras.layers.Dense(math.prod(grid), activation=activation)(latent)
    y = keras.layers.Reshape(grid)(y)
    for level in reversed(range(depth)):
        y = convolution(width * 2**level)(keras.layers.UpSampling2D(2)(y))
    y = keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="sigmoid")(y)
    decoder = keras.Model(latent, cropped(y, image), name="decoder")

    model = keras.Model(image, decoder(sampling(distribution)))
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy")
    return model
'''
    use = '''
def new_images(model, count, seed=0):
    """Draw new images of shape (count, height, width, channels), with pixels from 0 to 1.

    `model` is a model of Keras, as `mlflow.tensorflow.load_model("models:/NAME@challenger")`.
    """
    decoder = model.get_layer("decoder")
    latent = keras.random.normal((count, *decoder.input.shape[1:]), seed=seed)
    return decoder.predict(latent, verbose=0)
'''
    path = request.path_code
    return module(
        title=f"Generation of images like those in {request.source.name}.",
        findings=[
            *findings,
            "The search chooses by the reconstruction of the validation images and the divergence "
            "of the latent variables; look at `new_images` before you use a model.",
        ],
        output=request.output.name,
        imports=[
            "import math",
            "from pathlib import Path",
            "",
            "import keras",
            "import numpy as np",
            "",
            "from keras_nas_plugin.recipes.image_generation import Sampling",
            "from keras_nas_plugin.space.presets.cropping import cropped",
            imported(["unlabelled_image_splits"]),
        ],
        constants=[
            f'DATA = {path} / "{IMAGES}"' if beside_masks else f"DATA = {path}",
            constant("OBJECTIVE", "val_loss"),
            constant("SEED", 0, "of the split"),
            constant("SIZE", size, "height and width of the images"),
            constant("CHANNELS", channels, "3 for colours, 1 for grey"),
            constant("DEPTH", _most_levels(size), "levels of the deepest autoencoder"),
        ],
        functions=[data, model, use],
    )


def _most_levels(size: tuple[int, int]) -> int:
    """How often the resolution can be halved until 4 pixels remain, at most 4 times."""
    return max(1, min(4, int(math.log2(max(1, min(size)))) - 1))

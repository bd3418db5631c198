"""Search for how to scale an image classifier: in depth, width or resolution, or all of them.

    keras-nas search recipes/compound_scaling.py --max-trials 10 --epochs 4
    python recipes/compound_scaling.py --data fashion_mnist --limit 4000 --epochs 4 --baseline
    python recipes/compound_scaling.py --smoke

`--data` (or `NAS_DATASET`) is what `recipes/image_classification.py` reads: `digits` (the
default), `fashion_mnist`, a folder of idx files or an `.npz` file.

A network of inverted residuals is scaled to `2 ** NAS_SCALE` times its operations (4 times by
default), as in Tan & Le 2019, "EfficientNet", section 3: depth by alpha, width by beta and
resolution by gamma, each to the power of `NAS_SCALE`, where alpha * beta**2 * gamma**2 = 2. The
search chooses alpha, beta and gamma. Take them from a small scale to a large one: `NAS_SCALE=3`.
The baselines spend all operations on one of the three.
"""

from __future__ import annotations

import functools
import os

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin import count_flops
from keras_nas_plugin.recipes import image_classification, running
from keras_nas_plugin.space.presets.images import convolution, inverted_residual, resized, rounded

OBJECTIVE = "val_accuracy"
SCALE = "NAS_SCALE"
BLOCKS, WIDTHS = (2, 2, 2), (16, 24, 40)  # of the stages, at scale 0
EXPANSION = 3
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A scaled network; what depth and width leave is the share of the resolution."""
    depth = hp.Choice("depth_share", SHARES, default=0.5)
    width = hp.Choice("width_share_of_rest", SHARES, default=0.5)
    return _scaled(hp, depth, (1 - depth) * width)


def coefficients(depth: float, width: float) -> tuple[float, float, float]:
    """The coefficients alpha, beta and gamma of a step that doubles the operations.

    Args:
        depth: The share of depth in the exponent of the operations, 0 to 1.
        width: That of width; what is left is that of resolution.

    >>> coefficients(1, 0), coefficients(0, 1)[1] ** 2
    ((2, 1.0, 1.0), 2.0000000000000004)
    """
    return 2**depth, 2 ** (width / 2), 2 ** ((1 - depth - width) / 2)


def scale() -> float:
    """The number of doublings that `NAS_SCALE` asks for.

    Raises:
        ValueError: It is no number from 0 to 6.
    """
    text = os.environ.get(SCALE, "2")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 6:
        raise ValueError(f"`{SCALE}` must be a number from 0 to 6; got {text!r}")
    return value


def _scaled(hp: keras_tuner.HyperParameters, depth: float, width: float) -> keras.Model:
    alpha, beta, gamma = (value ** scale() for value in coefficients(depth, width))
    (rows, columns, channels), classes = image_classification.image_shape_and_classes()
    image = keras.Input((rows, columns, channels), name="image")
    # Half the resolution at scale 0, so that there are details left to see at a larger one.
    at_zero = 2 if min(rows, columns) >= 28 else 1
    size = (max(4, round(side / at_zero * gamma)) for side in (rows, columns))
    x = convolution(resized(*size)(image), rounded(WIDTHS[0] * beta), 3, activation="relu")
    for stage, (blocks, filters) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
        for block in range(max(1, round(blocks * alpha))):
            first = block == 0
            x = inverted_residual(
                rounded(filters * beta) if first else None,
                kernel_size=3,
                expansion=EXPANSION,
                squeeze_excite=False,
                strides=2 if first and stage else 1,
            )(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Dense(classes, activation="softmax", name="class")(x))
    model.compile(
        keras.optimizers.Adam(hp.Float("learning_rate", 1e-3, 1e-2, sampling="log")),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


# The data


def load_data() -> tuple[image_classification.Split, ...]:
    """Load the images that `--data` names, in three splits; a wrong `NAS_SCALE` is an error."""
    scale()
    return image_classification.load_data()


# The recipe as a program


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy, and millions of multiply-adds, which rounding lets differ."""
    return {**running.accuracy(model, x, y), "mflops": count_flops(model) / 1e6}


def _only(depth: float, width: float) -> running.Baseline:
    return running.network(functools.partial(_scaled, depth=depth, width=width), OBJECTIVE)


RECIPE = running.Recipe(
    name="compound-scaling",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"depth": _only(1, 0), "width": _only(0, 1), "resolution": _only(0, 0)},
    data="digits, fashion_mnist, a folder of idx files or an .npz file",
    trials=10,
    epochs=4,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

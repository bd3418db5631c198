"""Search for a variational autoencoder that generates images.

    keras-nas search recipes/image_generation.py --max-trials 10 --epochs 15
    python recipes/image_generation.py --data fashion_mnist --limit 6000 --epochs 5 --baseline
    python recipes/image_generation.py --smoke

`--data` (or `NAS_DATASET`) is what `recipes/image_classification.py` reads: `digits` (the
default), `fashion_mnist`, a folder of idx files or an `.npz` file.

The search chooses by the evidence lower bound of the validation images (Kingma & Welling 2014,
"Auto-Encoding Variational Bayes"), a loss that all architectures share. The best model is judged
by images that it generates: the Fréchet distance between the features of these and of the test
images (Heusel et al. 2017). The features are not those of Inception, but of a small classifier
that is trained on the training images: distances are comparable on the same data only, and not
with published ones. `fid_of_real` is the distance of as many training images.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers, ops

from keras_nas_plugin.recipes import image_classification, running

OBJECTIVE = "val_loss"
SAMPLES = 2_000  # generated images that are compared with the test images
FEATURES = 32  # of the classifier
CLASSIFIER_EPOCHS = 10
LATENTS = (4, 8, 16, 32)

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """An encoder and a decoder, which mirror one another in depth but not in width.

    Decisions: number of latent variables, how often the resolution is halved, widths and kernels
    of encoder and decoder, how the decoder enlarges, an additional convolution per level, a dense
    layer in between, activation, learning rate.
    """
    height, width, channels = _image_shape()
    most = max(1, min(3, int(math.log2(min(height, width))) - 1))
    depth = hp.Int("depth", 1, most, default=min(2, most))
    kernel = hp.Choice("kernel", [3, 5])
    activation = hp.Choice("activation", ["relu", "silu", "gelu"])
    units = hp.Choice("dense_units", [0, 64, 128])
    convolution = functools.partial(
        layers.Conv2D, kernel_size=kernel, padding="same", activation=activation
    )

    image = keras.Input((height, width, channels), name="image")
    x, base = image, hp.Choice("encoder_width", [16, 32, 48], default=32)
    for level in range(depth):
        x = convolution(base * 2**level, strides=2)(x)
    x = _dense(layers.Flatten()(x), units, activation)
    z = Sampling(height * width * channels, name="latent")(
        layers.Dense(2 * hp.Choice("latents", LATENTS, default=16), name="distribution")(x)
    )

    latent = keras.Input(z.shape[1:], name="latent")
    base, last = hp.Choice("decoder_width", [16, 32, 48], default=32), 2 ** (depth - 1)
    enlarge, extra = hp.Choice("enlarge", ["transposed", "resize"]), hp.Boolean("extra")
    grid = math.ceil(height / 2**depth), math.ceil(width / 2**depth), base * last
    x = layers.Dense(math.prod(grid), activation=activation)(_dense(latent, units, activation))
    x = layers.Reshape(grid)(x)
    for level in reversed(range(depth)):
        filters = base * 2**level
        if enlarge == "transposed":
            x = layers.Conv2DTranspose(
                filters, kernel, strides=2, padding="same", activation=activation
            )(x)
        else:
            x = convolution(filters)(layers.UpSampling2D(2)(x))
        if extra:
            x = convolution(filters)(x)
    rate = hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3)
    return _compiled(image, z, latent, x, rate)


def _dense(x: keras.KerasTensor, units: int, activation: str) -> keras.KerasTensor:
    return layers.Dense(units, activation=activation)(x) if units else x


def _compiled(
    image: keras.KerasTensor,
    z: keras.KerasTensor,
    latent: keras.KerasTensor,
    x: keras.KerasTensor,
    rate: float,
) -> keras.Model:
    """The autoencoder, whose part `decoder` generates images from latent variables."""
    height, width, channels = _image_shape()
    x = layers.Conv2D(channels, 3, padding="same", activation="sigmoid", dtype="float32")(x)
    x = layers.Cropping2D(((0, x.shape[1] - height), (0, x.shape[2] - width)))(x)
    decoder = keras.Model(latent, x, name="decoder")
    model = keras.Model(image, decoder(z))
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy")
    return model


class Sampling(layers.Layer):
    """Draws latent variables, and adds their divergence from a normal distribution to the loss.

    Inputs of shape (batch, 2 * latents) are means and logarithms of variances; outputs have the
    shape (batch, latents). Source: Kingma & Welling 2014, equation 10 and appendix B.

    Args:
        pixels: Numbers of an image, by which the divergence is divided: the cross-entropy is a
            mean as well.
        seed: Of the noise; None for another one in each model.
        noise_at_inference: Whether variables are drawn at inference too, so that the validation
            loss is an estimate of the evidence lower bound. Otherwise they are the means, so that
            predictions are always the same, as exported models need it.
    """

    def __init__(
        self,
        pixels: int,
        seed: int | None = None,
        noise_at_inference: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pixels, self.seed, self.noise_at_inference = pixels, seed, noise_at_inference
        self.generator = keras.random.SeedGenerator(seed)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """See `keras.layers.Layer.compute_output_shape`."""
        return (*input_shape[:-1], input_shape[-1] // 2)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """See `keras.layers.Layer.call`."""
        mean, log_variance = ops.split(inputs, 2, axis=-1)
        log_variance = ops.clip(log_variance, -10.0, 10.0)
        divergence = ops.sum(ops.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1) / 2
        self.add_loss(ops.mean(divergence) / self.pixels)
        if not (training or self.noise_at_inference):
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.generator)
        return mean + ops.exp(log_variance / 2) * noise

    def get_config(self) -> dict[str, Any]:
        """See `keras.layers.Layer.get_config`."""
        names = ("pixels", "seed", "noise_at_inference")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# The data


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Load the images that `--data` names, in three splits; each is its own target."""
    return tuple((x, x) for x, _ in image_classification.load_data())


def _image_shape() -> tuple[int, int, int]:
    return image_classification.load_data()[0][0].shape[1:]


# How a model is judged


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The Fréchet distances of generated and of training images from the test images.

    Args:
        model: An autoencoder with a part `decoder`.
        x: The test images.
        y: The same.

    Returns:
        ``fid``, smaller is better; ``fid_of_real``, for comparison.
    """
    decoder = model.get_layer("decoder")
    normal = np.random.default_rng(running.SPLIT_SEED).normal(
        size=(SAMPLES, *decoder.input.shape[1:])
    )
    generated = running.predict(decoder, normal.astype("float32"))
    training = image_classification.load_data()[0][0][: len(x)]
    features = _features(*running.data_settings("digits"))
    real = running.predict(features, x)
    return {
        "fid": frechet_distance(running.predict(features, generated), real),
        "fid_of_real": frechet_distance(running.predict(features, training), real),
    }


@functools.lru_cache(maxsize=1)  # the same for all models that are judged
def _features(data: str, limit: int) -> keras.Model:
    """The features of a small classifier that is trained on the training images."""
    (x, y), _, _ = image_classification.load_data()
    seeds = iter(range(100))  # of its initial weights: the same in every process

    def seeded() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=next(seeds))

    image = keras.Input(x.shape[1:])
    hidden = image
    for width in (16, 32):
        hidden = layers.Conv2D(
            width, 3, padding="same", activation="relu", kernel_initializer=seeded()
        )(hidden)
        hidden = layers.MaxPooling2D(2, padding="same")(hidden)
    features = layers.Dense(FEATURES, activation="relu", kernel_initializer=seeded())(
        layers.Flatten()(hidden)
    )
    outputs = layers.Dense(1 + int(y.max()), "softmax", kernel_initializer=seeded())(features)
    classifier = keras.Model(image, outputs)
    classifier.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    order = np.random.default_rng(running.SPLIT_SEED).permutation(len(y))
    classifier.fit(
        x[order], y[order], epochs=CLASSIFIER_EPOCHS, batch_size=32, shuffle=False, verbose=0
    )
    return keras.Model(image, features)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The squared Fréchet distance of two normal distributions with the moments of two samples.

    Source: Dowson & Landau 1982, "The Fréchet Distance between Multivariate Normal
    Distributions": |m - n|^2 + tr(C + D - 2 (C D)^(1/2)).

    Args:
        first: Features of shape (n, d).
        second: Features of shape (m, d).

    >>> frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]]))
    9.0

    Raises:
        ValueError: There are fewer than two rows, or not the same number of features.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            "`first` and `second` must have at least two rows and the same features; "
            f"got {first.shape} and {second.shape}"
        )
    first, second = first.astype("float64"), second.astype("float64")
    cov, other = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second))
    # The eigenvalues of a product of covariances are real and not negative, but for rounding.
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov @ other).real, 0, None))
    apart = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return float(max(0.0, apart + np.trace(cov) + np.trace(other) - 2 * roots.sum()))


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A convolutional autoencoder as it is made by hand; only its learning rate varies."""
    height, width, channels = _image_shape()
    image = keras.Input((height, width, channels), name="image")
    x = image
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    grid = x.shape[1:]
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    z = Sampling(height * width * channels, name="latent")(layers.Dense(2 * 8)(x))
    latent = keras.Input((8,), name="latent")
    x = layers.Reshape(grid)(layers.Dense(math.prod(grid), activation="relu")(latent))
    for filters in (64, 32):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(x)
    return _compiled(image, z, latent, x, hp.Float("learning_rate", 3e-4, 1e-2, sampling="log"))


RECIPE = running.Recipe(
    name="image-generation",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    larger_is_better=False,
    baselines={"convolutions": running.network(baseline_model, OBJECTIVE)},
    data="digits, fashion_mnist, a folder of idx files or an .npz file",
    trials=10,
    epochs=15,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

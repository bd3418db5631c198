"""Search for keyword models for a small device: below 50 kB and 5 ms, quantized to int8.

    keras-nas search recipes/edge_device.py --strategy nsga2 --max-trials 20 --epochs 8
        --constraint 'litert_int8_bytes<=50kB' --constraint 'litert_int8_latency<=5ms'
    python recipes/edge_device.py --data clips/ --max-trials 20 --epochs 8 --baseline
    python recipes/edge_device.py --smoke

`--data` (or `NAS_DATASET`) is what `recipes/keyword_spotting.py` reads: `generated` (the default),
`speech_commands`, a folder with a folder of WAV files for each word, or an `.npz` file of clips.

The models take spectrograms: on a device, the signal processor computes them, and LiteRT has no
int8 Fourier transform. Three objectives are read from the model that LiteRT runs, quantized to
int8: its accuracy on the validation clips, its bytes, and its latency for one clip on one thread
of this machine. Candidates above the limits are not trained. The result is a Pareto front; the
most accurate model of it is registered. For the latency of another device, measure a table there:
docs/deployment.md. Needs `pip install 'keras-nas-plugin[export-litert]'`.
"""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin import Constraint
from keras_nas_plugin.export import export_model
from keras_nas_plugin.recipes import keyword_spotting, running

OBJECTIVE = ["litert_int8_accuracy", "litert_int8_bytes", "litert_int8_latency_ms"]
MOST_BYTES, MOST_MILLISECONDS = 50_000, 5
CONSTRAINTS = (
    Constraint("litert_int8_bytes", max=MOST_BYTES),
    Constraint("litert_int8_latency_ms", max=MOST_MILLISECONDS),
)
CALIBRATION_ROWS = 200
MOST_BLOCKS = 5

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Depthwise separable convolutions on a spectrogram (Zhang et al. 2017, "Hello Edge").

    Decisions: width, kernel and strides of the stem, number of blocks, and for each of them its
    kind, width, kernel and stride; dropout and learning rate.
    """
    frames, bins, _ = _splits().training[0].shape[1:]
    image = keras.Input((frames, bins, 1), name="spectrogram")
    x = _normalized(
        layers.Conv2D(
            hp.Choice("stem_width", [8, 16, 24, 32], default=24),
            hp.Choice("stem_kernel", [3, 5]),
            strides=(hp.Choice("stem_stride_time", [2, 4], default=2), 2),
            padding="same",
            use_bias=False,
        )(image)
    )
    blocks = hp.Int("blocks", 1, MOST_BLOCKS, default=3)
    for block in range(1, MOST_BLOCKS + 1):
        with hp.conditional_scope("blocks", list(range(block, MOST_BLOCKS + 1))):
            separable = hp.Choice(f"block{block}_kind", ["separable", "full"]) == "separable"
            width = hp.Choice(f"block{block}_width", [16, 24, 32, 48, 64], default=48)
            kernel = hp.Choice(f"block{block}_kernel", [3, 5])
            strides = hp.Choice(f"block{block}_stride", [1, 2], default=2 if block == 1 else 1)
        if block > blocks:  # inactive: the values above are None
            continue
        x = _block(x, separable, width, kernel, strides)
    return _compiled(
        image,
        x,
        dropout=hp.Float("dropout", 0.0, 0.4, step=0.1),
        rate=hp.Float("learning_rate", 5e-4, 1e-2, sampling="log", default=3e-3),
    )


def _block(
    x: keras.KerasTensor, separable: bool, width: int, kernel: int, strides: int
) -> keras.KerasTensor:
    if separable:
        depthwise = layers.DepthwiseConv2D(kernel, strides=strides, padding="same", use_bias=False)
        x, kernel, strides = _normalized(depthwise(x)), 1, 1
    convolution = layers.Conv2D(width, kernel, strides=strides, padding="same", use_bias=False)
    return _normalized(convolution(x))


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    """Batch normalization, which the converter merges into the convolution, and ReLU."""
    return layers.Activation("relu")(layers.BatchNormalization(momentum=0.9)(x))


def _compiled(
    image: keras.KerasTensor, x: keras.KerasTensor, *, dropout: float, rate: float
) -> keras.Model:
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    classes = len(_splits().class_names)
    model = keras.Model(image, layers.Dense(classes, activation="softmax", name="word")(x))
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


# The data


def load_data() -> dict[str, Any]:
    """Load the spectrograms of the clips that `--data` names, in three splits."""
    return _splits().as_mapping()


def _splits() -> running.Splits:
    return _load(*running.data_settings("generated"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> running.Splits:
    clips = keyword_spotting.load_clips(data, limit)
    clip = keras.Input((clips.rate,))
    front_end = keras.Model(clip, keyword_spotting.log_mel(clips.rate)(clip))
    splits = clips.splits
    return running.Splits(
        *(
            (running.predict(front_end, x)[..., np.newaxis], y)
            for x, y in (splits.training, splits.validation, splits.test)
        ),
        class_names=splits.class_names,
    )


# How a model is judged


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Accuracy as LiteRT runs it in int8, that before quantization, kilobytes and milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        exported = export_model(
            model,
            "litert",
            folder,
            quantize="int8",
            data=(x, y),
            calibration=_splits().training[0][:CALIBRATION_ROWS],
            # What quantization costs is measured here, not refused.
            tolerance=1.0,
            max_metric_drop=1.0,
        )
    return {
        "int8_accuracy": exported.score,
        **running.accuracy(model, x, y),
        "kilobytes": exported.bytes / 1000,
        "latency_ms": exported.latency_p50_ms,
    }


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """The small network of "Hello Edge" (DS-CNN-S): a stem and four blocks of 64 channels."""
    image = keras.Input(_splits().training[0].shape[1:], name="spectrogram")
    stem = layers.Conv2D(64, (10, 4), strides=2, padding="same", use_bias=False)
    x = _normalized(stem(image))
    for _ in range(4):
        x = _block(x, separable=True, width=64, kernel=3, strides=1)
    return _compiled(
        image, x, dropout=0.2, rate=hp.Float("learning_rate", 5e-4, 1e-2, sampling="log")
    )


RECIPE = running.Recipe(
    name="edge-device",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    constraints=CONSTRAINTS,
    strategy="nsga2",
    score=score,
    baselines={"ds-cnn": running.network(baseline_model, OBJECTIVE[0])},
    data="generated, speech_commands, a folder of folders of WAV files, or an .npz file",
    trials=20,
    epochs=8,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

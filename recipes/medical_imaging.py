"""Search for a classifier of medical images: a rare finding or none.

    keras-nas search recipes/medical_imaging.py --max-trials 12 --epochs 4
    python recipes/medical_imaging.py --data x-rays.npz --max-trials 12 --epochs 4 --baseline
    python recipes/medical_imaging.py --smoke

`--data` (or `NAS_DATASET`) is one of

* `digits`: scikit-learn's, an eight or none, of which one in ten is; the default;
* an `.npz` file with `x_train`, `y_train` and optionally `x_val`, `y_val` and `x_test`, `y_test`,
  such as those of MedMNIST (medmnist.com) with its arrays renamed; two classes, of which 1 is the
  finding;
* whatever else `recipes/image_classification.py` reads, if it has two classes.

Both classes weigh the same in training. The search chooses by the area under the ROC curve, which
does not depend on how many rows have the finding. Probabilities of a model that was trained with
weights are too high or too low: they are calibrated by the validation rows (Platt 1999), and the
calibration error is given before and after. The threshold for a specificity is chosen by the
validation rows as well, as a clinic would have to.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers

from keras_nas_plugin.recipes import image_classification, running
from keras_nas_plugin.starters import class_weights

OBJECTIVE = "val_auc"
SPECIFICITY = 0.9
BINS = 15  # of the calibration error
POSITIVE = 8  # of the digits

# The search space


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """The space of `image_classification`, with the probability of a finding as the output."""
    image = keras.Input(_splits().training[0].shape[1:], name="image")
    return _compiled(
        image,
        image_classification.features(hp, image),
        keras.optimizers.AdamW(
            learning_rate=hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=1e-3),
            weight_decay=hp.Float("weight_decay", 1e-5, 1e-1, sampling="log"),
        ),
    )


def _compiled(
    image: keras.KerasTensor, x: keras.KerasTensor, optimizer: keras.optimizers.Optimizer
) -> keras.Model:
    outputs = layers.Dense(1, activation="sigmoid", dtype="float32", name="finding")(x)
    model = keras.Model(image, outputs)
    model.compile(optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return model


# The data


def load_data() -> dict[str, Any]:
    """Load the images that `--data` names, in three splits, with the weights of the classes."""
    return _splits().as_mapping()


def _splits() -> running.Splits:
    return _load(*running.data_settings("digits"))


@functools.lru_cache(maxsize=1)  # `build_model` calls it for every model
def _load(data: str, limit: int) -> running.Splits:
    parts = image_classification.load_data()
    if data == "digits":
        parts = tuple((x, (y == POSITIVE).astype("int64")) for x, y in parts)
    for name, (_, y) in zip(("training", "validation", "test"), parts, strict=True):
        if set(np.unique(y)) != {0, 1}:
            raise ValueError(
                f"{data} must have the classes 0 and 1 in the {name} images; "
                f"got {np.unique(y).tolist()[:10]}"
            )
    weights = class_weights(parts[0][1])
    return running.Splits(*parts, class_names=["no finding", "finding"], class_weight=weights)


# How a model is judged


def score(model: running.Predictor, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """AUC, sensitivity and specificity at the threshold, calibration error before and after.

    The threshold and the calibration are from the validation rows.
    """
    from sklearn.metrics import roc_auc_score

    probabilities = np.ravel(running.predict(model, x)).astype("float64")
    x_val, y_val = _splits().validation
    held_out = np.ravel(running.predict(model, x_val)).astype("float64")
    threshold = threshold_of(y_val, held_out, SPECIFICITY)
    sensitivity, specificity = rates(y, probabilities >= threshold)
    return {
        "auc": float(roc_auc_score(y, probabilities)),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ece": calibration_error(y, probabilities),
        "ece_calibrated": calibration_error(y, calibrated(y_val, held_out, probabilities)),
    }


def threshold_of(y: np.ndarray, probabilities: np.ndarray, specificity: float) -> float:
    """The lowest threshold at which at least this share of the negative rows is below.

    Args:
        y: Labels of shape (n,), 0 or 1.
        probabilities: Of the label 1, of shape (n,).
        specificity: The share, 0 to 1.

    >>> threshold_of(np.array([0, 0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9, 0.5]), 0.75) <= 0.5
    True

    Raises:
        ValueError: There is no negative row.
    """
    negatives = np.sort(probabilities[y == 0])
    if not len(negatives):
        raise ValueError("`y` must have rows with the label 0 for a specificity; got none")
    allowed = negatives[max(0, int(np.ceil(specificity * len(negatives) - 1e-9)) - 1)]
    return float(np.nextafter(allowed, np.inf))


def rates(y: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Sensitivity and specificity of predictions.

    >>> rates(np.array([1, 1, 0, 0, 0]), np.array([1, 0, 0, 0, 1]))
    (0.5, 0.6666666666666666)
    """
    return float(np.mean(predicted[y == 1] == 1)), float(np.mean(predicted[y == 0] == 0))


def calibration_error(y: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error of the probability of a finding.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning":
    the mean over equally wide bins of |share of findings - mean probability|, weighted by rows.

    Args:
        y: Labels of shape (n,), 0 or 1.
        probabilities: Of the label 1, of shape (n,).
        bins: Number of bins.

    >>> calibration_error(np.array([1, 1, 0, 0]), np.array([1.0, 0.8, 0.0, 0.2]), bins=2)
    0.1
    """
    bin_of = np.minimum((probabilities * bins).astype("int64"), bins - 1)
    difference = np.bincount(bin_of, weights=y - probabilities, minlength=bins)
    return float(np.round(np.abs(difference).sum() / len(y), 12))


def calibrated(
    y_val: np.ndarray, probabilities_val: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Probabilities after Platt's scaling, which is a logistic regression on the logit."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=1e6).fit(_logit(probabilities_val), y_val)
    return regression.predict_proba(_logit(probabilities))[:, 1]


def _logit(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))[:, np.newaxis]


# The recipe as a program


def baseline_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A convolutional network as it is made by hand; only its learning rate varies."""
    image = keras.Input(_splits().training[0].shape[1:], name="image")
    x = image
    for width in (32, 64):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return _compiled(
        image, x, keras.optimizers.Adam(hp.Float("learning_rate", 3e-4, 3e-3, sampling="log"))
    )


RECIPE = running.Recipe(
    name="medical-imaging",
    build_model=build_model,
    load_data=load_data,
    objective=OBJECTIVE,
    score=score,
    baselines={"convolutions": running.network(baseline_model, OBJECTIVE)},
    data="digits, or an .npz file of images with two classes",
    epochs=4,
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    running.main(RECIPE, __doc__, arguments)


if __name__ == "__main__":
    main()

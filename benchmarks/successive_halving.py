"""Successive halving and median stopping, compared with full training of all configurations.

    python benchmarks/successive_halving.py                  # both tables, a few minutes
    python benchmarks/successive_halving.py --only curves    # no training, seconds

Curves: configurations of a mixed space with simulated learning curves (power laws that cross,
with noise), 20 seeds. Digits: small convolutional networks on scikit-learn's digits, trained with
`NASTuner`, 3 seeds. A configuration always has the same initial weights and the same order of the
data. A promoted training is therefore identical, epoch by epoch, to the full one, and the best
scores can be exactly equal.

For each search, the report lists the number of epochs, the fraction of the epochs of full
training, the best score, and the number of seeds in which it equals the best score of full
training. The target, for random proposals: the same best score with at most a third of the
epochs. A source that learns proposes increasingly better configurations. More of them are
promoted, so that the search takes more epochs and reaches a better score.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FULL, HALVING, MEDIAN = "full training", "successive halving", "median stopping"
BAR = 1 / 3
SAME = 1e-3  # mean accuracy over seeds: half of one validation image on digits


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["curves", "digits"])
    parser.add_argument("--curves-seeds", type=int, default=20)
    parser.add_argument("--digits-seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20, help="configurations on digits")
    parser.add_argument("--epochs", type=int, default=18, help="epochs of full training on digits")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    if options.only != "digits":
        for source in ("random", "evolution"):
            title = f"curves, proposals by {source}, 50 configurations, 27 epochs"
            results[title] = [compare_curves(seed, source) for seed in range(options.curves_seeds)]
    if options.only != "curves":
        title = f"digits, {options.trials} configurations, {options.epochs} epochs"
        results[title] = [
            compare_digits(seed, options.trials, options.epochs)
            for seed in range(options.digits_seeds)
        ]
    print(json.dumps(results, indent=2) if options.json else report(results))


# ------------------------------------------------------------------ learning curves


def curve(values: Mapping[str, Any], seed: int, epochs: int) -> np.ndarray:
    """Accuracy per epoch: shape ``[epochs]``.

    A power law ``a - (a - 0.1) * (1 + t)^-r`` (Domhan, Springenberg & Hutter 2015, family
    "pow3") with noise of 0.004 per epoch. Curves cross: a large learning rate converges fast to
    a low accuracy, dropout slowly to a high one.
    """
    rate, width = np.log10(values["rate"]), np.log2(values["width"])
    a = 0.93 - 0.05 * (rate + 2.7) ** 2 + 0.008 * width - 0.01 * abs(values["depth"] - 3)
    a += 0.15 * values["dropout"] - 0.25 * values["dropout"] ** 2
    a -= 0.02 if values["optimizer"] == "sgd" else 0.0
    r = 0.75 + 0.25 * (rate + 2.7) - 0.3 * values["dropout"] + 0.02 * width
    steps = np.arange(1, epochs + 1)
    text = json.dumps([dict(values), seed], sort_keys=True)
    noise = np.random.default_rng(zlib.crc32(text.encode())).normal(0.0, 0.004, epochs)
    return a - (a - 0.1) * (1.0 + steps) ** -max(r, 0.05) + noise


def curve_space() -> Any:
    """The search space of the curves."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-5, 1e-1, sampling="log")
    hp.Int("width", 8, 256, step=2, sampling="log")
    hp.Int("depth", 1, 6)
    hp.Float("dropout", 0.0, 0.6)
    hp.Choice("optimizer", ["adam", "sgd"])
    return hp


def compare_curves(
    seed: int, source: str = "random", *, trials: int = 50, epochs: int = 27
) -> dict[str, dict[str, float]]:
    """Epochs and best score of full training and of successive halving, for one seed."""
    from keras_nas_plugin import oracles
    from keras_nas_plugin.oracles import STRATEGIES, SuccessiveHalvingOracle

    def plain() -> Any:
        import keras_tuner

        return getattr(oracles, STRATEGIES[source])(
            keras_tuner.Objective("score", "max"),
            trials,
            seed=seed,
            hyperparameters=curve_space(),
        )

    halving = SuccessiveHalvingOracle(source=plain(), max_epochs=epochs)
    halving.train_in_rungs()
    return {
        FULL: _drive(plain(), seed, epochs),
        HALVING: _drive(halving, seed, epochs),
    }


def _drive(oracle: Any, seed: int, full: int) -> dict[str, float]:
    from keras_nas_plugin.space.fidelity import configuration, fidelity_of

    oracle.verbose = 0
    trained = 0
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        values = trial.hyperparameters.values
        fidelity = fidelity_of(values)
        until = fidelity.epochs if fidelity else full
        trained += until - (fidelity.initial_epoch if fidelity else 0)
        score = float(curve(configuration(values), seed, full)[:until].max())
        oracle.update_trial(trial.trial_id, {"score": score})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return {"epochs": trained, "best": oracle.get_best_trials()[0].score}


# ------------------------------------------------------------------ digits


def build_digits(hp: Any) -> Any:
    """A small convolutional network."""
    import keras
    from keras import layers

    x = inputs = keras.Input((8, 8, 1))
    width, normalize = hp.Choice("width", [8, 16, 32]), hp.Boolean("normalize")
    for _ in range(hp.Int("blocks", 1, 3)):
        x = layers.Conv2D(width, hp.Choice("kernel", [1, 3]), padding="same")(x)
        if normalize:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(hp.Choice("activation", ["relu", "tanh"]))(x)
    pooled = hp.Boolean("pool")
    x = layers.GlobalAveragePooling2D()(x) if pooled else layers.Flatten()(x)
    x = layers.Dropout(hp.Float("dropout", 0.0, 0.6, step=0.2))(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    rate = hp.Float("rate", 1e-4, 1e-1, sampling="log")
    kind = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    model.compile(
        kind[hp.Choice("optimizer", ["adam", "sgd"])](rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def seeded(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make the initial weights depend only on the hyperparameters, not on earlier trials."""
    import keras

    from keras_nas_plugin.space.fidelity import configuration

    def seeded_build(hp: Any) -> Any:
        text = json.dumps(configuration(hp.values), sort_keys=True)
        keras.utils.set_random_seed(zlib.crc32(text.encode()))
        return build(hp)

    return seeded_build


def compare_digits(seed: int, trials: int, epochs: int) -> dict[str, dict[str, float]]:
    """Epochs and best score of all searches on digits, for one seed."""
    from keras_nas_plugin import MedianStoppingCallback
    from keras_nas_plugin.oracles import RandomOracle, SuccessiveHalvingOracle

    plain = {"objective": "val_accuracy", "max_trials": trials, "seed": seed}
    return {
        FULL: _train(RandomOracle(**plain), epochs, seed),
        HALVING: _train(SuccessiveHalvingOracle(**plain), epochs, seed),
        MEDIAN: _train(
            RandomOracle(**plain), epochs, seed, [MedianStoppingCallback("val_accuracy")]
        ),
    }


def _train(oracle: Any, epochs: int, seed: int, callbacks: Any = ()) -> dict[str, float]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from keras_nas_plugin import NASTuner
    from keras_nas_plugin.records.trial import load_records

    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype("float32").reshape(-1, 8, 8, 1)
    x, x_val, y, y_val = train_test_split(
        images, labels, test_size=0.3, random_state=seed, stratify=labels
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        tuner = NASTuner(
            seeded(build_digits), oracle=oracle, directory=folder, project_name="search"
        )
        tuner.search(
            x,
            y,
            epochs=epochs,
            batch_size=64,
            shuffle=False,  # the data are already shuffled
            validation_data=(x_val, y_val),
            callbacks=list(callbacks),
            verbose=0,
        )
        trained = sum(len(record.curves[0]) for record in load_records(tuner.project_dir))
    return {
        "epochs": trained,
        "best": oracle.get_best_trials()[0].score,
        "seconds": time.monotonic() - began,
    }


# ------------------------------------------------------------------ the report


def summary(runs: list[dict[str, dict[str, float]]], search: str) -> dict[str, float]:
    """A search compared with full training, over all seeds."""
    parts = [run[search]["epochs"] / run[FULL]["epochs"] for run in runs]
    lost = [run[FULL]["best"] - run[search]["best"] for run in runs]
    return {
        "epochs": statistics.fmean(run[search]["epochs"] for run in runs),
        "part": statistics.fmean(parts),
        "largest_part": max(parts),
        "best": statistics.fmean(run[search]["best"] for run in runs),
        "lost": statistics.fmean(lost),
        "same": sum(gap <= 1e-6 for gap in lost),
        "seeds": len(runs),
    }


def report(results: Mapping[str, list[dict[str, dict[str, float]]]]) -> str:
    """All tables as text."""
    lines = []
    for title, runs in results.items():
        lines += [
            title,
            f"  {'':20s}{'epochs':>8s}{'share':>8s}{'max':>8s}{'best':>9s}{'lost':>9s}",
        ]
        for search in runs[0]:
            mean = summary(runs, search)
            lines.append(
                f"  {search:20s}{mean['epochs']:8.0f}{mean['part']:8.3f}"
                f"{mean['largest_part']:8.3f}{mean['best']:9.4f}{mean['lost']:9.4f}"
                f"   equal or better in {mean['same']} of {mean['seeds']} seeds"
            )
        for seed, run in enumerate(runs if len(runs) <= 5 else ()):
            cells = (f"{name} {row['best']:.4f} ({row['epochs']})" for name, row in run.items())
            lines.append(f"    seed {seed}: {', '.join(cells)}")
        if "evolution" not in title:
            halving = summary(runs, HALVING)
            met = halving["part"] <= BAR and halving["lost"] <= SAME
            lines.append(f"  bar: {'MET' if met else 'MISSED'}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Overhead of a trial beyond its training, compared with stock KerasTuner in the same run.

    python benchmarks/trial_overhead.py                # all three tables, about 10 minutes
    python benchmarks/trial_overhead.py --only oracle  # no training

Trials: `keras_tuner.Tuner` without tracking is compared with `NASTuner` with an `MLflowTracker`
on SQLite. Both have the same oracle and seed, and therefore train the same models on the same
data (digits, 3 epochs, batch size 32). Each search runs in a separate process; the two alternate.
The report lists the median wall time and CPU time per trial, the growth of resident memory per
trial (slope over the last two thirds of the trials), and whether all scores are equal.

Oracle: the time to create, update and end a trial with 20 hyperparameters and no training, as the
median over the last 100 trials of 100 and of 3,000.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS = {"wall": 0.80, "memory": 2.0, "oracle": 10.0}
STOCK, OURS = "stock", "ours"
# Strategies whose proposals take almost no time, so that the overhead of the oracle is measured.
TIMED = ("evolution", "random")


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3, help="searches with each tuner")
    parser.add_argument("--only", choices=["mlp", "cnn", "oracle"], action="append")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT" + json.dumps(_child(*options.child, options.trials)))
        return
    kinds = options.only or ["mlp", "cnn", "oracle"]
    results = {}
    for kind in kinds:
        if kind == "oracle":
            results[kind] = _spawn(kind, OURS, options.trials)
        else:
            results[kind] = _compare_trials(kind, options.trials, options.repeats)
        if not options.json:
            print(_report({kind: results[kind]}), flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


def _compare_trials(kind: str, trials: int, repeats: int) -> dict:
    runs: dict[str, list[dict]] = {STOCK: [], OURS: []}
    for repeat in range(repeats):
        order = (STOCK, OURS) if repeat % 2 == 0 else (OURS, STOCK)
        for who in order:
            runs[who].append(_spawn(kind, who, trials))
    result = {
        who: {key: statistics.median(run[key] for run in of) for key in ("wall", "cpu", "memory")}
        for who, of in runs.items()
    }
    ratios = [a["wall"] / b["wall"] for a, b in zip(runs[OURS], runs[STOCK], strict=True)]
    result["wall_ratio"] = statistics.median(ratios)
    result["wall_ratios"] = ratios
    result["cpu_ratio"] = result[OURS]["cpu"] / result[STOCK]["cpu"]
    result["same_scores"] = len({tuple(run["scores"]) for of in runs.values() for run in of}) == 1
    return result


def _spawn(kind: str, who: str, trials: int) -> dict:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, __file__, "--child", kind, who, "--trials", str(trials)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{kind} {who} failed:\n{process.stderr[-3000:]}")
    return json.loads(lines[0].removeprefix("RESULT"))


# ------------------------------------------------------------------ one search in one process


def _child(kind: str, who: str, trials: int) -> dict:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return _oracle_times(folder) if kind == "oracle" else _search(kind, who, trials, folder)


def _search(kind: str, who: str, trials: int, folder: str) -> dict:
    import keras_tuner
    import numpy as np
    from sklearn.datasets import load_digits

    from keras_nas_plugin import MLflowTracker, NASTuner

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    images = images.reshape(-1, 8, 8, 1) if kind == "cnn" else images
    walls, cpus, memory = [], [], []

    def note(tuner: object) -> None:
        walls.append(time.perf_counter())
        cpus.append(time.process_time())
        memory.append(_resident())

    oracle = keras_tuner.oracles.RandomSearchOracle("val_accuracy", max_trials=trials, seed=3)
    build = {"mlp": _mlp, "cnn": _cnn}[kind]
    if who == STOCK:
        base, options = keras_tuner.Tuner, {"oracle": oracle, "hypermodel": build}
    else:
        tracker = MLflowTracker("overhead", tracking_uri=f"sqlite:///{folder}/mlflow.db")
        base, options = NASTuner, {"oracle": oracle, "hypermodel": build, "tracker": tracker}
        os.chdir(folder)  # where MLflow stores its artifacts
    timed = type("Timed", (base,), {"pre_create_trial": note})
    tuner = timed(directory=folder, project_name="search", **options)
    tuner.search(
        images[:1437],
        labels[:1437],
        validation_data=(images[1437:], labels[1437:]),
        epochs=3,
        batch_size=32,
        verbose=0,
    )
    tail = memory[len(memory) // 3 :]
    return {
        # The first trials include imports and the initialisation of TensorFlow.
        "wall": statistics.median(np.diff(walls)[2:]) * 1e3,
        "cpu": statistics.median(np.diff(cpus)[2:]) * 1e3,
        "memory": float(np.polyfit(range(len(tail)), tail, 1)[0]),
        "scores": [trial.score for _, trial in sorted(tuner.oracle.trials.items())],
    }


def _resident() -> float:
    """Resident memory in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _mlp(hp):
    import keras

    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((64,))])
    for layer in range(hp.Int("layers", 1, 3)):
        units = hp.Choice(f"units_{layer}", [32, 64, 128])
        model.add(keras.layers.Dense(units, activation=hp.Choice("activation", ["relu", "tanh"])))
    model.add(keras.layers.Dropout(hp.Float("dropout", 0.0, 0.4, step=0.1)))
    model.add(keras.layers.Dense(10, activation="softmax"))
    return _compiled(model, hp)


def _cnn(hp):
    import keras

    keras.utils.set_random_seed(7)
    inputs = x = keras.Input((8, 8, 1))
    for block in range(hp.Int("blocks", 1, 3)):
        x = keras.layers.Conv2D(hp.Choice(f"width_{block}", [8, 16, 32]), 3, padding="same")(x)
        if hp.Boolean("normalise", default=True):
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
        if block < 2:
            x = keras.layers.MaxPooling2D()(x)
    pooled = hp.Boolean("pool")
    x = (keras.layers.GlobalAveragePooling2D() if pooled else keras.layers.Flatten())(x)
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    return _compiled(keras.Model(inputs, outputs), hp)


def _compiled(model, hp):
    import keras

    rate = hp.Choice("learning_rate", [1e-2, 3e-3, 1e-3])
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


# ------------------------------------------------------------------ the oracle alone


def _oracle_times(folder: str) -> dict:
    import keras_tuner

    from keras_nas_plugin import oracles

    classes = {f"keras_nas {name}": getattr(oracles, oracles.STRATEGIES[name]) for name in TIMED}
    classes["keras_tuner random"] = keras_tuner.oracles.RandomSearchOracle
    results = {}
    for name, oracle_class in classes.items():
        results[name] = {
            str(count): _time_oracle(oracle_class, count, f"{folder}/{name}{count}")
            for count in (100, 3000)
        }
    return results


def _time_oracle(oracle_class: type, count: int, folder: str) -> float:
    """Median milliseconds per trial over the last 100 trials."""
    import keras_tuner

    def build(hp):
        for index in range(8):
            hp.Choice(f"choice_{index}", ["a", "b", "c", "d"])
        for index in range(6):
            hp.Int(f"int_{index}", 1, 64, sampling="log")
            hp.Float(f"float_{index}", 1e-4, 1e-1, sampling="log")

    class Idle(keras_tuner.Tuner):
        def run_trial(self, trial, *args, **kwargs):
            raise NotImplementedError

    oracle = oracle_class(keras_tuner.Objective("score", "max"), max_trials=count, seed=0)
    Idle(oracle=oracle, hypermodel=build, directory=folder, project_name="search")
    oracle.verbose = 0
    times = []
    for _ in range(count):
        before = time.perf_counter()
        trial = oracle.create_trial("tuner0")
        values = trial.hyperparameters.values
        oracle.update_trial(trial.trial_id, {"score": values["int_0"] - values["float_0"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        times.append(time.perf_counter() - before)
    return statistics.median(times[-100:]) * 1e3


def _report(results: dict) -> str:
    lines = []
    for kind in ("mlp", "cnn"):
        if kind not in results:
            continue
        result = results[kind]
        lines += [
            f"{kind}: NASTuner with tracking / keras_tuner.Tuner without",
            f"  wall per trial  {result[OURS]['wall']:7.0f} ms / {result[STOCK]['wall']:.0f} ms"
            f" = {result['wall_ratio']:.2f}  (at most {TARGETS['wall']:.2f};"
            f" each pair: {', '.join(f'{r:.2f}' for r in result['wall_ratios'])})",
            f"  CPU per trial   {result[OURS]['cpu']:7.0f} ms / {result[STOCK]['cpu']:.0f} ms"
            f" = {result['cpu_ratio']:.2f}",
            f"  memory growth   {result[OURS]['memory']:7.2f} MiB per trial /"
            f" {result[STOCK]['memory']:.2f}  (at most {TARGETS['memory']:.0f})",
            f"  same scores     {'yes' if result['same_scores'] else 'NO'}",
        ]
    if "oracle" in results:
        lines.append(f"oracle alone, ms per trial (at most {TARGETS['oracle']:.0f})")
        lines.append(f"  {'':24s}{'100 trials':>12s}{'3,000 trials':>14s}")
        for name, times in results["oracle"].items():
            lines.append(f"  {name:24s}{times['100']:12.1f}{times['3000']:14.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

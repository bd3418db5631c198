"""Start-up of a search: what passes until its first trial begins, compared with stock KerasTuner.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --repeats 9

Each search runs in a process of its own, which has imported KerasTuner, this package and
everything that a training needs. The clock runs from before the tuner is made until its first
trial is run. The report lists the medians of CPU and wall-clock seconds for

- `stock`: `keras_tuner.RandomSearch`;
- `untracked`: `NASTuner` without a tracker;
- `new store`: `NASTuner` with `MLflowTracker` and an SQLite file that does not exist, whose tables
  are created beside the first trial;
- `store`: the same with a file that has the tables.

Most of what remains in the last two is the import of MLflow, which stock KerasTuner does not do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

KINDS = ("stock", "untracked", "new store", "store")


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="processes of each kind")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT" + json.dumps(_start(*options.child)))
        return
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.repeats):
            place = f"{folder}/{number}"
            for kind in KINDS:  # in this order: the last one uses the store of the third
                seconds[kind].append(_spawn(kind, place))
    print(f"Seconds until the first trial, medians of {options.repeats}")
    print(f"  {'':12s}{'CPU':>8s}{'wall':>8s}")
    for kind, pairs in seconds.items():
        cpu, wall = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"  {kind:12s}{cpu:8.2f}{wall:8.2f}")


def _spawn(kind: str, folder: str) -> tuple[float, float]:
    command = [sys.executable, __file__, "--child", kind, folder]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{kind} failed:\n{process.stderr[-3000:]}")
    cpu, wall = json.loads(lines[-1].removeprefix("RESULT"))
    return cpu, wall


def _start(kind: str, folder: str) -> tuple[float, float]:
    """CPU and wall-clock seconds of a search until its first trial, which is not trained."""
    import keras
    import keras_tuner
    import numpy as np

    from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle

    x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")

    def build(hp: Any) -> keras.Model:
        units = hp.Int("units", 4, 32)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(units)])
        model.add(keras.layers.Dense(2, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    build(keras_tuner.HyperParameters()).fit(x, y, verbose=0)
    begun: list[tuple[float, float]] = []

    def run_trial(self: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        begun.append((time.process_time(), time.perf_counter()))
        raise keras_tuner.errors.FatalError("the trial has begun")

    start = time.process_time(), time.perf_counter()
    place: dict[str, Any] = {"directory": folder, "project_name": kind}
    if kind == "stock":
        stock = type("Stock", (keras_tuner.RandomSearch,), {"run_trial": run_trial})
        tuner = stock(build, objective="val_accuracy", max_trials=2, **place)
    else:
        ours = type("Ours", (NASTuner,), {"run_trial": run_trial})
        uri = f"sqlite:///{folder}/mlflow.db"
        tracker = None if kind == "untracked" else MLflowTracker("start", tracking_uri=uri)
        oracle = RandomOracle("val_accuracy", max_trials=2)
        tuner = ours(build, oracle=oracle, tracker=tracker, **place)
    with contextlib.suppress(keras_tuner.errors.FatalError):
        tuner.search(x, y, validation_data=(x, y), verbose=0)
    (cpu, wall) = begun[0]
    return cpu - start[0], wall - start[1]


if __name__ == "__main__":
    main()

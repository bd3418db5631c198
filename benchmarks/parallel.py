"""Trials per hour with several workers, compared with the same search without, in the same run.

    python benchmarks/parallel.py                            # everything; about 10 minutes
    python benchmarks/parallel.py --only digits --executors sequential,local

The same random search trains the same convolutional networks one after the other with two threads
(``sequential``), in two worker processes with one thread each (``local``), and in two actors of a
local Ray cluster with one processor core each (``ray``). Each search runs in a process of its own,
and the executors take turns. Data: digits (8x8), and Fashion-MNIST (28x28) or, where it cannot be
downloaded, digits enlarged to that size.

The report lists, for each executor, the trials per hour from the start of the first training to
the end of the search, their ratio to ``sequential`` (the median over the repeats), the seconds
until the first training starts, the ratio for the whole search including these, the share of the
two cores' time that the driver used while trials trained, the memory of each worker (private
pages), and whether all scores equal those of ``sequential``.

Memory: 200 MB of images are searched with two workers. The memory of all processes together (pages
in use, shared ones counted once) is compared with that of the same search on 1 MB, at the peaks.
Neither search is deterministic.
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
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TARGETS = {"local": 1.7, "ray": 1.5, "driver": 0.05, "copies": 1.0}
WORKERS = 2
EXECUTORS = ("sequential", "local", "ray")
DATA = ("digits", "fashion")
EPOCHS = {"digits": 20, "fashion": 3}
FASHION_ROWS = 6_000


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[*DATA, "memory"], action="append")
    parser.add_argument("--executors", default=",".join(EXECUTORS), metavar="LIST")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print("RESULT" + json.dumps(_child(*options.child, options.trials)))
        return
    executors = options.executors.split(",")
    results: dict[str, Any] = {}
    for kind in options.only or [*DATA, "memory"]:
        if kind == "memory":
            results[kind] = {size: _spawn(size, "local", 3 * WORKERS) for size in ("1MB", "200MB")}
            text = _memory_report(results[kind])
        else:
            results[kind] = _compare(kind, executors, options.trials, options.repeats)
            text = _report(kind, results[kind])
        if not options.json:
            print(text, flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


def _compare(kind: str, executors: list[str], trials: int, repeats: int) -> dict[str, list[dict]]:
    runs: dict[str, list[dict]] = {name: [] for name in executors}
    for repeat in range(repeats):
        for name in executors if repeat % 2 == 0 else reversed(executors):
            runs[name].append(_spawn(kind, name, trials))
    return runs


def _spawn(kind: str, executor: str, trials: int) -> dict:
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_NUM_INTRAOP_THREADS": str(WORKERS),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    command = [sys.executable, __file__, "--child", kind, executor, "--trials", str(trials)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{kind} {executor} failed:\n{process.stderr[-3000:]}")
    return json.loads(lines[0].removeprefix("RESULT"))


# ------------------------------------------------------------------ one search in one process


def _child(kind: str, executor: str, trials: int) -> dict:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        return _search(kind, executor, trials, folder)


def _search(kind: str, executor: str, trials: int, folder: str) -> dict:
    from keras_nas_plugin import LocalExecutor, NASTuner, RandomOracle, RayExecutor, Tracker

    class Starts(Tracker):
        """Notes when the first trial begins, and the driver's CPU time then."""

        seconds: float | None = None
        cpu = 0.0

        def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
            if self.seconds is None:
                self.seconds, self.cpu = time.perf_counter(), _cpu_seconds()

    starts = Starts()
    choices = {
        "sequential": lambda: None,
        "local": lambda: LocalExecutor(workers=WORKERS, threads_per_worker=1),
        "ray": lambda: RayExecutor(workers=WORKERS, cpus_per_trial=1),
    }
    tuner = NASTuner(
        _build(kind),
        RandomOracle("val_accuracy", max_trials=trials, seed=3),
        directory=folder,
        project_name="search",
        executor=choices[executor](),
        listeners=[starts],
        # Deterministic, TensorFlow copies the arrays for a moment when it begins an epoch.
        deterministic=kind in DATA,
    )
    images, labels, options = _data(kind)
    rows = len(images) * 4 // 5
    begin = time.perf_counter()
    with _MemorySampler() as memory:
        tuner.search(
            images[:rows],
            labels[:rows],
            validation_data=(images[rows:], labels[rows:]),
            batch_size=32,
            verbose=0,
            **options,
        )
    end, cpu = time.perf_counter(), _cpu_seconds()
    if starts.seconds is None:
        raise RuntimeError("no trial was started")
    return {
        "startup": starts.seconds - begin,
        "training": end - starts.seconds,
        "driver": (cpu - starts.cpu) / (end - starts.seconds) / WORKERS,
        "worker_mb": memory.worker_mb,
        "total_mb": memory.total_mb,
        "scores": [trial.score for _, trial in sorted(tuner.oracle.trials.items())],
        "trials": trials,
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class _MemorySampler:
    """Memory of the worker processes and of all processes of the search together.

    Attributes:
        worker_mb: The largest of a worker.
        total_mb: The largest of all together.
    """

    def __init__(self) -> None:
        self.worker_mb = 0.0
        self.total_mb = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        import psutil

        driver = psutil.Process()
        while not self._stopped.wait(0.25):
            processes = [driver, *driver.children(recursive=True)]
            usages = []
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    usages.append((process, process.memory_full_info()))
            total = sum(usage.pss for _, usage in usages) / 1e6
            self.total_mb = max(self.total_mb, total)
            trains = [
                usage.uss
                for process, usage in usages
                if process != driver and usage.rss > 300e6  # which has loaded TensorFlow
            ]
            self.worker_mb = max([self.worker_mb, *(uss / 1e6 for uss in trains)])


def _data(kind: str) -> tuple[Any, Any, dict[str, Any]]:
    """Images, labels, and further arguments of `search`."""
    import numpy as np
    from sklearn.datasets import load_digits

    if kind in ("1MB", "200MB"):
        rows = int(float(kind.removesuffix("MB")) * 1e6 / (28 * 28 * 4))
        images = np.random.default_rng(0).random((rows, 28, 28, 1), dtype="float32")
        return images, np.arange(rows) % 10, {"epochs": 1}
    if kind == "fashion":
        with contextlib.suppress(Exception):  # no network
            import keras

            (images, labels), _ = keras.datasets.fashion_mnist.load_data()
            images = (images[:FASHION_ROWS, ..., None] / 255).astype("float32")
            return images, labels[:FASHION_ROWS], {"epochs": EPOCHS[kind]}
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    if kind == "fashion":
        print("Fashion-MNIST cannot be downloaded: enlarged digits instead", file=sys.stderr)
        images = np.pad(
            images.repeat(3, axis=1).repeat(3, axis=2), [(0, 0), (2, 2), (2, 2), (0, 0)]
        )
        copies = -(-FASHION_ROWS // len(images))
        images = np.concatenate([images] * copies)[:FASHION_ROWS]
        labels = np.concatenate([labels] * copies)[:FASHION_ROWS]
    return images, labels, {"epochs": EPOCHS[kind]}


def _build(kind: str) -> Any:
    size = 8 if kind == "digits" else 28

    def build_model(hp: Any) -> Any:
        import keras

        model = keras.Sequential([keras.Input((size, size, 1))])
        for block in range(hp.Int("blocks", 1, 2)):
            filters = hp.Choice(f"filters_{block}", [8, 16, 32])
            model.add(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
            model.add(keras.layers.MaxPooling2D(2))
        model.add(keras.layers.Flatten())
        model.add(keras.layers.Dense(10, activation="softmax"))
        rate = hp.Float("rate", 1e-4, 1e-2, sampling="log")
        model.compile(
            keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model

    return build_model


# ------------------------------------------------------------------ the report


def _report(kind: str, runs: dict[str, list[dict]]) -> str:
    lines = [
        f"{kind}: {WORKERS} workers, medians of {len(next(iter(runs.values())))} searches",
        f"{'':12}{'trials/h':>10}{'ratio':>8}{'whole':>8}{'start s':>9}{'driver':>8}"
        f"{'worker MB':>11}  same scores",
    ]
    stock = runs.get("sequential")
    for name, of in runs.items():
        hourly = statistics.median(run["trials"] / run["training"] * 3600 for run in of)
        row = f"{name:12}{hourly:10.0f}"
        if stock:
            ratio = _ratio(stock, of, "training")
            whole = statistics.median(
                (a["training"] + a["startup"]) / (b["training"] + b["startup"])
                for a, b in zip(stock, of, strict=True)
            )
            same = all(run["scores"] == stock[0]["scores"] for run in of)
            row += f"{ratio:8.2f}{whole:8.2f}"
        else:
            ratio, same = float("nan"), None
            row += f"{'-':>8}{'-':>8}"
        startup, driver, memory = (
            statistics.median(run[key] for run in of) for key in ("startup", "driver", "worker_mb")
        )
        # Without workers, the driver trains.
        share, used = ("-", "-") if name == "sequential" else (f"{driver:.1%}", f"{memory:.0f}")
        row += f"{startup:9.1f}{share:>8}{used:>11}  {same}"
        if name in TARGETS:
            passed = ratio >= TARGETS[name] and driver <= TARGETS["driver"]
            row += f"  {'PASS' if passed else 'FAIL'} (ratio >= {TARGETS[name]}, driver <= 5%)"
        lines.append(row)
    return "\n".join(lines) + "\n"


def _ratio(stock: list[dict], of: list[dict], key: str) -> float:
    return statistics.median(a[key] / b[key] for a, b in zip(stock, of, strict=True))


def _memory_report(runs: dict[str, dict]) -> str:
    # The driver's own array is one of the copies.
    more = runs["200MB"]["total_mb"] - runs["1MB"]["total_mb"]
    copies = more / 199 - 1
    passed = copies <= TARGETS["copies"]
    return (
        f"memory: 200 MB of data add {more:.0f} MB to the processes of a search with {WORKERS} "
        f"workers: {copies:.2f} copies beside the driver's own array "
        f"{'PASS' if passed else 'FAIL'} (at most {TARGETS['copies']:.0f})\n"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()

"""Proxies at equal wall-clock time: a real search, compared with random search.

    python benchmarks/proxy_recipe.py                       # Fashion-MNIST, 5 seeds

Searches the space of `recipes/image_classification.py` on 5,000 images. Both oracles have their
defaults and the same time budget, which includes the time to compute the proxies. The two
searches of a seed run in parallel, each in its own process on one core, and swap cores after each
seed; on a machine with one core they run one after the other. The report lists the trials per
seed and, at fractions of the time budget, the mean best validation accuracy with standard errors.

Fashion-MNIST is read from the Debian package `dataset-fashion-mnist` if it is installed;
otherwise Keras downloads it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent import futures
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORACLES = ("RandomOracle", "GradientProxyOracle")
PARTS = 6


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, default=5)
    add("--seconds", type=float, default=300.0, help="time budget of each search")
    add("--epochs", type=int, default=3)
    add("--images", type=int, default=5_000, help="number of training images")
    add("--dataset", default="fashion_mnist", help="see recipes/image_classification.py")
    add("--max-trials", type=int, default=100, help="budget of the oracles")
    add("--json", metavar="FILE", help="write the results as JSON to this file")
    add("--one", nargs=3, metavar=("ORACLE", "SEED", "CORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        # Must precede the import of TensorFlow, which counts the cores.
        os.sched_setaffinity(0, {int(options.one[2])})
        print(json.dumps(search(options.one[0], int(options.one[1]), options)))
        return
    curves_of: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in ORACLES}
    cores = sorted(os.sched_getaffinity(0))[: len(ORACLES)]
    for seed in range(options.seeds):
        turned = cores[seed % len(cores) :] + cores[: seed % len(cores)]
        with futures.ThreadPoolExecutor(len(cores)) as executor:
            waiting = [
                executor.submit(in_a_process, name, seed, turned[index % len(cores)])
                for index, name in enumerate(ORACLES)
            ]
            curves = [future.result() for future in waiting]
        for name, curve in zip(ORACLES, curves, strict=True):
            curves_of[name].append(curve)
            best = max((score for _, score in curve), default=float("nan"))
            print(f"seed {seed} {name}: {len(curve)} trials, best {best:.4f}", flush=True)
    report(curves_of, options.seconds)
    if options.json:
        Path(options.json).write_text(json.dumps(curves_of) + "\n", "utf-8")


def in_a_process(name: str, seed: int, core: int) -> list[tuple[float, float]]:
    """Run one search in a separate process on one core; returns the result of `search`."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, str(seed), str(core)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{name} with seed {seed} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def search(name: str, seed: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Search until the budget is used; returns the end time and the score of each trial."""
    os.environ.update(
        NAS_DATASET=options.dataset,
        NAS_LIMIT=str(options.images),
        TF_CPP_MIN_LOG_LEVEL="3",
    )
    sys.path[:0] = [str(ROOT), str(ROOT / "recipes")]
    import time

    import image_classification as recipe

    import keras_nas_plugin
    from keras_nas_plugin.records.trial import load_records

    (x, y), validation, _ = recipe.load_data()
    oracle = getattr(keras_nas_plugin, name)(
        "val_accuracy", max_trials=options.max_trials, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_nas_plugin.NASTuner(
            recipe.build_model,
            oracle=oracle,
            directory=folder,
            project_name="search",
            budget=options.seconds,
        )
        start = time.time() * 1e3
        tuner.search(x, y, validation_data=validation, epochs=options.epochs, verbose=0)
        records = load_records(tuner.project_dir)
        return sorted(
            ((record.ended_ms - start) / 1e3, record.score)
            for record in records
            if record.score is not None
        )


def report(curves_of: dict[str, list[list[tuple[float, float]]]], seconds: float) -> None:
    """Print both curves at the same times."""
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from benchmarks._statistics import Estimate

    times = [seconds * (part + 1) / PARTS for part in range(PARTS)]
    print("\nbest validation accuracy by seconds of search (0 for a search without a trial)")
    print(" " * 24 + "".join(f"{time:>18.0f}" for time in times))
    at = {}
    for name, curves in curves_of.items():
        at[name] = np.array(
            [
                [max((s for t, s in curve if t <= time), default=0.0) for time in times]
                for curve in curves
            ]
        )
        cells = [Estimate.of(at[name][:, part]) for part in range(PARTS)]
        print(f"  {name:22s}" + "".join(f"{c.mean:>10.4f} ± {c.error:.4f}" for c in cells))
    gain = Estimate.of(at[ORACLES[1]][:, -1] - at[ORACLES[0]][:, -1])
    print(f"  difference at the end {gain.mean:+.4f} ± {gain.error:.4f}, {gain.count} pairs")


if __name__ == "__main__":
    main()

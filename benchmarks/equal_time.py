"""Searches at equal CPU time: stock KerasTuner and the strategies of this package.

    python benchmarks/equal_time.py                         # 5 seeds; about 2 hours
    python benchmarks/equal_time.py --data fashion_mnist --rows 5000 --seconds 120
    python benchmarks/equal_time.py --data images.npz --strategies stock-random,random,auto

Each search runs in a process of its own with one thread, over the convolutional networks of
`recipes/image_classification.py`, until it has used its CPU time: building models, proposing,
scoring by proxies, training a supernet and saving checkpoints count, importing does not. Nothing
is tracked. The strategies know the time (`budget`), but no number of trials. The search ends in
the middle of a trial when the time is up; only trials that have ended count, and a search in which
none has ended has an accuracy of 0 and no best architecture.

The report lists, for each strategy, the validation accuracy of the best trial at a third, two
thirds and all of the time, how many trials ended, the share of the time after which it has reached
the accuracy that stock random search has at the end (of the mean curves), and the accuracy on test
images of its best architecture, trained from scratch. Differences between means of so few seeds
are mostly noise: the standard error is listed as well.
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

os.environ.update(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

BASELINE = "stock-random"
STRATEGIES = (
    BASELINE,
    "stock-hyperband",
    "random",
    "evolution",
    "surrogate",
    "gradient-proxy",
    "halving",
    "halving-surrogate",
    "evolution-inherit",
    "auto",
)
#: Share of the time of stock random search in which its final accuracy is to be reached.
TARGET = 1 / 3
_MANY = 10_000  # trials; the time ends first


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="as NAS_DATASET of the recipe")
    parser.add_argument("--rows", type=int, default=1_500, help="largest number per split")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of a search")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="LIST")
    parser.add_argument("--json", metavar="FILE", help="also write all curves here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, seed = options.child
        print("RESULT" + json.dumps(_search(name, int(seed), options)))
        return
    names = options.strategies.split(",")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in range(options.seeds):
        for name in names:
            results[name].append(_spawn(name, seed))
            print(f"{name} {seed}: {results[name][-1]['best']:.4f}", file=sys.stderr, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    print(report(results, options))


def _spawn(name: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name, str(seed)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        sys.exit(f"{name} failed:\n{process.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT"))
    return result


# ------------------------------------------------------------------ one search in one process


class _OutOfTime(KeyboardInterrupt):
    """Ends a search in the middle of a trial."""


def _search(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(NAS_DATASET=options.data, NAS_LIMIT=str(options.rows))
    import keras
    import keras_tuner

    from keras_nas_plugin import NASTuner
    from recipes.image_classification import build_model, load_data

    (x, y), validation, test = load_data()
    keras.utils.set_random_seed(seed)
    _warm_up(build_model, x, y)
    start = time.process_time()
    # The budget counts CPU time, as everything here does.
    time.monotonic, time.time_ns = time.process_time, time.process_time_ns
    curve: list[tuple[float, float]] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if time.process_time() - start > options.seconds:
                raise _OutOfTime

    def ended(oracle: keras_tuner.Oracle) -> None:
        best = oracle.get_best_trials(1)
        if best and best[0].score is not None:
            curve.append((time.process_time() - start, float(best[0].score)))

    base = keras_tuner.Tuner if name.startswith("stock-") else NASTuner
    if name == "stock-hyperband":
        base = keras_tuner.Hyperband

    class Timed(base):  # type: ignore[misc, valid-type]
        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            ended(self.oracle)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        tuner = _tuner(name, Timed, build_model, seed, options, folder)
        with contextlib.suppress(_OutOfTime):
            tuner.search(
                x,
                y,
                epochs=options.epochs,
                validation_data=validation,
                callbacks=[Clock()],
                verbose=0,
            )
        if not curve:  # the first model takes longer
            return {"curve": curve, "trials": 0, "best": 0.0, "test": None}
        trials = len(curve)
        values = tuner.oracle.get_best_trials(1)[0].hyperparameters
        values = values.copy()
        values.values = {
            key: value for key, value in values.values.items() if not key.startswith("tuner/")
        }
        keras.utils.set_random_seed(seed)
        model = build_model(values)
        model.fit(x, y, epochs=options.epochs, verbose=0)
        accuracy = float(model.evaluate(*test, verbose=0, return_dict=True)["accuracy"])
    return {"curve": curve, "trials": trials, "best": curve[-1][1], "test": accuracy}


def _warm_up(build_model: Any, x: Any, y: Any) -> None:
    """Import everything that any training needs, before the clock starts."""
    import keras_tuner

    build_model(keras_tuner.HyperParameters()).fit(x[:64], y[:64], epochs=1, verbose=0)


def _tuner(
    name: str, tuner: Any, build: Any, seed: int, options: argparse.Namespace, folder: str
) -> Any:
    import keras_tuner

    from keras_nas_plugin.oracles import make_oracle

    objective = keras_tuner.Objective("val_accuracy", "max")
    place = {"directory": folder, "project_name": "search"}
    if name == "stock-hyperband":
        return tuner(
            build,
            objective=objective,
            max_epochs=options.epochs,
            factor=3,
            hyperband_iterations=100,
            seed=seed or None,
            **place,
        )
    if name == BASELINE:
        oracle = keras_tuner.oracles.RandomSearchOracle(objective, _MANY, seed=seed or 2**31 - 1)
        return tuner(oracle=oracle, hypermodel=build, **place)
    arguments: dict[str, Any] = {}
    strategy, _, variant = name.partition("-") if name != "gradient-proxy" else (name, "", "")
    if strategy == "halving" and variant:
        arguments["source"] = variant
    oracle = make_oracle(strategy, objective, _MANY, seed=seed, epochs=options.epochs, **arguments)
    inherit = "parent" if variant == "inherit" else None
    return tuner(build, oracle=oracle, budget=options.seconds, inherit=inherit, **place)


# ------------------------------------------------------------------ the report


def at(curve: list[tuple[float, float]], seconds: float) -> float:
    """Accuracy of the best trial that has ended after some time; 0 before the first."""
    return max((score for time_, score in curve if time_ <= seconds), default=0.0)


def report(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    """The table as text."""
    seconds = options.seconds
    times = [seconds * step / 100 for step in range(1, 101)]
    means = {
        name: [statistics.fmean(at(run["curve"], when) for run in runs) for when in times]
        for name, runs in results.items()
    }
    lines = [
        f"{options.data}, {options.rows} rows per split at most, {seconds:g} CPU seconds, "
        f"{options.epochs} epochs, {options.seeds} seeds",
        f"  {'':20s}{'1/3':>8s}{'2/3':>8s}{'end':>8s}{'error':>8s}{'trials':>8s}"
        f"{'time':>8s}{'test':>8s}{'error':>8s}",
    ]
    goal = means[BASELINE][-1] if BASELINE in means else None
    for name, runs in results.items():
        mean = means[name]
        ends = [at(run["curve"], seconds) for run in runs]
        tests = [run["test"] for run in runs if run["test"] is not None]
        share = "-"
        if goal is not None:
            reached = [
                when / seconds for when, value in zip(times, mean, strict=True) if value >= goal
            ]
            share = f"{reached[0]:.2f}" if reached else "never"
        trials = statistics.fmean(run["trials"] for run in runs)
        lines.append(
            f"  {name:20s}{mean[32]:8.4f}{mean[65]:8.4f}{mean[-1]:8.4f}{_error(ends):>8s}"
            f"{trials:8.1f}{share:>8s}{_mean(tests):>8s}{_error(tests):>8s}"
        )
    if goal is not None:
        lines.append(
            f"  time: share after which {BASELINE}'s final {goal:.4f} is reached; "
            f"target {TARGET:.2f}"
        )
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    return f"{statistics.fmean(values):.4f}" if values else "-"


def _error(values: list[float]) -> str:
    if len(values) < 2:
        return "?"
    return f"{statistics.stdev(values) / len(values) ** 0.5:.4f}"


if __name__ == "__main__":
    main()

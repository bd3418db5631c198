"""Searches at equal CPU time: stock KerasTuner and the strategies of this package.

    python benchmarks/equal_time.py                         # 5 seeds; about an hour
    python benchmarks/equal_time.py --data fashion_mnist --rows 5000 --seconds 120
    python benchmarks/equal_time.py --recipe tabular --seconds 30 --strategies stock-random,auto
    python benchmarks/equal_time.py --space cells --strategies stock-random,evolution,one-shot

Each search runs in a process of its own with one thread, over the space and the data of a recipe,
until it has used its CPU time: building models, proposing, scoring by proxies, training a supernet
and saving checkpoints count, importing does not. Nothing is tracked. The strategies know the time
(`budget`), but no number of trials. The search ends in the middle of a trial when the time is up;
only trials that have ended count, and a search in which none has ended has no score.

`--space cells` replaces the space of a recipe for images by that of NAS-Bench-201 with one cell
per stage and 8 channels, in which the strategies with a supernet can search.

The report lists, for each strategy, the objective of the best trial at a third, two thirds and all
of the time, how many trials ended, the share of the time after which it has reached what stock
random search has at the end (of the mean curves), and the recipe's own metric on test rows of its
best architecture, trained from scratch. Differences between means of few seeds are mostly noise:
the standard error is listed as well.

With `--json FILE`, all curves are written to a file, and searches that the file has are not run
again, so that strategies and seeds may be added later.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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
#: These need a space whose weights can be shared: `--space cells`.
SUPERNETS = ("one-shot", "differentiable")
#: Share of the time of stock random search in which its final accuracy is to be reached.
TARGET = 1 / 3
_MANY = 10_000  # trials; the time ends first

#: One search: its curve (seconds, objective), and what else the report lists.
Run = dict[str, Any]
Results = dict[str, list[Run]]


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="image_classification", help="a module of recipes/")
    parser.add_argument("--space", default="recipe", choices=["recipe", "cells"])
    parser.add_argument("--data", default="", help="as `--data` of the recipe")
    parser.add_argument("--rows", type=int, default=1_500, help="largest number per split")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of a search")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), metavar="LIST")
    parser.add_argument("--json", metavar="FILE", help="read and write curves here")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, seed = options.child
        print("RESULT" + json.dumps(_search(name, int(seed), options)))
        return
    names = options.strategies.split(",")
    for name in names:
        if name not in (*STRATEGIES, *SUPERNETS):
            parser.error(f"--strategies must be of {', '.join((*STRATEGIES, *SUPERNETS))}")
        if name in SUPERNETS and options.space != "cells":
            parser.error(f"--strategies {name} needs --space cells")
    path = Path(options.json) if options.json else None
    results: Results = json.loads(path.read_text()) if path and path.exists() else {}
    for seed in range(options.seeds):
        for name in names:
            runs = results.setdefault(name, [])
            if len(runs) > seed:
                continue
            runs.append(_spawn(name, seed))
            print(f"{name} {seed}: {runs[-1]['best']}", file=sys.stderr, flush=True)
            if path:
                path.write_text(json.dumps(results, indent=1))
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


def _problem(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The recipe, its data, and the function that builds its models."""
    os.environ.update(NAS_DATASET=options.data, NAS_LIMIT=str(options.rows))
    from keras_nas_plugin.recipes.running import Splits

    recipe = importlib.import_module(f"keras_nas_plugin.recipes.{options.recipe}").RECIPE
    splits = Splits.of(recipe.load_data())
    if options.space == "recipe":
        return recipe, splits, recipe.build_model
    from keras_nas_plugin.space.presets import nas_bench_201

    x, y = splits.training
    classes = int(y.max()) + 1
    return recipe, splits, nas_bench_201(x.shape[1:], classes, channels=8, cells_per_stage=1)


def _search(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    import keras
    import keras_tuner
    from keras_tuner.src.engine.objective import create_objective

    from keras_nas_plugin import NASTuner
    from keras_nas_plugin.oracles.objectives import checked_objective

    recipe, splits, hypermodel = _problem(options)
    objective = create_objective(checked_objective(recipe.objective))
    x, y = splits.training
    fit = {} if splits.class_weight is None else {"class_weight": splits.class_weight}
    keras.utils.set_random_seed(seed)
    _warm_up(hypermodel, splits, fit)
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

    result = {"direction": objective.direction, "objective": objective.name}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        tuner = _tuner(name, Timed, hypermodel, objective, seed, options, folder)
        with contextlib.suppress(_OutOfTime):
            tuner.search(
                x,
                y,
                epochs=options.epochs,
                validation_data=splits.validation,
                callbacks=[Clock()],
                verbose=0,
                **fit,
            )
        if not curve:  # the first model takes longer
            return {**result, "curve": curve, "trials": 0, "best": None, "test": None}
        values = tuner.oracle.get_best_trials(1)[0].hyperparameters.copy()
        values.values = {
            key: value for key, value in values.values.items() if not key.startswith("tuner/")
        }
        keras.utils.set_random_seed(seed)
        model = _build(hypermodel, values)
        model.fit(x, y, epochs=options.epochs, verbose=0, **fit)
        metric, test = next(iter(recipe.score(model, *splits.test).items()))
    trials = len(curve)
    best = curve[-1][1]
    return {
        **result,
        "metric": metric,
        "curve": curve,
        "trials": trials,
        "best": best,
        "test": float(test),
    }


def _build(hypermodel: Any, values: Any) -> Any:
    return getattr(hypermodel, "build", hypermodel)(values)


def _warm_up(hypermodel: Any, splits: Any, fit: Mapping[str, Any]) -> None:
    """Import everything that any training needs, before the clock starts."""
    import keras_tuner

    x, y = splits.training
    first = {key: value[:64] for key, value in x.items()} if isinstance(x, dict) else x[:64]
    model = _build(hypermodel, keras_tuner.HyperParameters())
    model.fit(first, y[:64], epochs=1, verbose=0, **fit)


def _tuner(
    name: str,
    tuner: Any,
    build: Any,
    objective: Any,
    seed: int,
    options: argparse.Namespace,
    folder: str,
) -> Any:
    import keras_tuner

    from keras_nas_plugin.oracles import make_oracle

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
    strategy, _, variant = name.partition("-")
    if name in ("gradient-proxy", *SUPERNETS):
        strategy, variant = name, ""
    if strategy == "halving" and variant:
        arguments["source"] = variant
    oracle = make_oracle(strategy, objective, _MANY, seed=seed, epochs=options.epochs, **arguments)
    inherit = "parent" if variant == "inherit" else None
    return tuner(build, oracle=oracle, budget=options.seconds, inherit=inherit, **place)


# ------------------------------------------------------------------ the report


def at(run: Run, seconds: float) -> float | None:
    """The objective of the best trial that has ended after some time; None before the first."""
    return next((score for when, score in reversed(run["curve"]) if when <= seconds), None)


def mean_curve(runs: Sequence[Run], times: Sequence[float]) -> list[float | None]:
    """The mean of several searches at some times; None until all have a trial."""
    columns = [[at(run, when) for run in runs] for when in times]
    return [
        None if any(score is None for score in scores) else statistics.fmean(scores)
        for scores in columns
    ]


def share_until(curve: Sequence[float | None], goal: float, *, minimise: bool) -> float | None:
    """The share of the time after which a mean curve has reached a goal; None if it does not."""
    for step, value in enumerate(curve, 1):
        if value is not None and (value <= goal if minimise else value >= goal):
            return step / len(curve)
    return None


def report(results: Results, options: argparse.Namespace) -> str:
    """The table as text."""
    times = [options.seconds * step / 100 for step in range(1, 101)]
    first = next(iter(results.values()))[0]
    minimise = first["direction"] == "min"
    lines = [
        f"{options.recipe} {options.data or 'default data'}, space: {options.space}, at most "
        f"{options.rows} rows per split, {options.seconds:g} CPU seconds, {options.epochs} "
        f"epochs; {first['objective']} ({first['direction']})",
        f"  {'':20s}{'seeds':>6s}{'1/3':>9s}{'2/3':>9s}{'end':>9s}{'error':>8s}{'trials':>8s}"
        f"{'time':>8s}{'test':>9s}{'error':>8s}",
    ]
    means = {name: mean_curve(runs, times) for name, runs in results.items()}
    goal = means[BASELINE][-1] if BASELINE in means else None
    for name, runs in results.items():
        mean = means[name]
        share = None if goal is None else share_until(mean, goal, minimise=minimise)
        ends = [run["best"] for run in runs if run["best"] is not None]
        tests = [run["test"] for run in runs if run["test"] is not None]
        trials = statistics.fmean(run["trials"] for run in runs)
        lines.append(
            f"  {name:20s}{len(runs):6d}"
            + "".join(f"{_number(mean[step]):>9s}" for step in (32, 65, 99))
            + f"{_error(ends):>8s}{trials:8.1f}{'never' if share is None else f'{share:.2f}':>8s}"
            + f"{_number(statistics.fmean(tests) if tests else None):>9s}{_error(tests):>8s}"
        )
    if goal is not None:
        lines.append(
            f"  time: share after which {BASELINE}'s final {goal:.4f} is reached; "
            f"target {TARGET:.2f}. test: {first.get('metric')}"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _error(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "?"
    return f"{statistics.stdev(values) / len(values) ** 0.5:.4f}"


if __name__ == "__main__":
    main()

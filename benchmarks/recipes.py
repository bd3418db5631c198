"""The recipes' searches against random search and the recipes' hand-made baselines, at equal time.

    python benchmarks/recipes.py tabular --budget 300 --seeds 3
    python benchmarks/recipes.py medical_imaging --data x-rays.npz --budget 1800 --json all.json

Each contestant runs in a process of its own with `--threads` threads: the search with the
strategy of the recipe, the same search with random proposals, and each hand-made baseline, which
is trained again and again with other settings until its time is up. The best by validation counts,
and only this one is judged by the test rows. Differences between means of few seeds are mostly
noise: the standard error is listed as well.

With `--json FILE`, all results are written to a file, and contestants that the file has are not
run again, so that recipes and seeds may be added later. Without names of recipes, the report on
the file is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._report import cell_of  # noqa: E402
from benchmarks._statistics import Estimate  # noqa: E402

RANDOM, BASELINES = "random", "baselines"

#: Settings and result of one contestant: metrics on the test rows by name of what was judged.
Result = dict[str, Any]
_COLUMNS = (
    *("recipe", "data", "seconds", "epochs", "metric", "contestant", "mean ± error"),
    *("seeds", "trials"),
)
_SETTINGS = ("recipe", "data", "limit", "budget", "epochs", "threads", "contestant", "seed")


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="modules of recipes/")
    parser.add_argument("--data", default="", help="as `--data` of the recipe")
    parser.add_argument("--limit", type=int, default=0, help="largest number of rows per split")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of each contestant")
    parser.add_argument("--epochs", type=int, default=0, help="default: those of the recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--strategies", default="", help="default: the recipe's, and random")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--child", nargs=2, metavar=("SETTINGS", "RESULT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        settings, result = options.child
        Path(result).write_text(json.dumps(_contest(json.loads(settings))))
        return
    results: list[Result] = []
    if options.json and options.json.exists():
        results = json.loads(options.json.read_text())
    for settings in _wanted(options):
        if not any(_settings(result) == settings for result in results):
            results.append(_run(settings))
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    print(report(results))


def _wanted(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for recipe in options.recipes:
        own = _recipe(recipe).strategy
        strategies = options.strategies.split(",") if options.strategies else [own, RANDOM]
        data = options.data
        if data and Path(data).exists():
            data = str(Path(data).resolve())
        for seed in range(options.seeds):
            for contestant in (*strategies, BASELINES):
                yield {
                    "recipe": recipe,
                    "data": data,
                    "limit": options.limit,
                    "budget": options.budget,
                    "epochs": options.epochs,
                    "threads": options.threads,
                    "contestant": contestant,
                    "seed": seed,
                }


def _settings(result: Result) -> dict[str, Any]:
    return {name: result[name] for name in _SETTINGS}


def _recipe(name: str) -> Any:
    return importlib.import_module(f"recipes.{name}").RECIPE


def _run(settings: dict[str, Any]) -> Result:
    threads = str(settings["threads"])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--child", json.dumps(settings), str(result)]
        print(f"{settings['recipe']} {settings['contestant']} {settings['seed']}", file=sys.stderr)
        subprocess.run(command, check=True, cwd=folder, env=environment, stdout=sys.stderr)
        return {**settings, **json.loads(result.read_text())}


def _contest(settings: dict[str, Any]) -> Result:
    """Run a contestant; in a process of its own."""
    from keras_nas_plugin.errors import NASError
    from keras_nas_plugin.records.trial import FINISHED, load_records
    from recipes import running

    recipe, many = _recipe(settings["recipe"]), 10_000
    epochs = settings["epochs"] or recipe.epochs
    described = {"larger": recipe.larger_is_better, "strategy": recipe.strategy, "trained": epochs}
    os.environ.update({running.LIMIT: str(settings["limit"])})
    if settings["data"]:
        os.environ[running.DATA] = settings["data"]
    if settings["contestant"] == BASELINES:
        data = running.Splits.of(recipe.load_data())
        budget = running.Budget(
            trials=many,
            epochs=epochs,
            batch_size=recipe.batch_size,
            seconds=settings["budget"],
            seed=settings["seed"],
        )
        scores = {}
        for name, baseline in recipe.baselines.items():
            with contextlib.suppress(NASError):  # no training ended in time
                scores[name] = dict(recipe.score(baseline(data, budget), *data.test))
        return {**described, "scores": scores}
    arguments = [
        *("--strategy", settings["contestant"], "--seed", str(settings["seed"])),
        *("--budget", str(settings["budget"]), "--max-trials", str(many)),
        *("--epochs", str(epochs), "--directory", "searches"),
    ]
    scores = {}
    with contextlib.suppress(NASError):  # no trial ended in time
        scores = running.main(recipe, None, arguments)
    folder = Path("searches") / recipe.name.replace("-", "_")
    ended = sum(record.status == FINISHED for record in load_records(folder))
    return {**described, "scores": scores, "trials": ended}


def report(results: Sequence[Result]) -> str:
    """A table of the results in Markdown: mean and standard error over the seeds."""
    names = [name for name in _SETTINGS if name not in ("contestant", "seed")]
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps([result[name] for name in names]), []).append(result)
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|" + len(_COLUMNS) * "---|",
    ]
    for group in groups.values():
        rows = _rows(group)
        if not rows:
            continue
        sign = 1 if group[0]["larger"] else -1
        best = max(rows, key=lambda row: sign * row[1].mean)
        for row in rows:
            contestant, estimate, metric, trials = row
            value = cell_of(estimate.plain(), 4)
            first = group[0]
            cells = [
                first["recipe"],
                Path(first["data"]).name or "its own",
                f"{first['budget']:g}",
                str(first["trained"]),
                metric,
                contestant,
                f"**{value}**" if row is best else value,
                str(estimate.count),
                trials,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(group: Sequence[Result]) -> list[tuple[str, Estimate, str, str]]:
    """Name, first metric, its name and the number of trials of each contestant."""
    values: dict[str, list[float]] = {}
    trials: dict[str, list[int]] = {}
    metric = ""
    for result in group:
        for name, scores in result["scores"].items():
            contestant = name if result["contestant"] == BASELINES else result["contestant"]
            metric = metric or next(iter(scores))
            values.setdefault(contestant, []).append(scores[metric])
            if "trials" in result:
                trials.setdefault(contestant, []).append(result["trials"])
    return [
        (
            contestant,
            Estimate.of(np.array(sample)),
            metric,
            f"{np.mean(trials[contestant]):.1f}" if contestant in trials else "-",
        )
        for contestant, sample in values.items()
    ]


if __name__ == "__main__":
    main()

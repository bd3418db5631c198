"""Searches of NAS-Bench-201 with proxies: evaluations saved by scores without training.

    python benchmarks/proxy_search.py --reps 100
    python benchmarks/proxy_search.py --rebuild --part 0/2   # in parallel with 1/2

Accuracies come from the tables. Proxies come from real networks, built in Keras from the preset
with newly initialised weights and scored on real images. They are stored in a small file, which
``--rebuild`` computes: one network for each of the 5,650 cells that are distinct after removing
operations that do not reach the output. `GradientProxyOracle` is compared with `SurrogateOracle`,
with random search, and with itself when the proxies are shuffled among the cells.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _driving, _peers, _statistics, _tables
from benchmarks import proxies_nas_bench_201 as networks

PROXIES = ("synflow", "naswot", "jacob_cov")
FILE = Path(__file__).with_name("data") / "nas_bench_201_proxies.npz"
SETTINGS = {
    "cells_per_stage": 1,
    "size": 16,
    "batch": 32,
    "images": "digits",
    "seed": 0,
    "initialisations": 1,
    "proxies": list(PROXIES),
}
CHECKPOINTS = (10, 25, 50)
# Targets by number of evaluations, on the three tables.
BARS = {25: (91.10, 72.3, 45.7), 50: (91.44, 73.0, 46.14)}
RACE = 30
RANKER, GRADIENT, SHUFFLED = "proxies", "proxies, gradient ascent", "proxies, shuffled"
SURROGATE, RANDOM = "SurrogateOracle", "RandomOracle"
SEARCHES = (RANKER, GRADIENT, SHUFFLED, SURROGATE, RANDOM)


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--reps", type=int, default=100, help="repetitions")
    add("--evaluations", type=int, default=50, help="queries of each search")
    add("--only", type=lambda text: text.split(";"), default=SEARCHES, help="searches, split at ;")
    add("--datasets", type=lambda text: text.split(","), default=_tables.NAS_BENCH_201)
    add("--rebuild", action="store_true", help="compute the file of proxy scores")
    add("--part", default="0/1", help="part of the cells, to use several processes")
    add("--json", metavar="FILE", help="write the results as JSON to this file")
    options = parser.parse_args()
    if options.rebuild:
        rebuild(*map(int, options.part.split("/")))
        return
    results = {name: measured(name, options) for name in options.datasets}
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


# ------------------------------------------------------------------ proxies


def representatives() -> np.ndarray:
    """For each cell of the table, the first cell with the same architecture."""
    from keras_nas_plugin.space.presets import nas_bench_201

    (table,) = _tables.load(("cifar10",))
    hypermodel = nas_bench_201(inputs=(8, 8, 3), cells_per_stage=1, channels=1)
    first: dict[str, int] = {}
    representative = np.empty(len(table.truth), dtype=int)
    for row in range(len(representative)):
        key = hypermodel.architecture(networks.values_of(table, row)).hash()
        representative[row] = first.setdefault(key, row)
    return representative


def rebuild(part: int, parts: int) -> None:
    """Score one network per architecture; the last part to finish merges all parts."""
    everything = np.unique(representatives())
    rows = everything[part::parts]
    paths = [FILE.with_name(f"part{number}of{parts}.npz") for number in range(parts)]
    FILE.parent.mkdir(exist_ok=True)
    # In random order, so that partial results are a representative sample.
    networks.scored(np.random.default_rng(0).permutation(rows), SETTINGS, paths[part])
    if not all(path.exists() for path in paths):
        return
    scores: dict[int, dict[str, float]] = {}
    for path in paths:
        scores |= networks.load_scores(path)[1]
    if len(scores) == len(everything):
        write(scores)


def write(scores: Mapping[int, Mapping[str, float]]) -> None:
    """Write the file of proxy scores; single precision is sufficient for ranks."""
    rows, cells = np.unique(representatives(), return_inverse=True)
    data = {name: np.float32([scores[int(row)][name] for row in rows]) for name in PROXIES}
    content = {"rows": rows, "cells": np.int16(cells), "settings": json.dumps(SETTINGS)}
    np.savez_compressed(FILE, **content, **data)


@functools.cache
def proxy_columns() -> dict[str, np.ndarray]:
    """Scores of all cells by name of the proxy, in the order of the table."""
    if not FILE.exists():
        sys.exit(f"{FILE} does not exist; run with `--rebuild` to compute it")
    (table,) = _tables.load(("cifar10",))
    with np.load(FILE) as content:
        columns = {name: content[name][content["cells"]].astype(float) for name in PROXIES}
    columns["params"] = _tables.parameter_counts(table).astype(float)
    settings = SETTINGS | {"cells_per_stage": 5, "size": 32}
    cells = range(len(table.truth))
    columns["flops"] = np.array(
        [networks.multiply_adds(table, row, settings) for row in cells], float
    )
    return columns


def proxies(table: _tables.Table, order: np.ndarray) -> list[Callable[[Mapping], float]]:
    """Functions of a cell's values, in the form that `GradientProxyOracle` accepts."""

    def lookup(column: np.ndarray) -> Callable[[Mapping], float]:
        return lambda values: float(column[order[table.row(values)]])

    functions = []
    for name, column in proxy_columns().items():
        function = lookup(column)
        function.__name__ = name
        functions.append(function)
    return functions


class Values:
    """A hypermodel that returns a cell's values instead of a network; scores are looked up."""

    def build(self, hp: Any) -> dict[str, Any]:
        """See `keras_tuner.HyperModel`."""
        return dict(hp.values)


# ------------------------------------------------------------------ searches


def search(name: str, table: _tables.Table, evaluations: int, seed: int) -> _peers.Search:
    """Create a search with default arguments."""
    from keras_nas_plugin import oracles

    if name in (SURROGATE, RANDOM):
        make: Any = getattr(oracles, name)
    else:
        order = np.arange(len(table.truth))
        if name == SHUFFLED:
            order = np.random.default_rng([7, seed]).permutation(order)
        make = functools.partial(
            oracles.GradientProxyOracle,
            hypermodel=Values(),
            batch=(None, None),
            proxies=proxies(table, order),
            strategy="gradient" if name == GRADIENT else "ranker",
        )
    return _peers.OracleSearch(make, table, evaluations, seed, [(table.metric, table.direction)])


def measured(dataset: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run all searches on one table and print the results."""
    (table,) = _tables.load((dataset,))
    at = _tables.NAS_BENCH_201.index(dataset)
    goal, _ = _tables.random_search(table, _statistics.RACE)
    print(f"\n{dataset}: random search is at {goal:.2f} after {_statistics.RACE} evaluations")
    rows, results = {}, {}
    for name in options.only:
        runs = [
            _driving.drive(
                search(name, table, options.evaluations, seed), table, options.evaluations, seed
            )
            for seed in range(at * 10_000, at * 10_000 + options.reps)
        ]
        row = rows[name] = _statistics.Row(
            table, name, np.array([r.truth for r in runs]), np.array([r.seconds for r in runs])
        )
        checkpoints = [n for n in CHECKPOINTS if n <= options.evaluations]
        estimates = {n: row.at(n) for n in checkpoints}
        results[name] = {str(n): estimate.plain() for n, estimate in estimates.items()}
        results[name]["reaches_random_at_300"] = row.reaches(goal)
        cells = "  ".join(f"{n}: {e.mean:7.3f} ± {e.error:.3f}" for n, e in estimates.items())
        print(f"  {name:26s} {cells}   random@300 after {row.reaches(goal)}", flush=True)
    for line in bars(rows, at, goal):
        print(f"  {line}")
    return results


def bars(rows: Mapping[str, _statistics.Row], at: int, goal: float) -> list[str]:
    """Compare the results with the targets; returns one line per target."""
    lines = []

    def judge(claim: str, errors: float) -> None:
        verdict = "PASS" if errors >= 0 else "PASS (within 2 SE)" if errors >= -2 else "MISS"
        lines.append(f"{verdict:18s} {claim}, {errors:+.1f} SE")

    for name in (RANKER, GRADIENT):
        if name not in rows:
            continue
        for count, targets in BARS.items():
            estimate = rows[name].at(count)
            judge(f"{name}: {targets[at]} after {count}", estimate.errors_above(targets[at]))
        judge(f"{name}: {goal:.2f} within {RACE}", rows[name].at(RACE).errors_above(goal))
        if SURROGATE in rows:
            gain = rows[name].truth[:, 24] - rows[SURROGATE].truth[:, 24]
            judge(
                f"{name} above {SURROGATE} after 25", _statistics.Estimate.of(gain).errors_above(0)
            )
    if SHUFFLED in rows and RANDOM in rows:
        for count in BARS:
            gain = rows[SHUFFLED].truth[:, count - 1] - rows[RANDOM].truth[:, count - 1]
            claim = f"{SHUFFLED} not below {RANDOM} after {count}"
            judge(claim, _statistics.Estimate.of(gain).errors_above(0))
    return lines


if __name__ == "__main__":
    main()

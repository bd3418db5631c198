"""What proxies save: searches of NAS-Bench-201 that start from scores without training.

    python benchmarks/proxy_search.py --reps 100
    python benchmarks/proxy_search.py --rebuild --part 0/2   # and 1/2 beside it

Trained accuracies come from the tables; the proxies are those of real networks, built in Keras
from the preset with fresh weights and scored on real images. They lie in a small file, which
``--rebuild`` computes: one network for each of the 5,650 cells that are different once what does
not reach the output is left out. Beside `GradientProxyOracle` run `SurrogateOracle` and random
search, and the same oracle with the proxies shuffled among the cells.
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
# Bars: after so many evaluations, on the three tables.
BARS = {25: (91.10, 72.3, 45.7), 50: (91.44, 73.0, 46.14)}
RACE = 30
RANKER, GRADIENT, SHUFFLED = "proxies", "proxies, gradient ascent", "proxies, shuffled"
SURROGATE, RANDOM = "SurrogateOracle", "RandomOracle"
SEARCHES = (RANKER, GRADIENT, SHUFFLED, SURROGATE, RANDOM)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--reps", type=int, default=100, help="repetitions")
    add("--evaluations", type=int, default=50, help="queries of each search")
    add("--only", type=lambda text: text.split(";"), default=SEARCHES, help="names, by ;")
    add("--datasets", type=lambda text: text.split(","), default=_tables.NAS_BENCH_201)
    add("--rebuild", action="store_true", help="compute the file of proxies")
    add("--part", default="0/1", help="of the cells, for several processes")
    add("--json", metavar="FILE", help="results as JSON")
    options = parser.parse_args()
    if options.rebuild:
        rebuild(*map(int, options.part.split("/")))
        return
    results = {name: measured(name, options) for name in options.datasets}
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


# ------------------------------------------------------------------ proxies


def representatives() -> np.ndarray:
    """Per cell of the table, the first one that is the same architecture."""
    from keras_nas_plugin.space.presets import nas_bench_201

    (table,) = _tables.load(("cifar10",))
    hypermodel = nas_bench_201(inputs=(8, 8, 3), cells_per_stage=1, channels=1)
    first: dict[str, int] = {}
    found = np.empty(len(table.truth), dtype=int)
    for row in range(len(found)):
        key = hypermodel.architecture(networks.values_of(table, row)).hash()
        found[row] = first.setdefault(key, row)
    return found


def rebuild(part: int, parts: int) -> None:
    """Score one network of each architecture; several parts are put together by the last."""
    everything = np.unique(representatives())
    rows = everything[part::parts]
    paths = [FILE.with_name(f"part{number}of{parts}.npz") for number in range(parts)]
    FILE.parent.mkdir(exist_ok=True)
    # In no order, so that what is there first is a fair sample.
    networks.scored(np.random.default_rng(0).permutation(rows), SETTINGS, paths[part])
    if not all(path.exists() for path in paths):
        return
    scores: dict[int, dict[str, float]] = {}
    for path in paths:
        scores |= networks.load_scores(path)[1]
    if len(scores) == len(everything):
        write(scores)


def write(scores: Mapping[int, Mapping[str, float]]) -> None:
    """The file of proxies: single precision is enough for ranks."""
    rows, cells = np.unique(representatives(), return_inverse=True)
    data = {name: np.float32([scores[int(row)][name] for row in rows]) for name in PROXIES}
    content = {"rows": rows, "cells": np.int16(cells), "settings": json.dumps(SETTINGS)}
    np.savez_compressed(FILE, **content, **data)


@functools.cache
def known() -> dict[str, np.ndarray]:
    """Proxies of all cells, by name: a column each, in the order of the table."""
    if not FILE.exists():
        sys.exit(f"{FILE} is missing; `--rebuild` computes it")
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
    """Functions of the values of a cell, as `GradientProxyOracle` takes them."""

    def lookup(column: np.ndarray) -> Callable[[Mapping], float]:
        return lambda values: float(column[order[table.row(values)]])

    found = []
    for name, column in known().items():
        function = lookup(column)
        function.__name__ = name
        found.append(function)
    return found


class Values:
    """Builds, in place of a network, the values of a cell: the scores are known."""

    def build(self, hp: Any) -> dict[str, Any]:
        """See `keras_tuner.HyperModel`."""
        return dict(hp.values)


# ------------------------------------------------------------------ searches


def search(name: str, table: _tables.Table, evaluations: int, seed: int) -> _peers.Search:
    """A search that was not started, with the defaults that a user gets."""
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
    """Run all searches on one table, and print what came of it."""
    (table,) = _tables.load((dataset,))
    at = _tables.NAS_BENCH_201.index(dataset)
    goal, _ = _tables.random_search(table, _statistics.RACE)
    print(f"\n{dataset}: random search is at {goal:.2f} after {_statistics.RACE} evaluations")
    rows, found = {}, {}
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
        found[name] = {str(n): one.plain() for n, one in estimates.items()}
        found[name]["reaches_random_at_300"] = row.reaches(goal)
        cells = "  ".join(f"{n}: {e.mean:7.3f} ± {e.error:.3f}" for n, e in estimates.items())
        print(f"  {name:26s} {cells}   random@300 after {row.reaches(goal)}", flush=True)
    for line in bars(rows, at, goal):
        print(f"  {line}")
    return found


def bars(rows: Mapping[str, _statistics.Row], at: int, goal: float) -> list[str]:
    """What was asked for, and what came."""
    lines = []

    def judge(claim: str, errors: float) -> None:
        verdict = "PASS" if errors >= 0 else "PASS (within 2 SE)" if errors >= -2 else "MISS"
        lines.append(f"{verdict:18s} {claim}, {errors:+.1f} SE")

    for name in (RANKER, GRADIENT):
        if name not in rows:
            continue
        for count, wanted in BARS.items():
            one = rows[name].at(count)
            judge(f"{name}: {wanted[at]} after {count}", one.errors_above(wanted[at]))
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

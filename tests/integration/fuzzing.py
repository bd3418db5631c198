"""Kills processes and servers of searches at random, and audits the results."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from keras_nas_plugin.executors.ray.actor import TrialActor
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.tracking.mlflow.payload import points_of
from tests.integration.forkserver import Child, ForkServer, new_store
from tests.integration.fuzzed import DONE, EXPERIMENT, PROJECT
from tests.servers import Server, free_port, mlflow_server

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

TARGET = "tests.integration.fuzzed:search"
COMMAND = "tests.integration.forkserver:command_line"
FAULTS = ("duplicated", "lost", "repeated", "wrong", "running", "orphans")

_KILLS_PER_SEARCH = 5
_LIMIT = 180.0  # seconds after which a process counts as hanging
# Seconds per epoch in searches with workers: long enough to kill a worker that trains.
_PACE = 0.1
# Workers that are killed while they start: at the third loss in a row of the same one, a search
# ends with an error, as it should.
_MOST_STARTING = 2
_LOADED_BYTES = 400e6  # memory of a worker that has imported TensorFlow
_ENDS_WITHIN = 60.0  # seconds in which a local worker exits, which first finishes its imports


@dataclasses.dataclass
class Tally:
    """The result of auditing one or more searches.

    Attributes:
        kills: How many processes or servers were killed.
        searches: How many searches were audited.
        expected: Expected runs: one per trial and one per search.
        found: Expected runs that exist.
        duplicated: Additional runs of a trial or a search.
        points: Expected values of metrics.
        lost: Expected values that are missing.
        repeated: Values that were logged twice or not expected.
        wrong: Runs whose status differs from how the trial or the search ended.
        running: Runs that are still RUNNING.
        orphans: Workers that did not end with the process that started them.
    """

    kills: int = 0
    searches: int = 0
    expected: int = 0
    found: int = 0
    duplicated: int = 0
    points: int = 0
    lost: int = 0
    repeated: int = 0
    wrong: int = 0
    running: int = 0
    orphans: int = 0

    def __iadd__(self, tally: Tally) -> Tally:
        for field in dataclasses.fields(self):
            own, added = getattr(self, field.name), getattr(tally, field.name)
            setattr(self, field.name, own + added)
        return self

    @property
    def faults(self) -> dict[str, int]:
        """The counts that must be 0."""
        return {name: getattr(self, name) for name in FAULTS} | {
            "missing": self.expected - self.found
        }


def audit(database: Path, project: Path, trials: int) -> Tally:
    """Compare the runs in a database with the records in a project folder, value by value."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    search = SearchInfo.load(project)
    records = {record.trial_id: record for record in load_records(project)}
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`nas.search_id` = '{search.search_id}'"
    )
    parents = [run for run in runs if run.data.tags["nas.kind"] == "search"]
    children = [run for run in runs if run.data.tags["nas.kind"] == "trial"]
    ids = Counter(run.data.tags["nas.trial_id"] for run in children)
    tally = Tally(searches=1, expected=1 + trials, found=len(ids) + bool(parents))
    tally.duplicated = len(children) - len(ids) + max(0, len(parents) - 1)
    tally.running = sum(run.info.status == "RUNNING" for run in runs)
    tally.wrong = sum(run.info.status != "FINISHED" for run in parents)
    expected, logged = Counter(), Counter()
    for trial_id, record in records.items():
        points, _ = points_of(record, search)
        expected.update((trial_id, p.key, p.step, p.value) for p in points)
    for run in children:
        trial_id = run.data.tags["nas.trial_id"]
        tally.wrong += run.info.status != records[trial_id].status
        tally.wrong += run.data.tags["mlflow.parentRunId"] != parents[0].info.run_id
        for key in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, key)
            logged.update((trial_id, key, p.step, p.value) for p in history)
    # The search's curve has one point per finished trial, each at its own step.
    best = client.get_metric_history(parents[0].info.run_id, "best_objective")
    scores = [record.score for record in records.values() if record.status == "FINISHED"]
    expected.update(("search", number) for number in range(len(scores)))
    logged.update(("search", number) for number in range(len({point.step for point in best})))
    tally.repeated += len(best) - len({point.step for point in best})
    tally.wrong += max(best, key=lambda point: point.step).value != min(scores)
    tally.points = sum(expected.values())
    tally.lost = sum((expected - logged).values())
    tally.repeated += sum((logged - expected).values())
    return tally


class Fuzz:
    """Kills searches, workers and servers at random moments.

    Args:
        forks: Starts processes.
        root: An empty folder.
        seed: Seed of the moments at which processes are killed.
        trials: Trials per search.
        progress: Called after each search with workers, with the result so far.
    """

    def __init__(
        self,
        forks: ForkServer,
        root: Path,
        *,
        seed: int,
        trials: int = 8,
        progress: Callable[[Tally], object] = lambda tally: None,
    ) -> None:
        self._progress = progress
        self._forks = forks
        self._root = root
        self._trials = trials
        self._rng = np.random.default_rng(seed)
        self._count = 0
        self._seconds: dict[str, float] = {}

    def on_sqlite(self) -> Path:
        """A folder with a fresh database."""
        folder = self._new_folder()
        new_store(folder)
        return folder

    def server(self) -> Server:
        """`mlflow server` over a database of its own, not started."""
        return mlflow_server(self.on_sqlite())

    def searches(self, kills: int, server: Server | None = None) -> Tally:
        """Kill the process of the search, and restart it each time."""
        total = Tally()
        while total.kills < kills:
            folder, store, database = self._new_search_store(server)
            seconds = self._lifetime(store)
            for number in range(_KILLS_PER_SEARCH + 1):
                child = self._start(folder, store)
                if number < _KILLS_PER_SEARCH and total.kills < kills:
                    time.sleep(self._rng.uniform(0, seconds))
                    total.kills += _kill_process(child)
                if _exit_code(child) == 0:
                    break
            total += self._audit(folder, database)
        return total

    def workers(self, kills: int, server: Server | None = None) -> Tally:
        """Kill one of two workers, and restart it under its name each time."""
        total = Tally()
        while total.kills < kills:
            folder, store, database = self._new_search_store(server)
            seconds = self._lifetime(store)
            address = {
                "KERASTUNER_ORACLE_IP": "127.0.0.1",
                "KERASTUNER_ORACLE_PORT": str(free_port()),
            }
            processes = {
                name: self._start(folder, store, {**address, "KERASTUNER_TUNER_ID": name})
                for name in ("chief", "tuner0", "tuner1")
            }
            for _ in range(_KILLS_PER_SEARCH):
                time.sleep(self._rng.uniform(0, seconds))
                name = f"tuner{self._rng.integers(2)}"
                if total.kills < kills and _kill_process(processes[name]):
                    total.kills += 1
                    environment = {**address, "KERASTUNER_TUNER_ID": name}
                    processes[name] = self._start(folder, store, environment)
            chief = processes.pop("chief")
            _check(chief, _exit_code(chief))
            for child in processes.values():
                _check(child, _exit_code(child))
            total += self._audit(folder, database)
        return total

    def local_workers(self, kills: int) -> Tally:
        """Kill one of two local workers, or the search, which is restarted each time."""
        return self._pools(kills, lambda search: psutil.Process(search.pid).children())

    def ray_workers(self, kills: int, cluster: Cluster) -> Tally:
        """Kill one of two workers on a Ray cluster, or the search, which is restarted each time.

        Args:
            kills: How many processes to kill.
            cluster: A cluster of one node, on this machine.
        """
        raylets = cluster.head_node.all_processes["raylet"]
        node = psutil.Process(raylets[0].process.pid)

        def actors(_: Child) -> list[psutil.Process]:
            return [child for child in node.children() if _is_actor(child)]

        return self._pools(kills, actors, cluster.address)

    def _pools(
        self, kills: int, workers_of: Callable[[Child], list[psutil.Process]], address: str = ""
    ) -> Tally:
        """Kill workers and searches, three in four times while trials train.

        Starting a worker takes ten times as long as its trials: at times that are spread evenly,
        nearly all kills would meet processes that start.
        """
        total = Tally()
        pool = {"workers": 2, "address": address, "pace": _PACE}
        while total.kills < kills:
            folder, store, database = self._new_search_store(None)
            search, starting = self._start(folder, store, **pool), 0
            for _ in range(_KILLS_PER_SEARCH):
                if self._rng.random() < 0.75:
                    self._wait_for_a_record(search, folder)
                time.sleep(self._rng.uniform(0, _PACE * 4 * self._trials / 2))
                if search.poll() is not None or total.kills == kills:
                    break
                try:
                    workers = workers_of(search)
                except psutil.NoSuchProcess:  # it has ended meanwhile
                    break
                victim = int(self._rng.integers(3))
                if victim < len(workers):
                    starts = _starts(workers[victim])
                    if starts and starting == _MOST_STARTING:
                        continue
                    with contextlib.suppress(psutil.NoSuchProcess):
                        workers[victim].kill()
                        total.kills, starting = total.kills + 1, starting + starts
                elif _kill_process(search):
                    total.kills += 1
                    total.orphans += len(psutil.wait_procs(workers, _ENDS_WITHIN)[1])
                    search, starting = self._start(folder, store, **pool), 0
            last = self._workers_until_the_end(search, workers_of)
            _check(search, search.returncode)
            total.orphans += len(psutil.wait_procs(last, _ENDS_WITHIN)[1])
            total += self._audit(folder, database)
            self._progress(total)
        return total

    def _workers_until_the_end(
        self, search: Child, workers_of: Callable[[Child], list[psutil.Process]]
    ) -> list[psutil.Process]:
        """Wait for the end of a search; returns the workers that it had until then."""
        workers: list[psutil.Process] = []
        deadline = time.monotonic() + _LIMIT
        while search.poll() is None:
            if time.monotonic() > deadline:
                search.wait(0.0)  # kills it and raises
            with contextlib.suppress(psutil.NoSuchProcess):
                workers = workers_of(search)
            time.sleep(0.05)
        return workers

    def _wait_for_a_record(self, search: Child, folder: Path) -> None:
        """Wait until a further trial has ended, or the search."""
        project, deadline = folder / "searches" / PROJECT, time.monotonic() + _LIMIT
        count = len(_records(project))
        while len(_records(project)) == count and search.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no trial ends within {_LIMIT:.0f} s:\n{search.err[-4000:]}")
            time.sleep(0.02)

    def servers(self, kills: int, server: Server, workers: int = 0) -> Tally:
        """Kill the server; it is restarted while the search runs, or after it.

        Args:
            kills: How often to kill it.
            server: The server, which runs.
            workers: Number of local workers of the search; 0 for none.
        """
        return self._outages(kills, server, self._kill, workers)

    def freezes(self, count: int, server: Server) -> Tally:
        """Freeze the server until requests time out; it then carries out what it received."""
        return self._outages(count, server, self._freeze)

    def _outages(
        self, kills: int, server: Server, outage: Callable[[Server], None], workers: int = 0
    ) -> Tally:
        total = Tally()
        while total.kills < kills:
            folder, store, database = self._new_search_store(server)
            # Long enough for the server to be restarted while the search runs.
            environment = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
            pace = 0.25 * max(workers, 1)
            child = self._start(folder, store, environment, pace=pace, workers=workers)
            while child.poll() is None and total.kills < kills:
                if workers:  # which take long to start
                    self._wait_for_a_record(child, folder)
                time.sleep(self._rng.uniform(0, 4))
                if child.poll() is None:
                    outage(server)
                    total.kills += 1
            _check(child, _exit_code(child))
            if not server.is_up():
                server.start()
            words = ["sync", "--directory", "searches"]
            process = self._forks.run(COMMAND, cwd=folder, words=words)
            _check(process, process.returncode)
            total += self._audit(folder, database)
        return total

    def _kill(self, server: Server) -> None:
        server.kill()
        if self._rng.random() < 0.6:
            time.sleep(self._rng.uniform(0, 2))
            server.start()

    def _freeze(self, server: Server) -> None:
        server.signal(signal.SIGSTOP)
        time.sleep(self._rng.uniform(0, 5))
        server.signal(signal.SIGCONT)

    def _new_search_store(self, server: Server | None) -> tuple[Path, str, Path]:
        """Folder of a new search, address of its store, and the database behind that."""
        if server is None:
            folder = self.on_sqlite()
            return folder, f"sqlite:///{folder}/mlflow.db", folder / "mlflow.db"
        return self._new_folder(), server.uri, server.database

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._root / f"search{self._count}"
        folder.mkdir()
        return folder

    def _start(
        self,
        folder: Path,
        store: str,
        environment: dict[str, str] | None = None,
        pace: float = 0.0,
        workers: int = 0,
        address: str = "",
    ) -> Child:
        return self._forks.start(
            TARGET,
            cwd=folder,
            environment={"OMP_NUM_THREADS": "1", **(environment or {})},
            store=store,
            max_trials=self._trials,
            seed=self._count,
            pace=pace,
            workers=workers,
            address=address,
        )

    def _lifetime(self, store: str) -> float:
        """Seconds that an uninterrupted search takes."""
        kind = store.partition(":")[0]
        if kind not in self._seconds:
            sqlite = kind.startswith("sqlite")
            folder = self.on_sqlite() if sqlite else self._new_folder()
            store_uri = f"sqlite:///{folder}/mlflow.db" if sqlite else store
            began = time.monotonic()
            child = self._start(folder, store_uri)
            _check(child, _exit_code(child))
            self._seconds[kind] = time.monotonic() - began
        return self._seconds[kind]

    def _audit(self, folder: Path, database: Path) -> Tally:
        assert (folder / DONE).exists(), folder
        assert not list((folder / "searches" / PROJECT / "outbox").glob("*.json"))
        return audit(database, folder / "searches" / PROJECT, self._trials)


def _kill_process(child: Child) -> bool:
    """Kill a process; False if it had ended."""
    if child.poll() is not None:
        return False
    child.signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def _records(project: Path) -> list[Path]:
    """The records of the trials that have ended."""
    return list(project.glob("trial_*/record.json"))


def _starts(process: psutil.Process) -> bool:
    """Whether a worker is still importing TensorFlow."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.memory_info().rss < _LOADED_BYTES
    return False


def _is_actor(process: psutil.Process) -> bool:
    """Whether a process of a Ray node is a worker of a search, by the name that Ray gives it."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return f"ray::{TrialActor.__name__}" in " ".join(process.cmdline())
    return False


def _exit_code(child: Child) -> int:
    return child.wait(_LIMIT)


def _check(child: Child, code: int) -> None:
    if code:
        raise AssertionError(
            f"a process ended with {code}:\n{child.out[-2000:]}\n{child.err[-4000:]}"
        )

"""Errors in MLflow after searches, workers and servers were killed 60 times.

    python benchmarks/kill_fuzz.py                # 60 kills and 6 freezes, about ten minutes
    python benchmarks/kill_fuzz.py --kills 12 --seed 3
    python benchmarks/kill_fuzz.py --local-workers 50
    python benchmarks/kill_fuzz.py --ray-workers 50

Searches of eight trials with four epochs each log to SQLite and to a real `mlflow server`. A
search, one of two workers of KerasTuner's chief, or the server is killed with SIGKILL at a random
time and restarted. A freeze stops the server (SIGSTOP) until requests time out, and then resumes
it, so that it still executes these requests. When the searches have ended, every run and every
metric value is compared with the records in the project folders. With `--local-workers` or
`--ray-workers`, one of two workers of a `LocalExecutor` or of a local Ray cluster, or the
process that searches, is killed instead, three in four times while trials train; after local
workers, the server is killed while they train, a tenth as often. Processes that are left behind
are counted as well. The exit code is 1 if there is any error.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.fuzzing import Fuzz, Tally

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Number of kills per store and target, of 60 in total.
SHARES = {
    ("sqlite", "search"): 13,
    ("sqlite", "worker"): 10,
    ("server", "search"): 13,
    ("server", "worker"): 10,
    ("server", "server"): 14,
    ("server", "server frozen"): 6,  # freezes do not count as kills
}
COLUMNS = ("kills", "searches", "expected", "found", "duplicated", "points", "lost")
COLUMNS += ("repeated", "wrong", "running", "orphans")
HEADINGS = {"expected": "runs expected", "points": "metric values", "wrong": "wrong status"}
HEADINGS |= {"running": "left RUNNING", "orphans": "left behind"}


def main() -> int:
    """Run the benchmark that the command line requests."""
    from tests.integration.forkserver import fork_server
    from tests.integration.fuzzing import Fuzz, Tally

    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60, help="total number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of the kills")
    parser.add_argument(
        "--local-workers", type=int, default=0, help="number of kills of local workers, instead"
    )
    parser.add_argument(
        "--ray-workers", type=int, default=0, help="number of kills of Ray's workers, instead"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:

        def progress(tally: Tally) -> None:
            print_row(["sqlite", "so far", *(getattr(tally, name) for name in COLUMNS)])

        fuzz = Fuzz(fork_server(), Path(folder), seed=options.seed, progress=progress)
        total = Tally()
        print_row(["store", "killed", *(HEADINGS.get(name, name) for name in COLUMNS)])
        if options.local_workers:
            total += fuzz.local_workers(options.local_workers)
            with fuzz.server().running() as server:
                tally = fuzz.servers(max(1, options.local_workers // 10), server, workers=2)
            print_row(["server", "server", *(getattr(tally, name) for name in COLUMNS)])
            total += tally
            return finish(total, "local worker, search or server", started)
        if options.ray_workers:
            total += on_ray(fuzz, options.ray_workers)
            return finish(total, "Ray worker or search", started)
        with fuzz.server().running() as server:
            runners: dict[str, Callable[..., Tally]] = {
                "search": fuzz.searches,
                "worker": fuzz.workers,
                "server": fuzz.servers,
                "server frozen": fuzz.freezes,
            }
            for (store, victim), share in SHARES.items():
                count = max(1, round(share * options.kills / 60))
                tally = runners[victim](count, *([server] if store == "server" else []))
                print_row([store, victim, *(getattr(tally, name) for name in COLUMNS)])
                if victim == "server frozen":
                    tally.kills = 0
                total += tally
    return finish(total, "", started)


def on_ray(fuzz: Fuzz, kills: int) -> Tally:
    """Kill workers of a Ray cluster, which is started and stopped here."""
    import ray
    from ray.cluster_utils import Cluster

    from tests.executors.ray_nodes import patiently

    # Ray gives its workers a low priority: beside other programs, they would hardly run.
    system = {"worker_niceness": 0}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": system}
    cluster = patiently(Cluster, initialize_head=True, head_node_args=head)
    try:
        return fuzz.ray_workers(kills, cluster)
    finally:
        ray.shutdown()
        cluster.shutdown()


def finish(total: Tally, victim: str, started: float) -> int:
    """Print the last row and what went wrong; returns the exit code."""
    print_row(["all", victim, *(getattr(total, name) for name in COLUMNS)])
    faults = {name: count for name, count in total.faults.items() if count}
    print(f"\n{faults or 'no errors'}; {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


def print_row(cells: list[object]) -> None:
    """Print a row of the table."""
    print("| " + " | ".join(str(cell).rjust(6) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())

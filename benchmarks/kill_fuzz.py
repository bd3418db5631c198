"""What is wrong in MLflow after 60 kills of searches, workers and servers.

    python benchmarks/kill_fuzz.py                # 60 kills and 6 freezes, about ten minutes
    python benchmarks/kill_fuzz.py --kills 12 --seed 3

Searches of eight trials, each of four epochs, log to SQLite and to a real `mlflow server`. A
search, one of two workers behind KerasTuner's chief, or the server is killed with SIGKILL at a
random moment and started again; a freeze stops the server (SIGSTOP) until requests give up, and
lets it carry out what it was sent. When the searches are through, every run and every value of
every metric is compared with the records in the project folders. Exits with 1 if anything is not
as it should be.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Kills per store and victim, of 60.
SHARES = {
    ("sqlite", "search"): 13,
    ("sqlite", "worker"): 10,
    ("server", "search"): 13,
    ("server", "worker"): 10,
    ("server", "server"): 14,
    ("server", "server frozen"): 6,  # no kill, and beside the 60
}
COLUMNS = ("kills", "searches", "expected", "found", "duplicated", "points", "lost")
COLUMNS += ("repeated", "wrong", "running")
HEADINGS = {"expected": "runs expected", "points": "metric values", "wrong": "wrong status"}
HEADINGS |= {"running": "left RUNNING"}


def main() -> int:
    """Run what the command line asks for."""
    from tests.integration.forkserver import fork_server
    from tests.integration.fuzzing import Fuzz, Tally

    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(fork_server(), Path(folder), seed=options.seed)
        total = Tally()
        print_row(["store", "killed", *(HEADINGS.get(name, name) for name in COLUMNS)])
        with fuzz.server().running() as server:
            doing: dict[str, Callable[..., Tally]] = {
                "search": fuzz.searches,
                "worker": fuzz.workers,
                "server": fuzz.servers,
                "server frozen": fuzz.freezes,
            }
            for (store, victim), share in SHARES.items():
                count = max(1, round(share * options.kills / 60))
                tally = doing[victim](count, *([server] if store == "server" else []))
                print_row([store, victim, *(getattr(tally, name) for name in COLUMNS)])
                if victim == "server frozen":
                    tally.kills = 0
                total += tally
    print_row(["all", "", *(getattr(total, name) for name in COLUMNS)])
    faults = {name: count for name, count in total.faults.items() if count}
    print(f"\n{faults or 'no faults'}; {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


def print_row(cells: list) -> None:
    """A row of the table."""
    print("| " + " | ".join(str(cell).rjust(6) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""A search by KerasTuner's chief and real worker processes on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_HOST = "127.0.0.1"
_PROGRAM = "keras_nas_plugin.testing.node"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The results of a chief and its workers.

    Attributes:
        folder: Folder of the cluster; the project folder is ``search`` inside it.
        exit_codes: By process name, ``chief``, ``tuner0``, ``tuner1``, ...
        output: Standard output and error by process name.
        runs: Ids of the trials that each worker ran, in its order.
        report: Report of the chief: ``trials`` by id, each with ``status``, ``score``,
            ``values`` and ``problem`` (why the values are wrong, or None), and ``best``.
            None when the search raised.
    """

    folder: Path
    exit_codes: dict[str, int]
    output: dict[str, str]
    runs: dict[str, list[str]]
    report: dict[str, Any] | None


def start_cluster(
    target: str, folder: Path, *, trials: int = 8, workers: int = 2, epochs: int = 1
) -> dict[str, subprocess.Popen]:
    """Start a chief and its workers; they run in the background.

    Args:
        target: ``module:name`` of the oracle's class.
        folder: An empty folder.
        trials: Trials of the search.
        workers: Number of worker processes.
        epochs: Epochs of a full training.

    Returns:
        Processes by name.
    """
    names = [f"tuner{number}" for number in range(workers)]
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "KERASTUNER_ORACLE_IP": _HOST,
        "KERASTUNER_ORACLE_PORT": str(port),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # Processes that share few cores wait for each other's threads.
        "OMP_NUM_THREADS": "1",
    }
    processes = {}
    numbers = [str(trials), str(epochs)]
    for name in ["chief", *names]:
        with open(folder / f"{name}.log", "w", encoding="utf-8") as log:
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM, target, str(folder), *numbers, *names],
                env={**shared, "KERASTUNER_TUNER_ID": name},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    return processes


def wait_for_cluster(
    processes: dict[str, subprocess.Popen], folder: Path, *, seconds: float = 300.0
) -> Cluster:
    """Wait until all processes ended; those that do not are killed.

    Args:
        processes: What `start_cluster` returned.
        folder: Its folder.
        seconds: How long to wait.

    Returns:
        The results; a process that was killed has a negative exit code.
    """
    deadline = time.monotonic() + seconds
    for process in processes.values():
        try:
            process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    names = [name for name in processes if name != "chief"]
    report = folder / "report.json"
    return Cluster(
        folder=folder,
        exit_codes={name: process.returncode for name, process in processes.items()},
        output={name: (folder / f"{name}.log").read_text("utf-8") for name in processes},
        runs={name: _lines(folder / f"{name}.runs") for name in names},
        report=json.loads(report.read_text("utf-8")) if report.exists() else None,
    )


def run_cluster(
    target: str,
    folder: Path,
    *,
    trials: int = 8,
    workers: int = 2,
    epochs: int = 1,
    seconds: float = 300.0,
) -> Cluster:
    """Search with a chief and workers: see `start_cluster` and `wait_for_cluster`."""
    processes = start_cluster(target, folder, trials=trials, workers=workers, epochs=epochs)
    return wait_for_cluster(processes, folder, seconds=seconds)


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []

"""Clusters as `keras_nas_plugin.testing.run_cluster` makes them, of forked processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from keras_nas_plugin.testing import cluster
from tests.integration import forkserver

_WORKERS = ("tuner0", "tuner1")


class Process:
    """What `wait_for_cluster` uses of a `subprocess.Popen`."""

    def __init__(self, child: forkserver.Child) -> None:
        self._child = child

    @property
    def returncode(self) -> int | None:
        return self._child.poll()

    def wait(self, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout)
            time.sleep(0.05)

    def kill(self) -> None:
        self._child.signal(signal.SIGKILL)


def run_forked(target: str, folder: Path, *, trials: int, epochs: int = 1) -> cluster.Cluster:
    """Search with a chief and two workers that import nothing anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        # Processes that share few cores wait for each other's threads.
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    processes = {
        name: Process(
            forkserver.fork_server().start(
                f"{__name__}:node",
                cwd=folder,
                environment={**shared, "KERASTUNER_TUNER_ID": name},
                target_of_oracle=target,
                folder=str(folder),
                trials=trials,
                epochs=epochs,
                log=str(folder / f"{name}.log"),
            )
        )
        for name in ("chief", *_WORKERS)
    }
    return cluster.wait_for_cluster(processes, folder)


def node(target_of_oracle: str, folder: str, trials: int, epochs: int, log: str) -> None:
    """One process of the cluster, with its output in a file."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    from keras_nas_plugin.testing.node import main

    main(target_of_oracle, Path(folder), trials, epochs, _WORKERS)

"""Clusters of `keras_nas_plugin.testing.run_cluster`, of forked processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from keras_nas_plugin.testing import cluster
from tests.integration import forkserver


class ForkedPopen:
    """`subprocess.Popen` for ``python -m module arguments``, forked so that it imports nothing."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: Any, stderr: int
    ) -> None:
        python, option, module, *arguments = command
        assert (python, option, stderr) == (sys.executable, "-m", subprocess.STDOUT)
        log = Path(stdout.name)
        self._child = forkserver.fork_server().start(
            "tests.integration.forkserver:run_module",
            cwd=log.parent,
            # Processes that share few cores would wait for each other's threads.
            environment={**env, "TF_NUM_INTRAOP_THREADS": "1"},
            module=module,
            arguments=arguments,
            log=str(log),
        )

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


_FORKING = types.SimpleNamespace(**{**vars(subprocess), "Popen": ForkedPopen})
_patching = threading.Lock()


def run_forked(target: str, folder: Path, *, trials: int, epochs: int = 1) -> cluster.Cluster:
    """Search with a chief and two workers, as `run_cluster` does."""
    # A lock, as several threads start clusters; other modules keep their `Popen`.
    with _patching, mock.patch.object(cluster, "subprocess", _FORKING):
        processes = cluster.start_cluster(target, folder, trials=trials, epochs=epochs)
    return cluster.wait_for_cluster(processes, folder)

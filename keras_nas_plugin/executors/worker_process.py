"""A worker process as its driver sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.records.placement import Placement

# Standard output is for the result of the program that searches, for example its JSON.
_STANDARD_ERROR = 2

# Seconds that a process whose pipe has ended may take to exit.
_EXIT_SECONDS = 5.0


@dataclasses.dataclass
class Assignment:
    """A trial that a worker trains.

    Attributes:
        trial: The trial.
        losses: How many workers have died in its training.
        started_ms: When its last training began, in milliseconds since 1970; before, when it was
            submitted.
        began: When its training began, in seconds of `time.monotonic`; None before.
        placement: The process that trains it; None before.
    """

    trial: Trial
    losses: int = 0
    started_ms: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000)
    began: float | None = None
    placement: Placement | None = None

    def begin(self, placement: Placement | None) -> None:
        """Training begins now.

        Args:
            placement: The process that trains.
        """
        self.began, self.placement = time.monotonic(), placement
        self.started_ms = time.time_ns() // 1_000_000


class WorkerProcess:
    """A worker that has been started.

    The process has a session of its own, so that Ctrl-C on a terminal reaches the driver alone.

    Args:
        payload: What the driver has written for its workers.
        environment: Environment variables that differ from the driver's.
    """

    def __init__(self, payload: Path, environment: Mapping[str, str]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "keras_nas_plugin.executors.worker"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(payload)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
                stdin=subprocess.DEVNULL,
                stdout=_STANDARD_ERROR,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
        #: What it has told about itself; None until it has loaded what it needs.
        self.placement: Placement | None = None

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def ready(self) -> bool:
        """Whether it has loaded what it needs."""
        return self.placement is not None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, *message: Any) -> None:
        """Send a message; one to a worker that has died is lost."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(cloudpickle.dumps(message))

    def messages(self) -> list[tuple[Any, ...]]:
        """The messages that have arrived.

        Raises:
            EOFError: None has, and none will.
        """
        arrived: list[tuple[Any, ...]] = []
        try:
            while self.connection.poll():
                arrived.append(cloudpickle.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            if not arrived:
                raise EOFError from None
        return arrived

    def stop(self) -> str:
        """End the process, with the processes that it has started.

        Returns:
            How the worker had ended before: "was ended by SIGKILL", "ended with exit code 3".
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)
        return self.kill()

    def kill(self) -> str:
        """End the process at once; see `stop`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.connection.close()
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"


def arrived(workers: Mapping[Connection, WorkerProcess]) -> list[WorkerProcess]:
    """The workers that have sent a message or ended, after a wait of at most a second."""
    ready = wait(list(workers), 1.0)
    return [
        worker for connection, worker in workers.items() if connection in ready or not worker.alive
    ]

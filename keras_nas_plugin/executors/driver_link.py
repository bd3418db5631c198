"""A worker's link to the process that searches; nothing here imports TensorFlow."""

from __future__ import annotations

import abc
import os
import queue
import shutil
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

# Seconds after which a worker looks whether its driver still runs, beside the end of the pipe.
_POLL_SECONDS = 1.0
# How often, and at which interval, it looks again after the end of the pipe.
_DEATH_POLLS, _DEATH_SECONDS = 20, 0.05


class DriverLink(abc.ABC):
    """A worker's connection to its driver, for one thread that trains."""

    def __init__(self) -> None:
        self._trials: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @abc.abstractmethod
    def send(self, *message: Any) -> None:
        """Send a message to the driver."""

    def received(self, message: tuple[Any, ...]) -> None:
        """A message of the driver has arrived."""
        kind, *content = message
        (self._trials if kind == "trial" else self._answers).put((kind, *content))

    def next_trial(self) -> tuple[Any, ...]:
        """Wait for a trial."""
        return tuple(self._trials.get()[1:])

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the driver's oracle.

        Raises:
            Exception: What the method raised.
        """
        self.send("call", method, args, kwargs)
        kind, value = self._answers.get()
        if kind == "raise":
            raise value
        return value


class PipeLink(DriverLink):
    """The link of a process on the driver's machine; it ends with the driver, also in a training.

    Args:
        connection: The worker's end of the pipe.
        folder: What the driver has written for its workers; deleted if the driver has died.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        super().__init__()
        self._connection = connection
        self._folder = folder
        self._parent = os.getppid()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, name="driver-link", daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                if self._connection.poll(_POLL_SECONDS):
                    self.received(cloudpickle.loads(self._connection.recv_bytes()))
                elif os.getppid() != self._parent:
                    break
        finally:
            # Nobody waits for this training. A driver that was killed has not deleted its files,
            # and its pipe ends a moment before it does.
            for _ in range(_DEATH_POLLS):
                if os.getppid() != self._parent:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    break
                time.sleep(_DEATH_SECONDS)
            os._exit(1)

    def send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send_bytes(cloudpickle.dumps(message))

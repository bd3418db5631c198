"""Worker processes on this machine, as their driver sees them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from keras_nas_plugin.executors.memory import kernel_kills, used_bytes
from keras_nas_plugin.executors.shipping import Recipe, StoreArray
from keras_nas_plugin.executors.worker_types import Worker, WorkerFactory
from keras_nas_plugin.quiet import is_note

# Seconds that a process whose pipe has ended may take to exit, and its last lines to be copied.
_EXIT_SECONDS, _OUTPUT_SECONDS = 5.0, 1.0


def open_array(path: str) -> np.ndarray:
    """Map an array from its file; pages are copied when they are written to."""
    return np.load(path, mmap_mode="c").view(np.ndarray)


class WorkerProcess(Worker):
    """A worker process that has been started.

    The process has a session of its own, so that Ctrl-C on a terminal reaches the driver alone.
    What it prints is copied to `sys.stderr`, line by line, so that a progress display stays whole,
    without TensorFlow's notes at its import.

    Args:
        name: What its lines begin with.
        payload: What the driver has written for its workers.
        environment: Environment variables that differ from the driver's.
    """

    def __init__(self, name: str, payload: Path, environment: Mapping[str, str]) -> None:
        super().__init__()
        self.connection, theirs = multiprocessing.Pipe()
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "keras_nas_plugin.executors.worker_start"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(payload)],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(paths),
                    "PYTHONUNBUFFERED": "1",
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._kernel_kills = kernel_kills()
        self._output = threading.Thread(target=self._copy_output, args=(name,), daemon=True)
        self._output.start()

    def _copy_output(self, name: str) -> None:
        for line in self._process.stdout or ():
            if is_note(line):  # the worker has a thread already when it imports TensorFlow
                continue
            with contextlib.suppress(ValueError):  # closed at the end of the program
                sys.stderr.write(f"{name}: {line}")

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def memory(self) -> int | None:
        return used_bytes(self.pid)

    @property
    def out_of_memory(self) -> bool:
        return self._process.poll() == -signal.SIGKILL and kernel_kills() > self._kernel_kills

    def send(self, *message: Any) -> None:
        with contextlib.suppress(OSError):
            self.connection.send_bytes(cloudpickle.dumps(message))

    def messages(self) -> list[tuple[Any, ...]]:
        arrived: list[tuple[Any, ...]] = []
        try:
            while self.connection.poll():
                arrived.append(cloudpickle.loads(self.connection.recv_bytes()))
        except (EOFError, OSError):
            if not arrived:
                raise EOFError from None
        if not arrived and not self.alive:
            raise EOFError
        return arrived

    def stop(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)
        return self.kill()

    def kill(self) -> str:
        """End the process at once, with the processes that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self.connection.close()
        self._output.join(_OUTPUT_SECONDS)
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"


class LocalWorkers(WorkerFactory):
    """Starts worker processes on this machine.

    Args:
        ship: Pickles what workers need; it is given a function that stores arrays.
        environments: Environment variables of each worker.
    """

    def __init__(
        self, ship: Callable[[StoreArray], bytes], environments: Sequence[Mapping[str, str]]
    ) -> None:
        super().__init__([f"worker-{number}" for number in range(len(environments))])
        self._ship = ship
        self._environments = dict(zip(self.slots, environments, strict=True))
        self._folder: Path | None = None
        # The file that workers read; written before the first of them starts.
        self._payload = Path()

    def open(self) -> None:
        folder = self._folder = Path(tempfile.mkdtemp(prefix="keras-nas-"))

        def store(array: np.ndarray) -> Recipe:
            path = folder / f"array-{len(list(folder.iterdir()))}.npy"
            np.save(path, array, allow_pickle=False)
            return open_array, (str(path),)

        self._payload = folder / "worker.pickle"
        pickled = self._ship(store)
        self._payload.write_bytes(cloudpickle.dumps(list(sys.path)) + pickled)

    def start(self, slot: str) -> WorkerProcess:
        return WorkerProcess(slot, self._payload, self._environments[slot])

    def arrived(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        processes = [worker for worker in workers if isinstance(worker, WorkerProcess)]
        ready = wait([process.connection for process in processes], 1.0)
        return [each for each in processes if each.connection in ready or not each.alive]

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

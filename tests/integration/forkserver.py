"""Processes that start in milliseconds, forked from one that has imported everything.

Importing TensorFlow, Keras and MLflow takes eight seconds. The server imports them and never
runs an operation, so TensorFlow starts its threads in the children only.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import traceback
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.files import file_lock
from tests import stores

ROOT = Path(__file__).resolve().parents[2]
#: Of all processes of the server.
HASH_SEED = "1"
#: oneDNN compiles kernels in each process, which takes longer than the trainings of tests.
NUMERICS = {"TF_ENABLE_ONEDNN_OPTS": "0"}
#: A target that runs a Python file: see `run_script`.
SCRIPT = f"{__name__}:run_script"


class Child:
    """A process that the server forked."""

    def __init__(self, server: ForkServer, pid: int, out: Path | None, err: Path | None) -> None:
        self._server = server
        self.pid = pid
        self._out, self._err = out, err
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while the process runs."""
        if self.returncode is None:
            self.returncode = self._server.ask({"do": "poll", "pid": self.pid})["returncode"]
        return self.returncode

    def wait(self, timeout: float = 120.0) -> int:
        """Wait for the end; a process that hangs is killed and fails the test."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.signal(signal.SIGKILL)
                raise TimeoutError(f"a process hangs after {timeout} s:\n{self.err[-4000:]}")
            time.sleep(0.03)
        return self.returncode

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text(encoding="utf-8") if self._out else ""

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text(encoding="utf-8") if self._err else ""


class ForkServer:
    """Starts functions of this package or of the tests in new processes.

    One server serves all processes of a test run. It ends with the last of them.

    Args:
        folder: Folder that they share.
    """

    def __init__(self, folder: Path) -> None:
        self._count = 0
        self._lock = threading.Lock()
        address = folder / "forkserver.socket"
        with file_lock(folder / "forkserver.lock"):
            try:
                self._connect(address)
            except OSError:  # nobody has started it yet, or it has ended
                address.unlink(missing_ok=True)
                _start_server(address)
                self._connect(address)

    def _connect(self, address: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(address))
        self._replies = self._connection.makefile("r", encoding="utf-8")
        #: Id of the process from which others are forked.
        self.pid = self.ask({"do": "greet"})["pid"]

    def ask(self, request: dict[str, Any], descriptor: int | None = None) -> dict[str, Any]:
        """Send a request, and return the server's reply.

        Args:
            request: The request, as JSON.
            descriptor: An open file that the process gets under the same number.
        """
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            sent = 0
            if descriptor is not None:
                sent = socket.send_fds(self._connection, [line], [descriptor])
            self._connection.sendall(line[sent:])
            reply = self._replies.readline()
        if not reply:
            raise ConnectionError("the fork server has ended")
        return json.loads(reply)

    def start(
        self,
        target: str,
        *,
        cwd: Path,
        tty: str | None = None,
        environment: Mapping[str, str] | None = None,
        descriptor: int | None = None,
        **arguments: Any,
    ) -> Child:
        """Call a function in a new process.

        Args:
            target: ``module:function``; its return value is the exit code.
            cwd: Working directory; output goes to files there.
            tty: Name of a terminal that replaces the three standard streams.
            environment: Additional variables.
            descriptor: An open file that the process gets under the same number.
            **arguments: Keyword arguments of the function; must be JSON.
        """
        self._count += 1
        out, err = (cwd / f".process{self._count}.{name}" for name in ("out", "err"))
        request = {
            "do": "start",
            "target": target,
            "arguments": arguments,
            "cwd": str(cwd),
            "tty": tty,
            "out": str(out),
            "err": str(err),
            "environment": dict(environment or {}),
            "descriptor": descriptor,
        }
        pid = self.ask(request, descriptor)["pid"]
        return Child(self, pid, None if tty else out, None if tty else err)

    def run(self, target: str, *, cwd: Path, timeout: float = 120.0, **options: Any) -> Child:
        """Call a function in a new process and wait for its end."""
        child = self.start(target, cwd=cwd, **options)
        child.wait(timeout)
        return child

    def close(self) -> None:
        """End the processes that still run."""
        self._replies.close()
        self._connection.close()


@functools.cache
def fork_server() -> ForkServer:
    """The fork server of this test run, started on first use."""
    server = ForkServer(stores.shared_folder())
    atexit.register(server.close)
    return server


def _start_server(address: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NAS_", "KERASTUNER_", "KERAS_NAS_"))
        },
        "PYTHONHASHSEED": HASH_SEED,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MLFLOW_DISABLE_TELEMETRY": "1",
        # Processes that share few cores would wait for each other's threads.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **NUMERICS,
    }
    subprocess.Popen(
        [sys.executable, "-m", __name__, str(listener.fileno())],
        cwd=ROOT,
        pass_fds=[listener.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    listener.close()


def _create_in_child(uri: str) -> None:
    folder = Path(uri.removeprefix("sqlite:///")).parent
    child = fork_server().run(f"{__name__}:create_store", cwd=folder, uri=uri)
    assert child.returncode == 0, child.err


def new_store(folder: Path) -> str:
    """Put an empty MLflow database into a folder: creating its tables takes seconds.

    Returns:
        Its URI.
    """
    return stores.new_database(folder, _create_in_child)


def command_line(words: list[str]) -> None:
    """`keras-nas`, as its console script starts it."""
    from keras_nas_plugin.cli.main import main

    sys.argv = ["keras-nas", *words]
    main()


def run_module(module: str, arguments: list[str], log: str | None = None) -> None:
    """``python -m module arguments``.

    Args:
        module: Name of the module.
        arguments: Its arguments.
        log: A file to which the output is added.
    """
    if log is not None:
        _write_to(log)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_mlflow(arguments: list[str], log: str) -> None:
    """``mlflow arguments``; the process that serves is forked and imports nothing anew.

    Args:
        arguments: ``server`` and its options; one of them is a single worker.
        log: A file to which the output is added.
    """
    _write_to(log)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:  # before `mlflow.server` is imported, which reads the environment
        os.close(writing)
        with os.fdopen(reading) as commands:
            command, environment = json.load(commands)
        os.environ.update(environment)
        _python, _option, module, *options = command
        run_module(module, options)
        return
    os.close(reading)
    import mlflow.server

    def serve(command: list[str], *, extra_env: Mapping[str, str], **_: Any) -> Any:
        with os.fdopen(writing, "w") as commands:
            json.dump([command, extra_env], commands)
        return types.SimpleNamespace(
            pid=pid,
            poll=lambda: None,
            send_signal=lambda number: os.kill(pid, number),
            wait=lambda: os.waitpid(pid, 0),
        )

    mlflow.server._exec_cmd = serve
    run_module("mlflow", arguments)


def _write_to(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)


def run_script(
    file: str, arguments: Sequence[str] = (), path: Sequence[str] = (), without_us: bool = False
) -> None:
    """``python file arguments``.

    Args:
        file: Path of the script.
        arguments: Its arguments.
        path: Additional folders that it may import from.
        without_us: Whether the package and its tests are not installed.
    """
    if without_us:
        _remove_package()
    sys.argv = [file, *arguments]
    sys.path[:0] = [str(Path(file).parent), *path]
    runpy.run_path(file, run_name="__main__")


def _remove_package() -> None:
    """Remove the package, its tests, and what they registered at Keras."""
    import keras

    ours = ("keras_nas_plugin", "tests")
    for name in list(sys.modules):
        if name.partition(".")[0] in ours:
            sys.modules[name] = None  # so that importing it raises an error
    objects = keras.saving.get_custom_objects()
    for name, value in list(objects.items()):
        if value.__module__.partition(".")[0] in ours:
            del objects[name]


def create_store(uri: str) -> None:
    """Create the tables of an MLflow database."""
    from mlflow import MlflowClient

    MlflowClient(uri).search_experiments()


def _import_everything() -> None:
    for module in (
        "tensorflow keras keras_tuner mlflow mlflow.store.tracking.sqlalchemy_store "
        "mlflow.tensorflow sklearn.datasets h5py rich.live keras_nas_plugin.tuner "
        "keras_nas_plugin.cli.main keras_nas_plugin.tracking.progress keras_nas_plugin.cli.recipe "
        "keras_nas_plugin.oracles.evolution keras_nas_plugin.oracles.random "
        "keras_nas_plugin.tracking.mlflow.tracker keras_nas_plugin.registry "
        "keras_nas_plugin.cli.finished_search keras_nas_plugin.retraining.read_only_oracle "
        "keras_nas_plugin.executors.worker keras_nas_plugin.testing.executors "
        "keras_nas_plugin.executors.local keras_nas_plugin.reports.data "
        "keras_nas_plugin.registry.trial mlflow.pyfunc alembic.command sqlalchemy.dialects.sqlite"
    ).split():
        importlib.import_module(module)
    _read_installed_packages()
    # Frozen objects are not touched by the children's collections, so their pages stay shared.
    gc.collect()
    gc.freeze()


def _read_installed_packages() -> None:
    """Let the children inherit which package has which module: reading it takes half a second.

    MLflow keeps it by itself; what the standard library returns is kept for unchanged `sys.path`.
    """
    from mlflow.utils import requirements_utils

    requirements_utils._init_modules_to_packages_map()
    read, path = importlib.metadata.packages_distributions, list(sys.path)
    packages = read()
    importlib.metadata.packages_distributions = lambda: packages if sys.path == path else read()


class _Client:
    """A connection to a process of the tests, and what was started for it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.running: set[int] = set()

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Receive a request and the descriptors that came with it; None at the end."""
        line, descriptors = b"", []
        while not line.endswith(b"\n"):
            received, more, _, _ = socket.recv_fds(self.connection, 65536, 1)
            if not received:
                return None
            line += received
            descriptors += more
        return json.loads(line), descriptors

    def reply(self, reply: dict[str, Any]) -> None:
        """Send a reply."""
        self.connection.sendall(json.dumps(reply).encode() + b"\n")

    def close(self) -> None:
        """Kill what still runs: the tests have ended, perhaps amid one that trains forever."""
        self.connection.close()
        for pid in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # with its children, such as a server


def _serve() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the processes of the tests end it
    _import_everything()
    clients: list[_Client] = []
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    clients.append(_Client(listener.accept()[0]))
                    selector.register(clients[-1].connection, selectors.EVENT_READ, clients[-1])
                elif not _answer(key.data, [listener, *(each.connection for each in clients)]):
                    selector.unregister(key.data.connection)
                    key.data.close()
                    clients.remove(key.data)
                    if not clients:
                        return


def _answer(client: _Client, sockets: Sequence[socket.socket]) -> bool:
    """Reply to a request; False if the client has ended."""
    with contextlib.suppress(ConnectionError):
        message = client.receive()
        if message is not None:
            client.reply(_handle(client, *message, sockets))
            return True
    return False


def _handle(
    client: _Client,
    request: dict[str, Any],
    received: list[int],
    sockets: Sequence[socket.socket],
) -> dict[str, Any]:
    if request["do"] == "greet":
        return {"pid": os.getpid()}
    if request["do"] == "start":
        pid = _fork(request, sockets, received)
        client.running.add(pid)
        return {"pid": pid}
    pid, status = os.waitpid(request["pid"], os.WNOHANG)
    client.running.discard(pid)
    return {"returncode": os.waitstatus_to_exitcode(status) if pid else None}


def _fork(
    request: dict[str, Any], sockets: Sequence[socket.socket], received: Sequence[int]
) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        for descriptor in received:
            os.close(descriptor)
        return pid
    code: Any = 1
    try:
        for each in sockets:
            os.close(each.fileno())
        for descriptor in received:
            if descriptor != request["descriptor"]:
                os.dup2(descriptor, request["descriptor"])
                os.close(descriptor)
        code = _run(request)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _run(request: dict[str, Any]) -> Any:
    os.setsid()
    if request["tty"]:
        terminal = os.open(request["tty"], os.O_RDWR)
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        streams = [terminal] * 3
    else:
        files = (request["out"], request["err"])
        outputs = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in files]
        streams = [os.open(os.devnull, os.O_RDONLY), *outputs]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    module, _, name = request["target"].partition(":")
    return getattr(importlib.import_module(module), name)(**request["arguments"])


if __name__ == "__main__":
    _serve()

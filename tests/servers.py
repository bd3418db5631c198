"""Real servers for tests: MLflow's tracking server and its model server.

Each runs in its own process group on a fixed loopback port: it can be stopped or killed with
all its workers, and started again at the same address.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.integration import forkserver

_STARTS_WITHIN = 240  # seconds; long enough for a busy machine
_STOPS_WITHIN = 30

# `mlflow`, `uvicorn` and so on are installed next to the interpreter.
_PROGRAMS = Path(sys.executable).parent


class Server:
    """A program that serves HTTP.

    Args:
        folder: Working directory of the program; its output goes to ``server.log`` there.
        command: Returns the command line for a port.
        health: Path that responds with 200 once the server is up.
        environment: Additional variables.
        forked: Whether the program is ``mlflow`` and runs in a process that has imported it
            before, which saves 10 seconds.
    """

    def __init__(
        self,
        folder: Path,
        command: Callable[[int], list[str]],
        *,
        health: str = "/health",
        environment: Mapping[str, str] | None = None,
        forked: bool = False,
    ) -> None:
        self._forked = forked
        self._folder = folder
        self._port = free_port()
        self._command = command(self._port)
        self._health = health
        self._environment = environment or {}
        self._process: subprocess.Popen | forkserver.Child | None = None
        #: Database file of its runs, if it uses one.
        self.database: Path | None = None
        self.uri = f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """Output of the program so far, across restarts."""
        return (self._folder / "server.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the program and wait until it responds."""
        self._process = self._start_forked() if self._forked else self._start_program()
        end = time.monotonic() + _STARTS_WITHIN
        while not self.is_up():
            if time.monotonic() > end or self._process.poll() is not None:
                log = self.log
                self.kill()
                raise RuntimeError(log)
            time.sleep(0.2)

    def _start_program(self) -> subprocess.Popen:
        path = os.pathsep.join([str(_PROGRAMS), os.environ.get("PATH", "")])
        with open(self._folder / "server.log", "a") as log:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, "PATH": path, **self._environment},
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that its workers can be killed with it
            )

    def _start_forked(self) -> forkserver.Child:
        _python, _option, _mlflow, *arguments = self._command
        return forkserver.fork_server().start(
            "tests.integration.forkserver:run_mlflow",
            cwd=self._folder,
            environment={**os.environ, **self._environment},
            arguments=arguments,
            log=str(self._folder / "server.log"),
        )

    def is_up(self) -> bool:
        """Whether the server responds."""
        try:
            with urllib.request.urlopen(self.uri + self._health, timeout=10) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            return error.code == 401  # up, but requires a user and a password
        except OSError:
            return False

    def stop(self) -> None:
        """Terminate the program as a service manager does; kill it if it does not stop."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
            if self._process is not None:
                self._process.wait(_STOPS_WITHIN)
        self.kill()

    def kill(self) -> None:
        """Kill the program and its workers, if they run."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its workers, if they run."""
        if self._process is not None:
            # The process group outlives its leader as long as it has a worker.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """The server, started; killed at the end of the block."""
        self.start()
        try:
            yield self
        finally:
            self.kill()


def mlflow_server(
    folder: Path,
    store: str | None = None,
    *options: str,
    environment: Mapping[str, str] | None = None,
    forked: bool = True,
) -> Server:
    """`mlflow server` with one worker, which takes a quarter of the usual time and memory.

    Args:
        folder: Folder of artifacts and the log.
        store: URI of its runs; None for an SQLite database ``mlflow.db`` in the folder.
        options: Further command-line options.
        environment: Additional variables.
        forked: See `Server`; False for a server that users start.
    """

    def command(port: int) -> list[str]:
        words = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        words += ["--host", "127.0.0.1", "--port", str(port)]
        words += ["--backend-store-uri", store or f"sqlite:///{folder / 'mlflow.db'}"]
        return [*words, "--artifacts-destination", str(folder / "artifacts"), *options]

    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
    server = Server(folder, command, environment=settings, forked=forked)
    server.database = None if store else folder / "mlflow.db"
    return server


ADMIN, ADMIN_PASSWORD = "admin", "correct horse battery"


def guarded_server(folder: Path) -> Server:
    """`mlflow server` with authentication: an administrator, and users who may read."""
    settings = {"MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD}
    settings["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "for tests"
    return mlflow_server(folder, None, "--app-name", "basic-auth", environment=settings)


def cheapen_passwords(folder: Path, users: Mapping[str, str]) -> None:
    """Store the passwords of a guarded server with a fast hash.

    The default hash takes a tenth of a second per request.
    """
    from werkzeug.security import generate_password_hash

    with contextlib.closing(sqlite3.connect(folder / "basic_auth.db")) as database:
        for name, password in users.items():
            cheap = generate_password_hash(password, "pbkdf2:sha256:1")
            database.execute(
                "UPDATE users SET password_hash = ? WHERE username = ?", (cheap, name)
            )
        database.commit()


def signed_in(name: str, password: str) -> dict[str, str]:
    """Environment variables from which MLflow clients read a user name and a password."""
    return {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}


def model_server(folder: Path, model_uri: str, tracking_uri: str) -> Server:
    """`mlflow models serve`, as in production."""

    def command(port: int) -> list[str]:
        words = [str(_PROGRAMS / "mlflow"), "models", "serve", "--port", str(port)]
        return [*words, "--model-uri", model_uri, "--env-manager", "local"]

    settings = {"MLFLOW_TRACKING_URI": tracking_uri, "TF_CPP_MIN_LOG_LEVEL": "3"}
    settings["MLFLOW_DISABLE_TELEMETRY"] = "true"
    return Server(folder, command, health="/ping", environment=settings)


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""A real PostgreSQL server for tests, where the system has one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.servers import free_port

PASSWORD = "open-sesame"


def find_programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`, of the newest release; None where there is none."""
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).resolve().parent
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")  # Debian keeps them off the path
    newest = sorted(folders, key=lambda path: int(path.parts[-3]))
    return newest[-1].parent if newest else None


class PostgreSQL:
    """A separate cluster on a fixed loopback port, whose users need a password.

    Args:
        programs: The folder of `initdb` and `pg_ctl`.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # The path of a socket is limited to 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir="/tmp"))
        self._data = self._folder / "data"
        self._port = free_port()
        self._user = _unprivileged()
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            for path in (self._folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        arguments = ["-U", "nas", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
        self._run("initdb", "-D", self._data, "--locale=C", "--encoding=UTF8", *arguments)
        settings = {
            "listen_addresses": "'127.0.0.1'",
            "port": self._port,
            "unix_socket_directories": f"'{self._folder}'",
            "shared_buffers": "16MB",
            "fsync": "off",  # tests stop only the server, never the machine
        }
        with open(self._data / "postgresql.conf", "a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def uri(self, database: str, *, user: str = "nas", password: str = PASSWORD) -> str:
        """The address of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self._run("pg_ctl", "start", "-w", "-t", "120", "-D", self._data, "-l", self._data / "log")

    def kill(self) -> None:
        """Stop the server as a power failure would: connections break, nothing is cleaned up."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def create(self, database: str, template: str = "template1") -> str:
        """Create a database; returns its address."""
        self.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.uri(database)

    def disconnect(self, database: str) -> None:
        """End all connections to a database."""
        self.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        )

    def execute(self, statement: str) -> None:
        """Run a statement outside a transaction."""
        import psycopg

        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def remove(self) -> None:
        """Kill the server, if it runs, and delete its files."""
        if (self._data / "postmaster.pid").exists():
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        output = self._folder / "output"
        with open(output, "w") as log:  # a pipe would stay open as long as the server runs
            completed = subprocess.run(
                [self._programs / program, *map(str, arguments)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_as(self._user),
            )
        if completed.returncode:
            raise RuntimeError(output.read_text())


def _unprivileged() -> pwd.struct_passwd | None:
    """The user that runs PostgreSQL, which refuses root; None for the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _as(user: pwd.struct_passwd | None) -> dict[str, object]:
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

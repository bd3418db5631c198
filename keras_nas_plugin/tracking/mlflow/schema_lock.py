"""Locks a database while MLflow opens it, which may create tables or change their schema."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_nas_plugin.files import file_lock

# Any number that no other program uses for its own locks in the same database.
_LOCK = 7_163_204_751
_CONNECT_SECONDS = 10

# Messages of PostgreSQL after which the same connection may succeed later; libpq gives no code
# for a connection that failed.
_TEMPORARY = (
    "the database system is",  # starting up, shutting down, in recovery mode
    "too many",  # clients, or connections for this role or database
    "remaining connection slots",
    "connection refused",
    "timeout expired",
    "server closed the connection",
)


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process at a time open a database; fail early if the database cannot be used.

    MLflow 3.17 creates the tables without a lock, so processes that open a new database at the
    same time corrupt it, in SQLite and in PostgreSQL. It also retries for a minute and a half if
    it cannot open a database.

    Raises:
        Exception: Whatever the database's library raises if it cannot be opened.
    """
    path = sqlite_path(uri)
    if path is not None:
        with file_lock(path.with_name(path.name + ".lock")):
            _check_writable(path)
            yield
    elif uri.startswith(("postgresql:", "postgresql+")):
        with _advisory_lock(uri):
            yield
    else:
        yield


@contextlib.contextmanager
def _advisory_lock(uri: str) -> Iterator[None]:
    """Hold an advisory lock of a PostgreSQL database.

    The lock belongs to a transaction: a pool such as PgBouncer may give every transaction
    another session, and a lock that belongs to a session would never be released. The lock ends
    with the process, even if the process is killed.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    if engine.driver.startswith("psycopg"):

        @sqlalchemy.event.listens_for(engine, "do_connect")
        def _set_timeout(
            dialect: object, record: object, arguments: object, options: dict[str, Any]
        ) -> None:
            options.setdefault("connect_timeout", _CONNECT_SECONDS)

    with contextlib.closing(engine.connect()) as connection:
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        try:
            yield
        finally:
            # A server that ends idle transactions has released the lock already.
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.rollback()


def is_temporary(error: Exception) -> bool:
    """Whether a database that refused a connection may accept it later."""
    text = str(error).lower()
    return any(reason in text for reason in _TEMPORARY)


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite URI; None for other URIs and for databases in memory."""
    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    path = urllib.parse.unquote(uri.partition(":///")[2].partition("?")[0])
    return None if path in ("", ":memory:") else Path(path)


def is_new_sqlite(uri: str) -> bool:
    """Whether a URI is that of an SQLite database without tables, which MLflow has to create.

    Raises:
        OSError: Its folder cannot be created.
        sqlite3.Error: The database cannot be created.
    """
    path = sqlite_path(uri)
    if path is None or (path.exists() and path.stat().st_size > 0):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_writable(path)
    return True


def _check_writable(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):  # another process writes, so it can be written
                raise
        else:
            database.rollback()


@contextlib.contextmanager
def quiet_migrations() -> Iterator[None]:
    """Keep the hundred lines about table migrations off the terminal."""
    with quiet("alembic", logging.WARNING), quiet("mlflow.store.db.utils", logging.WARNING):
        yield


# Blocks of several threads overlap: the first one raises a level, the last one restores it.
_quieted: dict[str, list[int]] = {}
_quieted_lock = threading.Lock()


@contextlib.contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Raise the level of a logger inside the block."""
    logger = logging.getLogger(name)
    with _quieted_lock:
        levels = _quieted.setdefault(name, [])
        levels.append(logger.level)
        logger.setLevel(max(level, logger.level))
    try:
        yield
    finally:
        with _quieted_lock:
            before = levels.pop()
            if not levels:
                logger.setLevel(before)

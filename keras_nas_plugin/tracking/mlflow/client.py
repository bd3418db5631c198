"""Opens an MLflow store without hanging, damaging it or changing MLflow's global state."""

from __future__ import annotations

import collections
import contextlib
import http.client
import importlib
import logging
import os
import re
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking.mlflow import schema_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 2.0

# MLflow's own defaults (7 retries, 120 s each) block the caller for four minutes when a server
# stops. Here one request without a retry is enough, since a failed one is sent again later.
_BOUNDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_SILENCE = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

_FORBIDDEN = ("error code 401", "error code 403", "401 Client Error", "403 Client Error")

# What a gateway answers to a request that it will never accept; MLflow reports an outage.
_TOO_LARGE = re.compile(r"failed with error code (405|413|414|431) ")

_CREDENTIALS = re.compile(r"(://)[^\s@'\"]*@")

_DATABASE_LOG = "mlflow.store.db.utils"

# A server reports good health without its database; this request needs the database.
_FIRST_EXPERIMENT = "api/2.0/mlflow/experiments/get?experiment_id=0"

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

# Errors after which the same request may succeed later.
_TRANSIENT = frozenset(
    {
        "ABORTED",
        "DEADLINE_EXCEEDED",
        "INTERNAL_ERROR",
        "IO_ERROR",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "SERVICE_UNDER_MAINTENANCE",
        "TEMPORARILY_UNAVAILABLE",
    }
)


class UnreachableError(TrackingError):
    """No server answered at the tracking URI; trying again later may help."""


def resolve_uri(tracking_uri: str | None) -> str:
    """``tracking_uri``, or what MLflow itself uses if it is None."""
    if tracking_uri is not None:
        return tracking_uri
    import mlflow

    return str(mlflow.get_tracking_uri())


def is_server(uri: str) -> bool:
    """Whether the URI names an MLflow server."""
    return urllib.parse.urlsplit(uri).scheme in ("http", "https")


def public_uri(uri: str) -> str:
    """The URI without user name and password, for display and logs."""
    parts = urllib.parse.urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextlib.contextmanager
def bounded_requests() -> Iterator[None]:
    """Limit the duration of MLflow's requests, and silence them, inside the block.

    MLflow reads these settings from the environment on every request, and nowhere else, so
    requests of other threads are bounded as well. A value that the user has set stays.
    """
    # MLflow logs errors of a database with their traceback before it raises them.
    with (
        _environment({**_BOUNDS, **_SILENCE}),
        schema_lock.quiet(_DATABASE_LOG, logging.CRITICAL),
    ):
        yield


@contextlib.contextmanager
def quiet_requests() -> Iterator[None]:
    """Keep MLflow from printing to standard output, which a command may use for its result."""
    with _environment(_SILENCE):
        yield


# Blocks of several threads overlap: the first one sets a variable, the last one resets it.
_overlapping: collections.Counter[str] = collections.Counter()
_overlapping_lock = threading.Lock()
# Values that ended blocks have left in the environment.
_defaults: dict[str, str] = {}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, and reset them to MLflow's defaults afterwards.

    They are not deleted: a thread that copies the environment at that moment, as everything
    that starts a process does, would fail with a `KeyError`.
    """
    with _overlapping_lock:
        ours = [
            name
            for name in values
            if _overlapping[name] or os.environ.get(name) in (None, _defaults.get(name))
        ]
        # Only once: other threads read the environment, which is not thread-safe.
        os.environ.update({name: values[name] for name in ours if not _overlapping[name]})
        _overlapping.update(ours)
    try:
        yield
    finally:
        with _overlapping_lock:
            _overlapping.subtract(ours)
            _defaults.update({name: _default(name) for name in ours if not _overlapping[name]})
            os.environ.update({name: _defaults[name] for name in ours if not _overlapping[name]})


def _default(name: str) -> str:
    from mlflow import environment_variables

    value = getattr(environment_variables, name).default
    return str(value).lower() if isinstance(value, bool) else str(value)


def answers(uri: str, *, timeout: float = PROBE_SECONDS) -> bool:
    """Whether a store answers at ``uri``; a file always does.

    Args:
        uri: Tracking or registry URI.
        timeout: Maximum number of seconds, including the look-up of the host name.
    """
    parts = urllib.parse.urlsplit(uri)
    if is_server(uri):
        return _within(timeout, lambda: _get_health(uri, timeout))
    dialect = parts.scheme.partition("+")[0]
    if dialect in _DATABASE_PORTS and parts.hostname:
        address = (parts.hostname, parts.port or _DATABASE_PORTS[dialect])
        return _within(timeout, lambda: _connects(address, timeout))
    return True


def _within(timeout: float, check: Callable[[], bool]) -> bool:
    """Run ``check`` for ``timeout`` seconds at most.

    This takes a thread, because the look-up of a host name has no timeout.
    """
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(check()), daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(outcome) and outcome[0]


def _get_health(uri: str, timeout: float) -> bool:
    # Nothing but the fact of an answer is used, so the certificate is not checked; MLflow's own
    # requests, which carry the data, check it as the user has configured.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    for path in ("health", _FIRST_EXPERIMENT):
        try:
            opener.open(f"{public_uri(uri).rstrip('/')}/{path}", timeout=timeout).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:  # from a gateway, 502 to 504: the server is down
                return False
        except (OSError, http.client.HTTPException, ValueError):
            return False
    return True


def _connects(address: tuple[str, int], timeout: float) -> bool:
    try:
        socket.create_connection(address, timeout=timeout).close()
    except OSError:
        return False
    return True


def is_outage(error: Exception) -> bool:
    """Whether a call failed because the store could not be reached or was too busy.

    Any other error is an answer of the store, and a repeated request would get the same one.
    """
    code = getattr(error, "error_code", None)  # MLflow's; its wrapped network errors say INTERNAL
    if code is not None:
        return code in _TRANSIENT and not _TOO_LARGE.search(str(error))
    return isinstance(error, OSError) or type(error).__module__.startswith("sqlalchemy")


def is_forbidden(error: Exception) -> bool:
    """Whether a server denies the request, or requires a login."""
    if getattr(error, "error_code", None) in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return True
    # For an answer without JSON, MLflow and requests name the status in their message only.
    return any(status in str(error) for status in _FORBIDDEN)


def connect(
    tracking_uri: str, registry_uri: str | None = None, *, timeout: float = PROBE_SECONDS
) -> MlflowClient:
    """Open the store at a URI, creating an SQLite database if there is none.

    Args:
        tracking_uri: Where runs are stored.
        registry_uri: Where models are registered; None for the same store.
        timeout: Seconds to wait for the server to answer.

    Returns:
        A client for exactly these URIs.

    Raises:
        UnreachableError: No server answers.
        TrackingError: MLflow cannot use the URI.
    """
    if not answers(tracking_uri, timeout=timeout):
        raise UnreachableError(
            f"`tracking_uri` must be a server that answers; got '{public_uri(tracking_uri)}', "
            "which does not"
        )
    try:
        with (
            schema_lock.one_at_a_time(tracking_uri),
            bounded_requests(),
            schema_lock.quiet_migrations(),
        ):
            from mlflow import MlflowClient

            return MlflowClient(tracking_uri, registry_uri)
    except Exception as error:  # SQLAlchemy, MLflow and plugins each raise their own
        if schema_lock.is_temporary(error):
            raise UnreachableError(
                f"`tracking_uri` must be a database that accepts connections; got "
                f"'{public_uri(tracking_uri)}', which does not yet: {first_line(error)}"
            ) from error
        raise unusable(tracking_uri, error) from error


def creates_database(tracking_uri: str) -> bool:
    """Whether `connect` is going to create an SQLite database, which takes seconds.

    If so, the modules that it needs are imported here, so that another thread may call it while
    this one imports others.

    Raises:
        TrackingError: The database cannot be created.
    """
    try:
        if not schema_lock.is_new_sqlite(tracking_uri):
            return False
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    except Exception as error:  # sqlite3's and the system's
        raise unusable(tracking_uri, error) from error
    return True


def unusable(tracking_uri: str, error: Exception) -> TrackingError:
    """The error for a URI at which nothing can be logged.

    Args:
        tracking_uri: The URI.
        error: What opening it raised.
    """
    if isinstance(error, ModuleNotFoundError):
        return TrackingError(
            "`tracking_uri` must be a database whose Python driver is installed; got "
            f"'{public_uri(tracking_uri)}' ({error}). For PostgreSQL: "
            "`pip install 'keras-nas-plugin[postgres]'`, and postgresql+psycopg:// where "
            "SQLAlchemy is older than 2.1."
        )
    if is_forbidden(error):
        return TrackingError(
            "`tracking_uri` must be a server that you may write to; got "
            f"'{public_uri(tracking_uri)}', which does not permit it ({first_line(error)}). "
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to log in."
        )
    return TrackingError(
        "`tracking_uri` must be an MLflow server (http://host:port) or a database "
        f"(sqlite:///mlflow.db) that can be written; got '{public_uri(tracking_uri)}': "
        f"{first_line(error)}"
    )


def absolute_uri(uri: str) -> str:
    """The URI with an absolute path; only an SQLite URI can be relative.

    >>> absolute_uri("http://host:5000"), absolute_uri("sqlite:////data/mlflow.db")
    ('http://host:5000', 'sqlite:////data/mlflow.db')
    """
    path = schema_lock.sqlite_path(uri)
    if path is None or path.is_absolute():
        return uri
    scheme, _, location = uri.partition(":///")
    query = location.partition("?")[2]
    return f"{scheme}:///{path.absolute()}" + (f"?{query}" if query else "")


def open_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, which is created if it does not exist.

    Raises:
        TrackingError: The experiment is in MLflow's trash.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except Exception as error:  # MLflow's own class, which is imported lazily
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another worker was first
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"`experiment` must not be in MLflow's trash; got '{name}'. Restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "choose another name."
        )
    return str(experiment.experiment_id)


def first_line(error: Exception) -> str:
    """The first line of an error's message; passwords in addresses are removed."""
    lines = str(error).strip().splitlines()
    # SQLAlchemy's messages may begin with a line in brackets about their context.
    useful = [
        line for line in lines if line.strip() and not line.startswith("(raised as a result")
    ]
    # MLflow names the address of a request that failed, with the password in it.
    return _CREDENTIALS.sub(r"\1", (useful or lines or [type(error).__name__])[0])

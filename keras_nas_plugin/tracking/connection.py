"""Opening an MLflow store without hanging on it, breaking it or changing MLflow's own state."""

from __future__ import annotations

import collections
import contextlib
import http.client
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
from keras_nas_plugin.tracking import opening

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 2.0

# MLflow's own defaults (7 retries, 120 s each) block the caller for four minutes when a server
# goes away. One request without a retry is enough here: what fails is sent again later.
_BOUNDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_SILENCE = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

_FORBIDDEN = ("error code 401", "error code 403", "401 Client Error", "403 Client Error")

# What a gateway answers to a request that it never lets pass; MLflow takes it for an outage.
_TOO_MUCH = re.compile(r"failed with error code (405|413|414|431) ")

_CREDENTIALS = re.compile(r"(://)[^\s@'\"]*@")

_DATABASE_LOG = "mlflow.store.db.utils"

# A server is in good health without its database; this it has to look up there.
_FIRST_EXPERIMENT = "api/2.0/mlflow/experiments/get?experiment_id=0"

_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

# What a store answers when asking again would give another answer.
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
    """Nobody answered at the tracking URI; asking again later may help."""


def resolve_uri(tracking_uri: str | None) -> str:
    """``tracking_uri``, or what MLflow itself would use."""
    if tracking_uri is not None:
        return tracking_uri
    import mlflow

    return mlflow.get_tracking_uri()


def is_server(uri: str) -> bool:
    """Whether the URI names an MLflow server."""
    return urllib.parse.urlsplit(uri).scheme in ("http", "https")


def public_uri(uri: str) -> str:
    """The URI without a user's name and password, to be shown to people."""
    parts = urllib.parse.urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextlib.contextmanager
def bounded_requests() -> Iterator[None]:
    """Keep MLflow's requests short, and quiet, inside the block.

    MLflow reads these settings from the environment on every request and knows no other way, so
    requests of other threads are short as well meanwhile. A value that the user has set stands.
    """
    # What a database raises, MLflow logs with its traceback before it raises it.
    with (
        _environment({**_BOUNDS, **_SILENCE}),
        opening.quiet(_DATABASE_LOG, logging.CRITICAL),
    ):
        yield


@contextlib.contextmanager
def quiet_requests() -> Iterator[None]:
    """Keep MLflow from printing to standard output, which may carry another result."""
    with _environment(_SILENCE):
        yield


# Blocks of several threads overlap: the first one sets a variable, the last one takes it back.
_overlapping: collections.Counter[str] = collections.Counter()
_overlapping_lock = threading.Lock()
_left: dict[str, str] = {}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, and give them MLflow's own defaults afterwards.

    They are not deleted again: another thread that copies the environment at that moment, as
    everything does that starts a process, would fail with a `KeyError`.
    """
    with _overlapping_lock:
        ours = [
            name
            for name in values
            if _overlapping[name] or os.environ.get(name) in (None, _left.get(name))
        ]
        # Only once: other threads read the environment, which is not made for that.
        os.environ.update({name: values[name] for name in ours if not _overlapping[name]})
        _overlapping.update(ours)
    try:
        yield
    finally:
        with _overlapping_lock:
            _overlapping.subtract(ours)
            _left.update({name: _default(name) for name in ours if not _overlapping[name]})
            os.environ.update({n: _left[n] for n in ours if not _overlapping[n]})


def _default(name: str) -> str:
    from mlflow import environment_variables

    value = getattr(environment_variables, name).default
    return str(value).lower() if isinstance(value, bool) else str(value)


def answers(uri: str, *, timeout: float = PROBE_SECONDS) -> bool:
    """Whether somebody answers at ``uri``; files always do.

    Args:
        uri: Tracking or registry URI.
        timeout: Most seconds that this takes, the look-up of the name included.
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

    A thread, because the look-up of a host name takes no timeout.
    """
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(check()), daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(outcome) and outcome[0]


def _get_health(uri: str, timeout: float) -> bool:
    # Only whether somebody answers is read from the reply, so the certificate is not checked;
    # MLflow's own requests, which carry the data, check it as the user has configured.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    for path in ("health", _FIRST_EXPERIMENT):
        try:
            opener.open(f"{public_uri(uri).rstrip('/')}/{path}", timeout=timeout).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:  # from a gateway, 502 to 504: the server is gone
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


def lost(error: Exception) -> bool:
    """Whether a call failed because the store could not be reached or was too busy.

    Any other error is the store's answer, and would be the same the next time.
    """
    code = getattr(error, "error_code", None)  # MLflow's; its wrapped network errors say INTERNAL
    if code is not None:
        return code in _TRANSIENT and not _TOO_MUCH.search(str(error))
    return isinstance(error, OSError) or type(error).__module__.startswith("sqlalchemy")


def forbidden(error: Exception) -> bool:
    """Whether a server knows the request and does not permit it, or not to this user."""
    if getattr(error, "error_code", None) in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return True
    # MLflow and requests put the status of an answer without JSON into their messages only.
    return any(status in str(error) for status in _FORBIDDEN)


def connect(
    tracking_uri: str, registry_uri: str | None = None, *, timeout: float = PROBE_SECONDS
) -> MlflowClient:
    """Open the store behind a URI, creating an SQLite database where there is none.

    Args:
        tracking_uri: Where runs are kept.
        registry_uri: Where models are registered; None for the same place.
        timeout: Seconds to wait for a sign of life.

    Returns:
        A client for exactly these URIs.

    Raises:
        UnreachableError: Nobody answers.
        TrackingError: The URI is not one that MLflow can use.
    """
    if not answers(tracking_uri, timeout=timeout):
        raise UnreachableError(
            f"`tracking_uri` needs a server that answers; received "
            f"'{public_uri(tracking_uri)}', where nobody does"
        )
    try:
        with opening.one_at_a_time(tracking_uri), bounded_requests(), opening.quiet_migrations():
            from mlflow import MlflowClient

            return MlflowClient(tracking_uri, registry_uri)
    except Exception as error:  # SQLAlchemy, MLflow and plugins each raise their own
        if opening.is_passing(error):
            raise UnreachableError(
                f"`tracking_uri` needs a database that takes connections; received "
                f"'{public_uri(tracking_uri)}', which does not yet: {first_line(error)}"
            ) from error
        raise unusable(tracking_uri, error) from error


def unusable(tracking_uri: str, error: Exception) -> TrackingError:
    """The error for a URI at which nothing can be logged."""
    if isinstance(error, ModuleNotFoundError):
        return TrackingError(
            f"`tracking_uri` needs the Python driver of its database, which is not installed "
            f"({error}); received '{public_uri(tracking_uri)}'. For PostgreSQL: "
            "`pip install 'keras-nas-plugin[postgres]'`, and postgresql+psycopg:// where "
            "SQLAlchemy is older than 2.1."
        )
    if forbidden(error):
        return TrackingError(
            "`tracking_uri` needs a server at which you may write; received "
            f"'{public_uri(tracking_uri)}', which does not permit it ({first_line(error)}). "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD say who you are."
        )
    return TrackingError(
        "`tracking_uri` needs an MLflow server (http://host:port) or a database "
        f"(sqlite:///mlflow.db) that can be written; received '{public_uri(tracking_uri)}': "
        f"{first_line(error)}"
    )


def absolute_uri(uri: str) -> str:
    """The same place from wherever a program is started; only SQLite's may be relative.

    >>> absolute_uri("http://host:5000"), absolute_uri("sqlite:////data/mlflow.db")
    ('http://host:5000', 'sqlite:////data/mlflow.db')
    """
    path = opening.sqlite_path(uri)
    if path is None or path.is_absolute():
        return uri
    scheme, _, rest = uri.partition(":///")
    query = rest.partition("?")[2]
    return f"{scheme}:///{path.absolute()}" + (f"?{query}" if query else "")


def open_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, created if there is none of this name.

    Raises:
        TrackingError: The experiment is in MLflow's trash.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name)
        except Exception as error:  # MLflow's own class, whose import this module puts off
            if getattr(error, "error_code", None) != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)  # another worker was faster
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"`experiment` needs one that is not deleted; received '{name}'. Restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or "
            "choose another name."
        )
    return experiment.experiment_id


def first_line(error: Exception) -> str:
    """What went wrong, in one line, without the passwords of addresses."""
    lines = str(error).strip().splitlines()
    # SQLAlchemy begins with what it was doing, in brackets.
    told = [line for line in lines if line.strip() and not line.startswith("(raised as a result")]
    # MLflow names the address of a request that failed, with the password in it.
    return _CREDENTIALS.sub(r"\1", (told or lines or [type(error).__name__])[0])

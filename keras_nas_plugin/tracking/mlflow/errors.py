"""Converts errors of MLflow, its stores and the network to messages of one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras_nas_plugin.errors import NASError, TrackingError
from keras_nas_plugin.tracking.mlflow.client import first_line, is_forbidden, is_outage, public_uri


@contextlib.contextmanager
def tracking_errors(doing: str, uri: str, *, foreign: bool = False) -> Iterator[None]:
    """Replace errors of a store by a `TrackingError` with a message of one sentence.

    Args:
        doing: What the block does, for example ``"registering `digits`"``.
        uri: The store.
        foreign: Whether errors of any other class are replaced as well: where a model is
            saved, Keras, pickle and artifact stores raise their own.

    Raises:
        TrackingError: The block raised an error of a store.
    """
    try:
        yield
    except NASError:
        raise
    except Exception as error:  # MLflow's classes are not imported for this
        # Every error of MLflow has a code; a database's own errors count as an outage.
        if not (foreign or hasattr(error, "error_code") or is_outage(error)):
            raise
        raise failure(doing, uri, error) from error


def failure(doing: str, uri: str, error: Exception) -> TrackingError:
    """The error for a request that failed.

    Args:
        doing: What the request was for.
        uri: The store.
        error: What the store raised.
    """
    reason = "it is not permitted: " if is_forbidden(error) else ""
    return TrackingError(f"{doing} at {public_uri(uri)} failed: {reason}{first_line(error)}")

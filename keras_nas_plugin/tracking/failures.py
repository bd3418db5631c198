"""What MLflow, its stores and the network raise, as one sentence for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras_nas_plugin.errors import NASError, TrackingError
from keras_nas_plugin.tracking.connection import first_line, forbidden, lost, public_uri


@contextlib.contextmanager
def explained(doing: str, uri: str, *, foreign: bool = False) -> Iterator[None]:
    """Turn what a store raises into one sentence.

    Args:
        doing: What is being done, for example ``"registering `digits`"``.
        uri: Where.
        foreign: Whether anything else is explained as well: where a model is saved, Keras,
            pickle and artifact stores raise their own.

    Raises:
        TrackingError: In place of what the block raised.
    """
    try:
        yield
    except NASError:
        raise
    except Exception as error:  # MLflow's classes are not imported for this
        # Every error of MLflow's has a code; a database's own errors count as lost.
        if not (foreign or hasattr(error, "error_code") or lost(error)):
            raise
        raise failure(doing, uri, error) from error


def failure(doing: str, uri: str, error: Exception) -> TrackingError:
    """What was done where, and why it failed: a refusal is told apart from an outage."""
    reason = "it is not permitted: " if forbidden(error) else ""
    return TrackingError(f"{doing} at {public_uri(uri)} failed: {reason}{first_line(error)}")

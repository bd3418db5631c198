"""Uploads the trials that a search left in its outbox, and closes its runs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import ProjectLayout, exclusive_search_lock
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import KILLED, Status, load_records
from keras_nas_plugin.tracking.mlflow.client import public_uri
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from keras_nas_plugin.tracking.mlflow.tracker import MLflowTracker
from keras_nas_plugin.wording import counted_are


@dataclasses.dataclass(frozen=True)
class Synced:
    """The result of a call of `sync`.

    Attributes:
        trials: Trials of the search that have ended.
        sent: Trials that were in the outbox and are in the store now.
        waiting: Trials that are still in the outbox, because the store does not answer or
            rejects them.
        status: The final status of the search's run; None while the search continues.
        tracking_uri: Where the runs are.
    """

    trials: int
    sent: int
    waiting: int
    status: str | None
    tracking_uri: str


def sync(directory: str | os.PathLike[str], *, tracking_uri: str | None = None) -> Synced:
    """Bring the runs of a search up to date with its project folder.

    Trials in the outbox are sent. If no process runs the search, runs that are still RUNNING
    are closed: those of trials as KILLED, that of the search with its last status, or as
    KILLED if its process died. Calling this again changes nothing.

    Args:
        directory: The project folder.
        tracking_uri: Where to send the runs; None for where the search logged.

    Returns:
        Counts of trials that were sent and that still wait.

    Raises:
        StateError: The folder holds no search, or none that was tracked by MLflow.
        TrackingError: The store cannot be used, does not answer, or is not known.
    """
    search = SearchInfo.load(directory)
    settings = MLflowTracker.settings_of(directory)
    if search is None or (settings is None and tracking_uri is None):
        raise StateError(
            "`directory` must be the folder of a search that MLflow tracked; got "
            f"{str(directory)!r}"
        )
    settings = {**(settings or {}), **({"tracking_uri": tracking_uri} if tracking_uri else {})}
    check_address(settings)
    tracker = MLflowTracker(**settings)
    outbox = Outbox(directory)
    path = ProjectLayout.of(directory).tracking
    saved = read_json(path) if path.exists() else None
    before = len(outbox.records())
    status: Status | None = None
    with contextlib.ExitStack() as stack:
        try:
            # No other process can start the search inside this block.
            stack.enter_context(exclusive_search_lock(directory))
            status = MLflowTracker.last_status(directory) or KILLED
        except StateError:
            status = None  # another process runs the search, and will end its runs
        records = list(load_records(directory))
        tracker.search_started(search, records)
        if tracker.parent_run_id is None:
            if saved is not None:
                # `search_started` replaced what the search had saved; no server has it yet.
                write_json(path, saved)
            raise TrackingError(
                "`tracking_uri` must be a store that answers; got "
                f"'{public_uri(tracker.tracking_uri)}', which does not. "
                f"{counted_are(before, 'trial')} kept in {outbox.folder}."
            )
        if status is not None:
            tracker.search_ended(status)
        else:
            tracker.leave()
    waiting = len(outbox.records())
    return Synced(
        len(records), before - waiting, waiting, status, public_uri(tracker.tracking_uri)
    )


def check_address(settings: Mapping[str, Any]) -> None:
    """Check that the address of the store is known, since one with a password is not saved.

    Args:
        settings: Arguments of an `MLflowTracker`.

    Raises:
        TrackingError: The address is neither in the settings nor in the environment; MLflow's
            default would be another store.
    """
    import mlflow

    if settings.get("tracking_uri") is None and not mlflow.is_tracking_uri_set():
        raise TrackingError(
            "`tracking_uri` must be the address that the search logged to, which holds a "
            "password and so was not saved; got None. Pass it as `--tracking-uri` or in "
            "MLFLOW_TRACKING_URI."
        )

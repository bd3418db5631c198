"""Sending by hand what a search could not send."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import driven
from keras_nas_plugin.tracking.connection import public_uri
from keras_nas_plugin.tracking.mlflow_tracker import NOTE_FILE, MLflowTracker
from keras_nas_plugin.tracking.outbox import Outbox
from keras_nas_plugin.tracking.records import KILLED, SearchInfo, load_records


@dataclasses.dataclass(frozen=True)
class Synced:
    """What came of a call of `sync`.

    Attributes:
        trials: Trials of the search that have ended.
        sent: Those among them that had been waiting and are in the store now.
        waiting: Those that wait still, because the store does not answer or refuses them.
        status: What the search's run ended with; None while the search goes on.
        tracking_uri: Where the runs are.
    """

    trials: int
    sent: int
    waiting: int
    status: str | None
    tracking_uri: str


def sync(directory: str | os.PathLike, *, tracking_uri: str | None = None) -> Synced:
    """Bring the runs of a search up to date with its project folder.

    Trials that wait are sent; runs that are still RUNNING of a search that no process drives
    are closed: those of trials as KILLED, that of the search with its last status, or as
    KILLED where its process died. Doing it again changes nothing.

    Args:
        directory: The project folder.
        tracking_uri: Where to, in place of where the search logged.

    Returns:
        What was done.

    Raises:
        StateError: The folder holds no search, or none that was tracked by MLflow.
        TrackingError: The store cannot be used, does not answer, or is not known.
    """
    search = SearchInfo.load(directory)
    settings = MLflowTracker.settings_of(directory)
    if search is None or (settings is None and tracking_uri is None):
        raise StateError(
            "`directory` needs the folder of a search that MLflow tracked; received "
            f"{str(directory)!r}"
        )
    settings = {**(settings or {}), **({"tracking_uri": tracking_uri} if tracking_uri else {})}
    check_known(settings)
    tracker = MLflowTracker(**settings)
    outbox = Outbox(directory)
    note = Path(directory) / NOTE_FILE
    noted = read_json(note) if note.exists() else None
    before = len(outbox.records())
    with contextlib.ExitStack() as stack:
        try:
            # While this lasts, no process begins to drive the search.
            stack.enter_context(driven(directory))
            status = MLflowTracker.last_status(directory) or KILLED
        except StateError:
            status = None  # one does, and ends the runs itself
        records = list(load_records(directory))
        tracker.search_started(search, records)
        if tracker.parent_run_id is None:
            if noted is not None:
                # Where the search logs and how it ended, which no server has been told yet.
                write_json(note, noted)
            raise TrackingError(
                "`tracking_uri` needs a store that answers; received "
                f"'{public_uri(tracker.tracking_uri)}'. {before} trials wait in {outbox.folder}."
            )
        if status is not None:
            tracker.search_ended(status)
        else:
            tracker.leave()
    waiting = len(outbox.records())
    return Synced(
        len(records), before - waiting, waiting, status, public_uri(tracker.tracking_uri)
    )


def check_known(settings: Mapping[str, Any]) -> None:
    """An address with a password is not written down; MLflow's default is another place.

    Raises:
        TrackingError: The address is neither in the settings nor in the environment.
    """
    import mlflow

    if settings.get("tracking_uri") is None and not mlflow.is_tracking_uri_set():
        raise TrackingError(
            "`tracking_uri` needs the address at which the search logged, which holds a password "
            "and so is not written down; received None. Give it as `--tracking-uri` or in "
            "MLFLOW_TRACKING_URI."
        )

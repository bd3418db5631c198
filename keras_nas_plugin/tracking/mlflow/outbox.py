"""Stores trials on disk until a tracking server has confirmed them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import TEMPORARY_PREFIX, file_lock, read_json, write_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import TrialRecord

logger = logging.getLogger("keras_nas_plugin")


class Outbox:
    """One file per trial that still has to be sent: ``<directory>/outbox/<trial id>.json``.

    A record is put here before it is sent, and removed once the server has all of it. A
    process that is killed in between sends it again, so sending twice must do no harm. One
    thread may put records here while another thread sends them.

    Args:
        directory: The project folder of the search.

    Attributes:
        folder: The folder of the files.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        layout = ProjectLayout.of(directory)
        self.folder = layout.outbox
        self._sending_lock = layout.sending_lock
        self._lock = threading.Lock()
        self._latest: dict[str, TrialRecord] = {}

    def put(self, record: TrialRecord) -> None:
        """Store a record until `remove`, replacing an earlier one of the same trial.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._latest[record.trial_id] = record
            write_json(self._file(record.trial_id), dataclasses.asdict(record))

    def remove(self, record: TrialRecord) -> None:
        """Remove a record, unless a later one of the same trial has replaced it."""
        with self._lock:
            latest = self._latest.get(record.trial_id, record)
            if (latest.started_ms, latest.ended_ms) == (record.started_ms, record.ended_ms):
                self._latest.pop(record.trial_id, None)
                try:
                    self._file(record.trial_id).unlink(missing_ok=True)
                except OSError as error:  # it is sent once more, which does no harm
                    logger.debug("A trial that was sent stays in `%s`: %s", self.folder, error)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Let one process at a time create and fill the runs of this search.

        Two processes that look for the run of a trial at the same time would both find none.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self._sending_lock))
            except OSError as error:  # a full disk, which stops every other process as well
                logger.debug("Runs are written without a lock: %s", error)
            yield

    def has(self, trial_id: str) -> bool:
        """Whether there is a record of this trial."""
        return self._file(trial_id).exists()

    def records(self) -> list[TrialRecord]:
        """All records, in the order in which the trials ended.

        A file that cannot be read is logged and kept for inspection.
        """
        records = []
        for file in self.folder.glob("*.json"):
            if file.name.startswith(TEMPORARY_PREFIX):
                continue  # left by a process that was killed while it wrote
            try:
                records.append(TrialRecord.of(read_json(file)))
            except FileNotFoundError:
                continue  # another worker of this search has sent it meanwhile
            except (StateError, KeyError, TypeError, OSError) as error:
                logger.warning("A trial that waits in `%s` cannot be read: %s", file, error)
        return sorted(records, key=lambda record: (record.ended_ms, record.trial_id))

    def _file(self, trial_id: str) -> Path:
        return self.folder / f"{urllib.parse.quote(trial_id, safe='')}.json"

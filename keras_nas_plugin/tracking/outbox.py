"""Trials that a tracking server has not confirmed yet, kept on disk."""

from __future__ import annotations

import dataclasses
import logging
import os
import urllib.parse
from pathlib import Path

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import TEMPORARY_PREFIX, read_json, write_json
from keras_nas_plugin.tracking.records import TrialRecord

_FOLDER = "outbox"

_log = logging.getLogger("keras_nas_plugin")


class Outbox:
    """One file per trial that still has to be sent: ``<directory>/outbox/<trial id>.json``.

    A record is put here before it is sent and removed once the server has all of it, so a
    process killed in between sends it again. Sending twice must therefore do no harm.

    Args:
        directory: The project folder of the search.

    Attributes:
        folder: Where the files are.
    """

    def __init__(self, directory: str | os.PathLike) -> None:
        self.folder = Path(directory) / _FOLDER

    def put(self, record: TrialRecord) -> None:
        """Keep ``record`` until `remove`, in place of an earlier one of the same trial.

        Raises:
            OSError: The folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(record.trial_id), dataclasses.asdict(record))

    def remove(self, trial_id: str) -> None:
        """Forget a trial; one that is not there is no error."""
        self._file(trial_id).unlink(missing_ok=True)

    def records(self) -> list[TrialRecord]:
        """What waits, in the order in which the trials ended.

        A file that cannot be read is logged and left where it is, for a human to look at.
        """
        records = []
        for file in self.folder.glob("*.json"):
            if file.name.startswith(TEMPORARY_PREFIX):
                continue  # what a killed process left of a write
            try:
                records.append(TrialRecord.of(read_json(file)))
            except FileNotFoundError:
                continue  # another worker of this search has sent it meanwhile
            except (StateError, KeyError, TypeError, OSError) as error:
                _log.warning("A trial that waits in `%s` cannot be read: %s", file, error)
        return sorted(records, key=lambda record: (record.ended_ms, record.trial_id))

    def _file(self, trial_id: str) -> Path:
        return self.folder / f"{urllib.parse.quote(trial_id, safe='')}.json"

"""The state of a trial whose run is not up to date in the store."""

from __future__ import annotations

import dataclasses
import enum

from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.tracking.mlflow.search_runs import TrialRun


class SyncState(enum.Enum):
    """Why the run of a trial is not final yet."""

    #: The trial trains in this process.
    TRAINING = enum.auto()
    #: The trial ended, and its record has to be sent.
    WAITING = enum.auto()
    #: The trial ended, and the store does not accept its record, which stays in the outbox.
    REJECTED = enum.auto()
    #: The store shows the run as running, and this process does not train the trial.
    ABANDONED = enum.auto()


@dataclasses.dataclass
class TrialSync:
    """A trial whose run is not final yet.

    ::

        ABANDONED --begin--> TRAINING --end--> WAITING --sent--> (forgotten)
                                 |                |
                              abandon           reject --> REJECTED --end--> WAITING
                                 v
                             ABANDONED

    Attributes:
        trial_id: The trial.
        state: See `SyncState`.
        record: The record to send; set in the states `WAITING` and `REJECTED`.
        saved: Whether the record is in the outbox.
        run: The run that was opened for the attempt that trains, or that just ended.
        shown_running: Whether the store shows the run as running.
        may_have_run: Whether a request to create the run was sent whose answer was lost.
        failures: For each failure to send this record, how many records had been sent before it.
    """

    trial_id: str
    state: SyncState = SyncState.ABANDONED
    record: TrialRecord | None = None
    saved: bool = False
    run: TrialRun | None = None
    shown_running: bool = False
    may_have_run: bool = False
    failures: list[int] = dataclasses.field(default_factory=list)

    @property
    def unsent(self) -> TrialRecord | None:
        """The record that the store does not have; None while the trial trains or is abandoned."""
        return self.record if self.state in (SyncState.WAITING, SyncState.REJECTED) else None

    def begin(self) -> None:
        """An attempt at the trial starts; it replaces an earlier attempt that was not sent."""
        self.state = SyncState.TRAINING
        self.record = self.run = None

    def end(self, record: TrialRecord, *, saved: bool) -> None:
        """An attempt ended; failures to send the record of an earlier attempt are forgotten.

        Args:
            record: The trial.
            saved: Whether the record is in the outbox.
        """
        self.state = SyncState.WAITING
        self.record, self.saved = record, saved
        self.failures.clear()

    def reject(self) -> None:
        """The store does not accept the record."""
        self.state = SyncState.REJECTED

    def abandon(self) -> None:
        """No process trains the trial any more."""
        self.state = SyncState.ABANDONED
        self.run = None

    def fail(self, sent: int, *, limit: int) -> bool:
        """Sending the record failed.

        Args:
            sent: How many records of other trials had been sent before.
            limit: How many failures count as a rejection.

        Returns:
            Whether it has failed ``limit`` times while other records were accepted.
        """
        self.failures.append(sent)
        return len(self.failures) >= limit and sent > self.failures[0]

    def take_run(self) -> TrialRun | None:
        """Return the open run and forget it: after a failure it is looked up in the store."""
        run, self.run = self.run, None
        return run

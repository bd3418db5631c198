"""What a tracker is told of a search: the one interface between tuner and tracking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.tracking.records import SearchInfo, Status, TrialRecord


class Tracker:
    """Follows a search. Every method does nothing here: override what you need.

    The tuner calls these from the thread that trains. An exception in one of them is
    logged and does not end the search. A resumed search calls `search_started` again
    with the same ``search_id``, and `trial_started` again for the trial that was cut off.
    """

    #: Whether it shows the report that lies in the project folder once a search has ended.
    #: Drawing it takes seconds, so it is written only if some tracker does.
    shows_report = False

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """The search starts or goes on.

        Args:
            search: What is searched, how and where.
            records: The trials that ended before, in the order of their ids.
        """

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """A trial starts to train with these active hyperparameters."""

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """An epoch (from 0) of the running trial ended with these metrics."""

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial finished, failed or was killed."""

    def search_ended(self, status: Status) -> None:
        """The search came to its end, failed, or was interrupted."""

    def flush(self) -> None:
        """Wait until all that was told is where it belongs, or kept for later.

        A worker calls this when it is done, since the chief ends the search.
        """

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run where it is logged; None when there is none."""
        return None

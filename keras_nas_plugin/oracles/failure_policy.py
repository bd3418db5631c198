"""Which failed trials are retried, and when failures end a search."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterable

from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import TooManyFailuresError
from keras_nas_plugin.oracles import fatal as fatal  # its import changes the bases of the errors
from keras_nas_plugin.oracles.trial_report import last_error
from keras_nas_plugin.records.locating import location_in
from keras_nas_plugin.roles import is_chief


@dataclasses.dataclass(frozen=True)
class FailurePolicy:
    """Decides whether a failed trial is retried, and whether it ends the search.

    Attributes:
        max_retries_per_trial: Number of retries before a trial counts as failed.
        max_consecutive_failed_trials: Number of consecutive failed trials that ends the search;
            0 for no limit.
    """

    max_retries_per_trial: int
    max_consecutive_failed_trials: int

    def allows_retry(self, trial: Trial, runs: int) -> bool:
        """Whether a trial may be retried.

        Args:
            trial: The trial after its last run.
            runs: Number of its runs so far.
        """
        return trial.status == TrialStatus.INVALID and runs <= self.max_retries_per_trial

    def check(self, trial: Trial, latest: Iterable[Trial]) -> None:
        """Raise an error if too many trials in a row have failed.

        Args:
            trial: The trial that has just ended; nothing happens unless it failed.
            latest: Ended trials, the latest first; read up to the first that did not fail.

        Raises:
            TooManyFailuresError: The limit is reached.
        """
        limit = self.max_consecutive_failed_trials
        if not limit or trial.status != TrialStatus.FAILED:
            return
        failed = sum(1 for _ in itertools.takewhile(_failed, latest))
        if failed >= limit:
            location = location_in(trial.message or "")
            raise TooManyFailuresError(
                f"{failed} trials in a row failed; `max_consecutive_failed_trials` allows fewer "
                f"than {limit}. The last one: {last_error(trial.message)}"
                + (f"\n  at {location}" if location else "")
            )


def _failed(trial: Trial) -> bool:
    return trial.status == TrialStatus.FAILED


def called_by_remote_worker() -> bool:
    """Whether this thread of KerasTuner's chief serves a call of a worker.

    An exception in such a call reaches neither the user nor the worker: the chief (1.4.8) hides
    it and never exits.
    """
    return is_chief() and threading.current_thread() is not threading.main_thread()

"""Wall-clock budget of a search."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from keras_nas_plugin.errors import BudgetExhaustedError

# Shares of the budget that scoring may take before the first trial, and altogether.
_FIRST_SCORING, _SCORING = 0.05, 0.2


class Budget:
    """Limits the wall-clock time of one call of `search`, counted from `start`.

    Args:
        seconds: The budget, or None for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        #: End of the budget in seconds of `time.monotonic`; None without a limit or before
        #: `start`.
        self.deadline: float | None = None
        self._longest = 0.0
        self._started_at: float | None = None
        self._ended = 0

    def start(self, durations: Iterable[float] = ()) -> None:
        """Start counting.

        Args:
            durations: Seconds that earlier trials of the search took.
        """
        self._started_at, self._ended = time.monotonic(), 0
        self.deadline = None if self.seconds is None else self._started_at + self.seconds
        self._longest = max(durations, default=0.0)

    def record_trial(self, seconds: float) -> None:
        """Record how long a trial took."""
        self._longest = max(self._longest, seconds)
        self._ended += 1

    def remaining_trials(self) -> int | None:
        """How many trials are going to end within the budget, at the speed so far.

        Returns:
            None without a limit, and before the first trial has ended.
        """
        if self.deadline is None or self._started_at is None or not self._ended:
            return None
        now = time.monotonic()
        return int(max(0.0, self.deadline - now) / max(now - self._started_at, 1e-9) * self._ended)

    def scoring_seconds(self) -> float:
        """Seconds that scoring candidates without training may have taken by now.

        A twentieth of the budget before the first trial, and a fifth of it in the end; infinite
        without a limit.
        """
        if self.seconds is None:
            return math.inf
        elapsed = 0.0 if self._started_at is None else time.monotonic() - self._started_at
        return _FIRST_SCORING * self.seconds + (_SCORING - _FIRST_SCORING) * elapsed

    @property
    def used(self) -> float:
        """Share of the budget that has passed since `start`; 0 without a limit."""
        if self.deadline is None or not self.seconds:
            return 0.0
        return 1.0 - (self.deadline - time.monotonic()) / self.seconds

    def allows_trial(self) -> bool:
        """Whether a trial as long as the longest one so far would end within the budget."""
        return self.deadline is None or time.monotonic() + self._longest < self.deadline

    def check(self, activity: str) -> None:
        """Raise if the budget has ended.

        Args:
            activity: What candidates are being, for the message; for example ``"screened"``.

        Raises:
            BudgetExhaustedError: The deadline has passed.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise BudgetExhaustedError(f"`budget` ended while candidates were being {activity}")

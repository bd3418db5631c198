"""Wall-clock budget of a search."""

from __future__ import annotations

import time
from collections.abc import Iterable

from keras_nas_plugin.errors import BudgetExhaustedError


class Budget:
    """Seconds that a search may take, counted from now.

    Args:
        seconds: The budget, or None for no limit.
        durations: Seconds that earlier trials of the search took.
    """

    def __init__(self, seconds: float | None, durations: Iterable[float] = ()) -> None:
        #: End of the budget in seconds of `time.monotonic`, or None.
        self.deadline = None if seconds is None else time.monotonic() + seconds
        self._longest = max(durations, default=0.0)

    def took(self, seconds: float) -> None:
        """Note how long a trial took."""
        self._longest = max(self._longest, seconds)

    def allows_another(self) -> bool:
        """Whether a trial as long as the longest so far would end in time."""
        return self.deadline is None or time.monotonic() + self._longest < self.deadline

    def check(self, doing: str) -> None:
        """Raise once the budget has ended.

        Args:
            doing: What is going on, for the message.

        Raises:
            BudgetExhaustedError: The deadline has passed.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise BudgetExhaustedError(f"`budget` ended while candidates were {doing}")

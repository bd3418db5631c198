"""What a person sees while a search runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.records import FAILED, FINISHED, SearchInfo, Status, TrialRecord

_EPOCHS = "tuner/epochs"  # by which Hyperband and successive halving say how long a trial trains


class ProgressDisplay(Tracker):
    """One live line on a terminal; a plain line per trial elsewhere.

    Args:
        console: Where to write; its `is_terminal` decides which of the two.
        epochs: Epochs per trial, if known.
        budget: Seconds that the search may take, if limited.
    """

    def __init__(
        self,
        console: Console,
        epochs: int | None = None,
        budget: float | None = None,
    ) -> None:
        self._console = console
        self._epochs = epochs
        # Promising trials are trained further: nobody knows how many there will be.
        self._promotes = False
        self._deadline = None if budget is None else time.monotonic() + budget
        self._live: Live | None = None
        self._search: SearchInfo | None = None
        self._best: TrialRecord | None = None
        self._ids: set[str] = set()
        self._seconds: list[float] = []
        self._running = ""
        self._started = time.monotonic()

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`."""
        self._search = search
        for record in records:
            self._count(record)
        total = f"{self._total} trials" if self._total else "trials"
        done = f", {self._ended} of them done" if self._ended else ""
        self._print(
            f"Searching with {search.strategy} for {search.objective} ({search.direction}), "
            f"{total}{done}, on {search.environment.get('device', 'this machine')}"
        )
        if self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._line, transient=True)
            self._live.start()

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._promotes |= _EPOCHS in values
        self._epochs = values.get(_EPOCHS, self._epochs)
        self._running = "building"
        self._started = time.monotonic()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        of = f"/{self._epochs}" if self._epochs else ""
        self._running = f"epoch {epoch + 1}{of}"

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        better = self._count(record)
        number = f"trial {record.trial_id} ({self._position()})"
        if record.status == FINISHED:
            star = " (best so far)" if better else ""
            star = " (breaks a constraint)" if self._search.breaks(record) else star
            text = f"{number}: {self._search.objective} {record.score:.4f}{star}"
        else:
            text = f"{number}: {record.status.lower()}: {record.error}"
        if not self._console.is_terminal or record.status == FAILED:
            self._print(f"{text}, {record.seconds:.1f} s{self._left()}")

    def search_ended(self, status: Status) -> None:
        """See `Tracker.search_ended`."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _count(self, record: TrialRecord) -> bool:
        self._running = ""
        self._promotes |= _EPOCHS in record.values
        if record.status in (FINISHED, FAILED):
            # A retry, or a record that an earlier process left, is the same trial again.
            self._ids.add(record.trial_id)
        self._seconds.append(record.seconds)
        standing = self._search.standing(record)
        best = self._best and self._search.standing(self._best)
        better = standing is not None and (best is None or standing < best)
        if better:
            self._best = record
        return better

    @property
    def _ended(self) -> int:
        return len(self._ids)

    @property
    def _total(self) -> int | None:
        """Trials that there will be at most; None where nobody knows."""
        return None if self._promotes else self._search.max_trials

    def _position(self) -> str:
        return f"{self._ended}/{self._total}" if self._total else str(self._ended)

    def _left(self) -> str:
        """Time left: the mean of the last ten trials for each that remains."""
        recent = self._seconds[-10:]
        if not self._total or not recent:
            return ""
        remaining = self._total - self._ended
        if remaining <= 0:
            return ""
        seconds = remaining * sum(recent) / len(recent)
        if self._deadline is not None:
            seconds = min(seconds, max(self._deadline - time.monotonic(), 0.0))
        return f", about {_clock(seconds)} left"

    def _line(self) -> Text:
        """The live line."""
        number = min(self._ended + 1, self._total or self._ended + 1)
        total = f"/{self._total}" if self._total else ""
        parts = [f"trial {number}{total}"]
        if self._running:
            parts.append(f"{self._running}, {_clock(time.monotonic() - self._started)}")
        if self._best is not None:
            score = f"{self._search.objective} {self._best.score:.4f}"
            parts.append(f"best {score} (trial {self._best.trial_id})")
        left = self._left().removeprefix(", ")
        return Text("  ·  ".join([*parts, *([left] if left else [])]), overflow="ellipsis")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Interrupter(Tracker):
    """Interrupts a search at its next trial or epoch once a signal came.

    Python drops an exception that a signal raises inside a weak reference's callback or a
    destructor, and with it the interrupt.

    Args:
        signals: Grows with each signal.
    """

    def __init__(self, signals: Sequence[int]) -> None:
        self._signals = signals

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._check()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        self._check()

    def _check(self) -> None:
        if self._signals:
            raise KeyboardInterrupt


def _clock(seconds: float) -> str:
    """Seconds as people say them.

    >>> _clock(8), _clock(125), _clock(7300)
    ('8 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

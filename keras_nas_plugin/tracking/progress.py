"""Progress of a running search in a terminal, a pipe or a notebook."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from keras_nas_plugin.records.ranking import RankKey, rank_key, violates_constraints
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, Status, TrialRecord
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.formatting import duration_text

# The hyperparameter with which Hyperband and successive halving set the epochs of a trial.
_EPOCHS = "tuner/epochs"
# A notebook receives a message for each update of its line.
_NOTEBOOK_SECONDS = 0.2


class ProgressDisplay(Tracker):
    """Shows one live line on a terminal and in a notebook, else prints one line per trial.

    ```python
    tuner = NASTuner(build_model, oracle, listeners=[ProgressDisplay()])
    tuner.search(x, y, validation_data=(x_val, y_val), epochs=5, verbose=0)
    ```

    Args:
        console: The console to write to, which decides between the two; None for standard error.
        epochs: Epochs per trial, or None if not known.
        budget: Wall-clock limit of the search in seconds, or None.
    """

    shows_failures = True

    #: Set by `search_started`, which is called before any other method.
    _search: SearchInfo

    def __init__(
        self,
        console: Console | None = None,
        epochs: int | None = None,
        budget: float | None = None,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._epochs = epochs
        # Whether promising trials are trained further, so that the number of trials is unknown.
        self._promotes = False
        self._deadline = None if budget is None else time.monotonic() + budget
        self._live: Live | _NotebookLine | None = None
        self._best: TrialRecord | None = None
        self._best_key: RankKey | None = None
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
        finished = f", {self._ended} of them already ended" if self._ended else ""
        self._print(
            f"Searching with {search.strategy} for {search.objective} ({search.direction}), "
            f"{total}{finished}, on {search.environment.get('device', 'this machine')}"
        )
        if self._console.is_jupyter:
            self._live = _NotebookLine(self._line)
        elif self._console.is_terminal:
            self._live = Live(console=self._console, get_renderable=self._line, transient=True)
            self._live.start()

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        self._promotes |= _EPOCHS in values
        self._epochs = values.get(_EPOCHS, self._epochs)
        self._running = "building"
        self._started = time.monotonic()
        self._update()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        total = f"/{self._epochs}" if self._epochs else ""
        self._running = f"epoch {epoch + 1}{total}"
        self._update()

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        better = self._count(record)
        number = f"trial {record.trial_id} ({self._position()})"
        if record.status == FINISHED:
            note = " (best so far)" if better else ""
            if violates_constraints(self._search, record):
                note = " (violates a constraint)"
            text = f"{number}: {self._search.objective} {record.score:.4f}{note}"
        else:
            text = f"{number}: {record.status.lower()}: {record.error}"
        self._update()
        if self._live is None or record.status == FAILED:
            self._print(f"{text}, {record.seconds:.1f} s{self._remaining_text()}")
            if record.location is not None:
                self._print(f"  at {record.location}")

    def search_ended(self, status: Status) -> None:
        """See `Tracker.search_ended`."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _update(self) -> None:
        """A terminal's line updates itself, from a thread of its own."""
        if isinstance(self._live, _NotebookLine):
            self._live.update()

    def _count(self, record: TrialRecord) -> bool:
        self._running = ""
        self._promotes |= _EPOCHS in record.values
        if record.trial_id in self._search.exclusions:
            return False
        if record.status in (FINISHED, FAILED):
            # A retry of a trial, or its record from an earlier process, is counted once.
            self._ids.add(record.trial_id)
        self._seconds.append(record.seconds)
        key = rank_key(self._search, record)
        better = key is not None and (self._best_key is None or key < self._best_key)
        if better:
            self._best, self._best_key = record, key
        return better

    @property
    def _ended(self) -> int:
        return len(self._ids)

    @property
    def _total(self) -> int | None:
        """The largest possible number of trials; None if it is not known."""
        return None if self._promotes else self._search.max_trials

    def _position(self) -> str:
        return f"{self._ended}/{self._total}" if self._total else str(self._ended)

    def _remaining_text(self) -> str:
        """Estimate of the remaining time, from the mean of the last ten trials."""
        recent = self._seconds[-10:]
        if not self._total or not recent:
            return ""
        remaining = self._total - self._ended
        if remaining <= 0:
            return ""
        seconds = remaining * sum(recent) / len(recent)
        if self._deadline is not None:
            seconds = min(seconds, max(self._deadline - time.monotonic(), 0.0))
        return f", about {duration_text(seconds)} left"

    def _line(self) -> Text:
        """The live line."""
        number = min(self._ended + 1, self._total or self._ended + 1)
        total = f"/{self._total}" if self._total else ""
        parts = [f"trial {number}{total}"]
        if self._running:
            parts.append(f"{self._running}, {duration_text(time.monotonic() - self._started)}")
        if self._best is not None:
            score = f"{self._search.objective} {self._best.score:.4f}"
            parts.append(f"best {score} (trial {self._best.trial_id})")
        remaining = self._remaining_text().removeprefix(", ")
        if remaining:
            parts.append(remaining)
        return Text("  ·  ".join(parts), overflow="ellipsis")

    def _print(self, text: str) -> None:
        if self._console.is_jupyter:
            print(text)  # rich would show every line as an element of its own
            return
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _NotebookLine:
    """One line of a notebook's output that is replaced in place.

    Args:
        line: Returns the text.
    """

    def __init__(self, line: Callable[[], Text]) -> None:
        from IPython.display import display

        self._line = line
        self._shown_at = -math.inf
        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self) -> None:
        """Show the line as it is now, unless it was shown a moment ago."""
        now = time.monotonic()
        if now - self._shown_at >= _NOTEBOOK_SECONDS:
            self._shown_at = now
            self._show()

    def stop(self) -> None:
        """Show the line for the last time."""
        self._show()

    def _show(self) -> None:
        text = self._line().plain
        content = {"text/plain": text, "text/html": f"<code>{html.escape(text)}</code>"}
        self._handle.update(content, raw=True)

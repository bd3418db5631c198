"""Progress of a running search in a terminal, a pipe or a notebook."""

from __future__ import annotations

import dataclasses
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
from keras_nas_plugin.records.trial import FAILED, FINISHED, Status, TrialRecord, is_supernet
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.formatting import duration_text
from keras_nas_plugin.wording import counted

# The hyperparameter with which Hyperband and successive halving set the epochs of a trial.
_EPOCHS = "tuner/epochs"
# Running trials that are shown; further ones are counted.
_SHOWN = 8
# A notebook receives a message for each update of its line.
_NOTEBOOK_SECONDS = 0.2


@dataclasses.dataclass
class _Running:
    """A trial that trains.

    Attributes:
        epochs: Its epochs, or None if not known.
        epoch: How many of them have ended.
        score: Value of the objective after the last of these; None if that is not reported.
        started: When it started, in seconds of `time.monotonic`.
    """

    epochs: int | None
    epoch: int = 0
    score: float | None = None
    started: float = dataclasses.field(default_factory=time.monotonic)


class ProgressDisplay(Tracker):
    """Shows a live line on a terminal and in a notebook, else prints one line per trial.

    While several trials train at once, the live line is followed by one for each of them.

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
        self._running: dict[str, _Running] = {}
        # The largest number of trials that trained at once.
        self._parallel = 1
        self._failed: set[str] = set()

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`."""
        self._search = search
        for record in records:
            self._count(record)
        total = counted(self._total, "trial") if self._total else "trials"
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
        self._running[trial_id] = _Running(values.get(_EPOCHS, self._epochs))
        self._parallel = max(self._parallel, len(self._running))
        self._update()

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        running = self._running.setdefault(trial_id, _Running(self._epochs))
        running.epoch = epoch + 1
        score = logs.get(next(iter(self._search.directions)))
        running.score = None if score is None else float(score)
        self._update()

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        if is_supernet(record.trial_id):
            self._end_supernet(record)
            return
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

    def _end_supernet(self, record: TrialRecord) -> None:
        self._running.pop(record.trial_id, None)
        self._update()
        count = len(record.curves[0]) if record.curves else 0
        epochs = counted(count, "epoch")
        self._print(
            f"{record.trial_id}: {record.status.lower()}, {epochs}, {record.seconds:.1f} s"
        )

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
        self._running.pop(record.trial_id, None)
        self._promotes |= _EPOCHS in record.values
        if record.trial_id in self._search.exclusions:
            return False
        if record.status in (FINISHED, FAILED):
            # A retry of a trial, or its record from an earlier process, is counted once.
            self._ids.add(record.trial_id)
        if record.status == FAILED:
            self._failed.add(record.trial_id)
        else:  # a retry
            self._failed.discard(record.trial_id)
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
        """Estimate of the remaining time, from the mean of the last ten trials.

        As many trials as have trained at once until now are assumed to do so from now on.
        """
        recent = self._seconds[-10:]
        if not self._total or not recent:
            return ""
        remaining = self._total - self._ended
        if remaining <= 0:
            return ""
        seconds = remaining * sum(recent) / len(recent) / min(self._parallel, remaining)
        if self._deadline is not None:
            seconds = min(seconds, max(self._deadline - time.monotonic(), 0.0))
        return f", about {duration_text(seconds)} left"

    def _line(self) -> Text:
        """The live line, and the running trials if there are several."""
        if self._parallel > 1:
            parts = [f"{self._position()} trials"]
            parts += [f"{len(self._failed)} failed"] if self._failed else []
        else:
            number = min(self._ended + 1, self._total or self._ended + 1)
            parts = [f"trial {number}/{self._total}" if self._total else f"trial {number}"]
            # A copy: a terminal's line is drawn by a thread of its own.
            parts += [self._running_text(trial) for trial in list(self._running.values())]
        if self._best is not None:
            score = f"{self._search.objective} {self._best.score:.4f}"
            parts.append(f"best {score} (trial {self._best.trial_id})")
        remaining = self._remaining_text().removeprefix(", ")
        if remaining:
            parts.append(remaining)
        lines = ["  ·  ".join(parts)]
        if self._parallel > 1:
            running = list(self._running.items())
            lines += [
                f"  trial {trial_id}: {self._running_text(trial)}"
                for trial_id, trial in running[:_SHOWN]
            ]
            if len(running) > _SHOWN:
                lines.append(f"  and {len(running) - _SHOWN} more")
        return Text("\n".join(lines), overflow="ellipsis", no_wrap=True)

    def _running_text(self, trial: _Running) -> str:
        """What a trial does, its score so far, and since when."""
        total = f"/{trial.epochs}" if trial.epochs else ""
        parts = [f"epoch {trial.epoch}{total}" if trial.epoch else "building"]
        if trial.score is not None:
            parts.append(f"{next(iter(self._search.directions))} {trial.score:.4f}")
        return ", ".join([*parts, duration_text(time.monotonic() - trial.started)])

    def _print(self, text: str) -> None:
        if self._console.is_jupyter:
            print(text)  # rich would show every line as an element of its own
            return
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _NotebookLine:
    """Text in a notebook's output that is replaced in place.

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
        lines = html.escape(text).replace("\n", "<br>")
        content = {"text/plain": text, "text/html": f"<code>{lines}</code>"}
        self._handle.update(content, raw=True)

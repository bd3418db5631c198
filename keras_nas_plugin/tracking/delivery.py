"""Brings a search's trials to an MLflow store, now or as soon as it answers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.tracking import connection
from keras_nas_plugin.tracking.calibration import OBSERVED, RANKING, Calibration
from keras_nas_plugin.tracking.leaderboard import Leaderboard, Progress
from keras_nas_plugin.tracking.note import render_note
from keras_nas_plugin.tracking.outbox import Outbox
from keras_nas_plugin.tracking.payload import Point
from keras_nas_plugin.tracking.records import SearchInfo, Status, TrialRecord
from keras_nas_plugin.tracking.runs import NOTE, SearchRuns
from keras_nas_plugin.tracking.views import write_view

BEST = "best_objective"

_REPROBE_SECONDS = 1.0
# After an outage no trial waits for more than this many older ones to be sent.
_SENT_PER_TRIAL = 25

_log = logging.getLogger("keras_nas_plugin")

_T = TypeVar("_T")


class Delivery:
    """What has to reach the store and what has, for one search in one process.

    Args:
        search: The search.
        uri: Where runs are kept.
        registry_uri: Where models are registered; None for the same place.
        experiment: Name of the MLflow experiment.
        run_name: Name of the search's run.
        tags: The user's own tags for every run.
    """

    def __init__(
        self,
        search: SearchInfo,
        *,
        uri: str,
        registry_uri: str | None,
        experiment: str,
        run_name: str,
        tags: Mapping[str, str],
    ) -> None:
        self.uri = uri
        self.experiment_id: str | None = None
        self.view_key: str | None = None
        self._registry_uri = registry_uri
        self._experiment = experiment
        self._run_name = run_name
        self._tags = tags
        self._search = search
        self._board = Leaderboard(search)
        self._calibration = Calibration(search)
        self._volume = _volume_of(search)
        self._outbox = Outbox(search.directory)
        self._runs: SearchRuns | None = None
        self._online = False
        self._warned = False
        self._earlier: list[TrialRecord] = []
        self._pending: dict[str, TrialRecord] = {}
        self._refused: set[str] = set()
        self._progress: list[Progress] = []
        self._derived: list[Point] = []
        self._run_ids: dict[str, str] = {}
        self._started: dict[str, frozenset[str]] = {}
        self._left_running: dict[str, str] = {}

    @property
    def parent_run_id(self) -> str | None:
        """Id of the search's run; None before the store answered."""
        return self._runs.parent_id if self._runs else None

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run; None when there is none or the store does not answer."""
        if trial_id not in self._run_ids and self._online:
            run = self._attempt(
                f"the search for trial {trial_id}", self._runs.find_trial, trial_id
            )
            if run is not None:
                self._run_ids[trial_id] = run.info.run_id
        return self._run_ids.get(trial_id)

    def open(self, records: Iterable[TrialRecord]) -> None:
        """Connect, and send what an earlier process left unsent.

        Args:
            records: The trials that ended before.

        Raises:
            TrackingError: The store cannot be used as configured. A server that does not
                answer is no error.
        """
        self._earlier = sorted(records, key=lambda record: (record.ended_ms, record.trial_id))
        for record in self._earlier:
            self._enter(record)
        self._pending = {record.trial_id: record for record in self._outbox.records()}
        self._connect(connection.PROBE_SECONDS)
        if self._online:
            self._flush()

    def start(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """Open the run of a trial; without a store, its end will do that."""
        self._started.pop(trial_id, None)
        if not self._online:
            return
        # In a search that began in this process, a trial's first run is made here. The look-up
        # costs a tenth of what a trial costs.
        new = not self._runs.resumed and trial_id not in self._run_ids
        run_id = self._attempt(
            f"the start of trial {trial_id}",
            partial(self._runs.start_trial, new=new),
            trial_id,
            values,
        )
        if run_id is not None:
            self._run_ids[trial_id] = run_id
            self._left_running[trial_id] = run_id
            self._started[trial_id] = frozenset(values)

    def end(self, record: TrialRecord) -> None:
        """Send a trial that ended, or keep it on disk until that works."""
        place = self._enter(record)
        if place is not None:
            proxies = {**record.proxies, OBSERVED: place}
            record = dataclasses.replace(record, proxies=proxies)
        # Last in the order, even where an earlier attempt at the trial still waits.
        self._pending.pop(record.trial_id, None)
        self._pending[record.trial_id] = record
        self._refused.discard(record.trial_id)
        try:
            self._outbox.put(record)
        except OSError as error:
            _log.warning("Trial %s cannot wait on disk: %s", record.trial_id, error)
        self._reconnect()
        if self._online:
            self._flush(limit=_SENT_PER_TRIAL)

    def close(self, status: Status) -> None:
        """Send what waits and end the search's run, and those that nobody goes on with."""
        self._reconnect()
        self._enter_other_workers()
        if self._online:
            self._flush()
        for trial_id, run_id in list(self._left_running.items()):
            if self._online:
                self._attempt(f"the end of trial {trial_id}", self._runs.kill, run_id)
        if self._online:
            self._attempt("the end of the search", self._runs.end_parent, status)
        if self._pending:
            self._say_what_waits()

    # Connecting

    def _reconnect(self) -> None:
        if self._online:
            return
        try:
            self._connect(_REPROBE_SECONDS)
        except TrackingError as error:
            _log.warning("%s", error)

    def _connect(self, timeout: float) -> None:
        """Go online if the store answers within ``timeout`` seconds."""
        if self._runs is not None:
            self._online = connection.answers(self.uri, timeout=timeout)
        else:
            try:
                with connection.bounded_requests():
                    self._runs = self._open_runs(timeout)
                self._online = True
            except connection.UnreachableError as error:
                self._lose(error)
            except TrackingError:
                raise
            except Exception as error:  # stores raise whatever their library raises
                if not connection.lost(error):
                    raise connection.unusable(self.uri, error) from error
                self._lose(error)
        if self._online and self._warned:
            self._warned = False
            _log.info("MLflow at %s answers again.", connection.public_uri(self.uri))

    def _open_runs(self, timeout: float) -> SearchRuns:
        client = connection.connect(self.uri, self._registry_uri, timeout=timeout)
        self.experiment_id = connection.open_experiment(client, self._experiment)
        runs = SearchRuns(client, self.experiment_id, self._search, self._tags)
        runs.open_parent(self._run_name)
        self._save_view(client)
        if runs.resumed:
            self._compare(runs)
        else:
            self._pending = {r.trial_id: r for r in self._earlier} | self._pending
        self._earlier = []
        return runs

    def _save_view(self, client: Any) -> None:
        """Leave charts of the experiment in MLflow's UI; no search depends on them."""
        try:
            self.view_key = write_view(client, self.experiment_id, self._search)
        except Exception as error:  # stores raise whatever their library raises
            if connection.lost(error):
                raise
            _log.warning("MLflow did not take a view of the experiment: %s", error)

    def _compare(self, runs: SearchRuns) -> None:
        """Find what the store lacks of the trials that ended before, and what it runs still."""
        known = runs.trials()
        for trial_id, (run_id, status) in known.items():
            self._run_ids[trial_id] = run_id
            if status == "RUNNING":
                self._left_running[trial_id] = run_id
        lacking = {
            record.trial_id: record
            for record in self._earlier
            if known.get(record.trial_id, (None, None))[1] != record.status
        }
        self._pending = lacking | self._pending
        steps = runs.steps_of_parent(BEST)
        self._progress = [point for point in self._progress if point.step not in steps]
        self._derived = [point for point in self._derived if point.step not in steps]

    def _attempt(self, what: str, call: Callable[..., _T], *args: Any) -> _T | None:
        """Call the store; None, and a line in the log, when that fails."""
        try:
            with connection.bounded_requests():
                return call(*args)
        except Exception as error:  # stores raise whatever their library raises
            if connection.lost(error):
                self._lose(error)
            else:
                _log.warning("MLflow refused %s: %s", what, error)
            return None

    def _lose(self, error: Exception) -> None:
        self._online = False
        _log.debug("The tracking store failed.", exc_info=error)
        if self._warned:
            return
        self._warned = True
        _log.warning(
            "MLflow at %s does not answer. The search goes on; its trials wait in %s and are "
            "sent as soon as it does. Start the server, or check `tracking_uri`. (%s)",
            connection.public_uri(self.uri),
            self._outbox.folder,
            connection.first_line(error),
        )

    def _say_what_waits(self) -> None:
        command = self._search.resume_command
        _log.warning(
            "%d trials wait in %s for MLflow at %s. `keras-nas sync` sends them, and so does "
            "resuming the search%s",
            len(self._pending),
            self._outbox.folder,
            connection.public_uri(self.uri),
            f": {command}" if command else ".",
        )

    # Sending

    def _enter(self, record: TrialRecord) -> float | None:
        """Enter a trial; its place among those with proxies, if it has some."""
        point = self._board.add(record)
        place = self._calibration.add(record)
        if point is not None:
            self._progress.append(point)
        volume = self._volume.add(record) if self._volume else None
        if point is not None and volume is not None:
            self._derived.append(Point(self._volume.metric, volume, point.time_ms, point.step))
        if point is not None and place is not None:
            self._derived += [
                Point(RANKING + name, value, point.time_ms, point.step)
                for name, value in self._calibration.correlations().items()
            ]
        return place

    def _enter_other_workers(self) -> None:
        """Enter trials that other workers of this search ended, for the last note."""
        for folder in sorted(Path(self._search.directory).glob("trial_*")):
            if folder.name.removeprefix("trial_") in self._board:
                continue
            try:
                record = TrialRecord.load(folder)
            except (StateError, OSError, KeyError, TypeError) as error:
                _log.warning("The record of %s cannot be read: %s", folder.name, error)
                continue
            if record is not None:
                self._board.add(record)

    def _flush(self, limit: int | None = None) -> None:
        """Send what waits, oldest first, and bring the search's run up to date."""
        waiting = [r for r in self._pending.values() if r.trial_id not in self._refused]
        for record in waiting[:limit]:
            sent = self._attempt(f"trial {record.trial_id}", self._send, record)
            if not self._online:
                return
            if sent:
                self._pending.pop(record.trial_id)
                self._outbox.remove(record.trial_id)
            else:
                self._refused.add(record.trial_id)
        self._attempt("the search's summary", self._update_parent)

    def _send(self, record: TrialRecord) -> bool:
        trial_id = record.trial_id
        known = self._started.pop(trial_id, None)
        if known is None:
            run_id = self._runs.start_trial(trial_id, record.values, record.started_ms)
            self._run_ids[trial_id] = run_id
            known = frozenset(record.values)
        self._runs.end_trial(self._run_ids[trial_id], record, known)
        self._left_running.pop(trial_id, None)
        return True

    def _update_parent(self) -> None:
        points = [Point(BEST, p.score, p.time_ms, p.step) for p in self._progress]
        points += self._derived
        tags = {NOTE: render_note(self._search, self._board)}
        if self._volume and (reference := self._volume.tag()):
            tags[self._volume.reference_tag] = reference
        best = self._board.best
        if best is not None:
            tags["nas.best_trial_id"] = best.trial_id
            if best.trial_id in self._run_ids:
                tags["nas.best_run_id"] = self._run_ids[best.trial_id]
        self._runs.update_parent(points, tags)
        self._progress, self._derived = [], []


def _volume_of(search: SearchInfo) -> Any:
    """The hypervolume of a search for several objectives; None for one."""
    if len(search.objectives) < 2:
        return None
    # Imports numpy, which the command line must not wait for.
    from keras_nas_plugin.tracking.volume import Volume

    return Volume(search)

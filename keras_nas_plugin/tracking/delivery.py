"""Brings a search's trials to an MLflow store, now or as soon as it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.tracking import connection
from keras_nas_plugin.tracking.link import Link
from keras_nas_plugin.tracking.outbox import Outbox
from keras_nas_plugin.tracking.records import (
    SearchInfo,
    Status,
    TrialRecord,
    load_run_id,
    save_run_id,
)
from keras_nas_plugin.tracking.runs import SearchRuns, TrialRun
from keras_nas_plugin.tracking.standing import BEST, Standing
from keras_nas_plugin.tracking.views import write_view

# The search's run, which everybody looks at, is at most this far behind.
_PARENT_SECONDS = 1.0
# So often a trial is tried that fails while others do not.
_LOSSES = 3
# How often a chief looks what its workers have finished.
_FOLLOW_SECONDS = 1.0

_log = logging.getLogger("keras_nas_plugin")


class Delivery:
    """What has to reach the store and what has, for one search in one process.

    Everything but `keep` and the attributes belongs to one thread at a time; it may wait for
    the store.

    Args:
        search: The search.
        uri: Where runs are kept.
        registry_uri: Where models are registered; None for the same place.
        experiment: Name of the MLflow experiment.
        run_name: Name of the search's run.
        tags: The user's own tags for every run.
        alone: Whether no other process drives this search, so that what is RUNNING without
            this one's doing does not run.
        part: ``"worker"``, which leaves the search's run to the chief; ``"chief"``, which
            follows what its workers leave in the project folder; None for one that is both.
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
        alone: bool = False,
        part: Literal["chief", "worker"] | None = None,
    ) -> None:
        self.uri = uri
        self.experiment_id: str | None = None
        self.view_key: str | None = None
        self._registry_uri = registry_uri
        self._experiment = experiment
        self._run_name = run_name
        self._tags = tags
        self._search = search
        self._alone = alone
        self._part = part
        self._standing = Standing(search)
        self._outbox = Outbox(search.directory)
        self._runs: SearchRuns | None = None
        self._link = Link(uri, self._outbox.folder, self._open_runs)
        self._updated = float("-inf")
        self._earlier: list[TrialRecord] = []
        # By trial id: records that the store lacks; those of them that lie in the outbox.
        self._pending: dict[str, TrialRecord] = {}
        self._kept: set[str] = set()
        self._refused: set[str] = set()
        # How many had been sent each time that a trial was lost.
        self._sent = 0
        self._losses: dict[str, list[int]] = {}
        self._run_ids: dict[str, str] = {}
        # Trials that train here, and those of them whose runs are open.
        self._active: set[str] = set()
        self._started: dict[str, TrialRun] = {}
        # Runs that the store shows as RUNNING.
        self._left_running: dict[str, str] = {}
        # Trials whose run may have been made by a call whose answer was lost.
        self._doubtful: set[str] = set()

    @property
    def parent_run_id(self) -> str | None:
        """Id of the search's run; None before the store answered."""
        return self._runs.parent_id if self._runs else None

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run; None when there is none or the store does not answer."""
        if trial_id not in self._run_ids and self._link.online:
            run = self._link.attempt(
                f"the search for trial {trial_id}", self._runs.find_trial, trial_id
            )
            if run is not None:
                self._run_ids[trial_id] = run.info.run_id
        return self._run_ids.get(trial_id)

    def open(self, records: Iterable[TrialRecord]) -> None:
        """Connect, and find out what an earlier process left unsent; `flush` sends it.

        Args:
            records: The trials that ended before.

        Raises:
            TrackingError: The store cannot be used as configured. A server that does not
                answer is no error.
        """
        self._earlier = sorted(records, key=lambda record: (record.ended_ms, record.trial_id))
        for record in self._earlier:
            self._standing.enter(record)
        self._pending = {record.trial_id: record for record in self._outbox.records()}
        self._kept = set(self._pending)
        self._link.connect()

    def start(self, trial_id: str, values: Mapping[str, Any], started_ms: int) -> None:
        """Open the run of a trial; without a store, its end will do that."""
        self._active.add(trial_id)
        self._started.pop(trial_id, None)
        if not self._link.online:
            return
        with self._outbox.sending():
            run = self._link.attempt(
                f"the start of trial {trial_id}",
                partial(self._runs.start_trial, new=self._is_new(trial_id)),
                trial_id,
                values,
                started_ms,
            )
        if run is None:
            self._doubtful.add(trial_id)
            return
        self._note_run(trial_id, run.run_id)
        self._left_running[trial_id] = run.run_id
        self._started[trial_id] = run

    def keep(self, record: TrialRecord) -> None:
        """Keep a trial that ended on disk, before anything else is done with it."""
        try:
            self._outbox.put(record)
            self._kept.add(record.trial_id)
        except OSError as error:
            self._kept.discard(record.trial_id)
            _log.warning("Trial %s cannot wait on disk: %s", record.trial_id, error)

    def end(self, record: TrialRecord) -> None:
        """Send a trial that ended, or leave it on disk until that works."""
        if self._part == "worker":
            self._enter_others()  # its place is one among all
        self._standing.enter(record)
        self._active.discard(record.trial_id)
        # Last in the order, even where an earlier attempt at the trial still waits.
        self._pending.pop(record.trial_id, None)
        self._pending[record.trial_id] = record
        self._refused.discard(record.trial_id)
        self._losses.pop(record.trial_id, None)
        self._link.reconnect()
        if self._link.online:
            self._flush()

    def idle(self) -> float | None:
        """What is to be done while no trial starts or ends.

        Returns:
            Seconds until there may be more to do; None for nothing.
        """
        if self._part == "chief":
            self._enter_others()
        wait = self._idle()
        return _FOLLOW_SECONDS if self._part == "chief" and wait is None else wait

    def _idle(self) -> float | None:
        if not self._link.online:
            if not (self._pending or self._is_behind()):
                return None
            self._link.reconnect()
            if self._link.online:
                self._flush()
            return self._link.seconds_to_reprobe
        if not self._is_behind():
            return None
        now = time.monotonic()
        if now < self._updated + _PARENT_SECONDS:
            return self._updated + _PARENT_SECONDS - now
        self._update_parent()
        return _PARENT_SECONDS if self._is_behind() else None

    def flush(self) -> None:
        """Send everything now, or know that it has to wait."""
        self._link.reconnect(now=True)
        if self._link.online:
            self._flush()
        self._update_parent()
        if self._pending and self._part == "worker":
            self._say_what_waits()

    def close(self, status: Status) -> None:
        """Send what waits and end the search's run, and those that nobody goes on with."""
        others = self._enter_others()
        self._active.clear()
        if self._alone:  # what a worker left that was killed and did not come back
            left = {record.trial_id: record for record in self._outbox.records()}
            self._kept.update(left)
            self._pending = left | self._pending
        self.flush()
        others = others or self._part == "chief"
        if self._link.online and (self._link.unsure or self._runs.resumed or others):
            self._link.attempt("a look for lost runs", self._settle)
        for trial_id in list(self._left_running):
            self._kill(trial_id)
        if self._link.online:
            self._link.attempt("the end of the search", self._runs.end_parent, status)
        if self._pending:
            self._say_what_waits()

    # Connecting

    def _open_runs(self, timeout: float) -> None:
        client = connection.connect(self.uri, self._registry_uri, timeout=timeout)
        self.experiment_id = connection.open_experiment(client, self._experiment)
        runs = SearchRuns(client, self.experiment_id, self._search, self._tags, alone=self._alone)
        runs.open_parent(self._run_name)
        self._save_view(client)
        if runs.resumed:
            self._compare(runs)
        else:
            self._pending = {r.trial_id: r for r in self._earlier} | self._pending
        self._earlier = []
        self._runs = runs

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
        known = self._look_around(runs)
        lacking = {
            record.trial_id: record
            for record in self._earlier
            if known.get(record.trial_id, (None, None))[1] != record.status
        }
        self._pending = lacking | self._pending
        self._standing.forget_points(runs.steps_of_parent(BEST))

    def _settle(self) -> None:
        """Find runs that were made by a call whose answer was lost, and leave one per trial."""
        self._runs.find_parent()
        self._look_around(self._runs)
        self._link.unsure = False

    def _look_around(self, runs: SearchRuns) -> dict[str, tuple[str, str]]:
        """Run and status of every trial as the store has them."""
        known = runs.trials(self._run_ids)
        for trial_id, (run_id, status) in known.items():
            self._note_run(trial_id, run_id)
            if status == "RUNNING":
                self._left_running[trial_id] = run_id
        return known

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

    def _is_new(self, trial_id: str) -> bool:
        """Whether a trial certainly has no run yet, so that none needs to be looked for."""
        looked_up = self._runs.resumed or trial_id in self._doubtful
        return not looked_up and trial_id not in self._run_ids

    def _note_run(self, trial_id: str, run_id: str) -> None:
        """Remember a trial's run, here and in the trial's folder."""
        if self._run_ids.get(trial_id) == run_id:
            return
        self._run_ids[trial_id] = run_id
        folder = Path(self._search.directory) / f"trial_{trial_id}"
        try:
            if folder.is_dir() and load_run_id(folder) != run_id:
                save_run_id(folder, run_id)
        except (OSError, StateError) as error:
            _log.debug("The run of trial %s was not noted: %s", trial_id, error)

    def _enter_others(self) -> bool:
        """Enter trials that other processes of this search ended; whether there are any."""
        # Without a chief, nobody else trains a trial again that is known.
        return self._standing.follow(self._search.directory, again=self._part is not None)

    def _flush(self) -> None:
        """Send the trials that wait, oldest first."""
        lost = 0
        for record in list(self._pending.values()):
            if record.trial_id in self._refused:
                continue
            with self._outbox.sending():
                # Another process of this search may have sent it: `keras-nas sync`, or a worker.
                elsewhere = record.trial_id in self._kept and not self._outbox.has(record.trial_id)
                sent = elsewhere or self._link.attempt(
                    f"trial {record.trial_id}", self._send, self._standing.placed(record)
                )
                if sent:
                    self._kept.discard(record.trial_id)
                    self._outbox.remove(record)
            if sent:
                del self._pending[record.trial_id]
                self._sent, lost = self._sent + 1, 0
            elif self._link.online:
                self._refused.add(record.trial_id)
            else:
                lost += 1
                if lost == _LOSSES or not self._goes_on_without(record.trial_id):
                    return
        if self._alone:
            for trial_id in [*self._left_running]:
                if trial_id not in self._active and trial_id not in self._pending:
                    self._kill(trial_id)

    def _goes_on_without(self, trial_id: str) -> bool:
        """Whether the store answers, so that others may be sent after one that was lost.

        MLflow answers some requests that it cannot carry out by an internal error. One that is
        lost again and again, while others are not, counts as refused.
        """
        self._link.reconnect(now=True)
        losses = self._losses.setdefault(trial_id, [])
        losses.append(self._sent)
        if self._link.online and len(losses) >= _LOSSES and self._sent > losses[0]:
            self._refused.add(trial_id)
            _log.warning(
                "MLflow fails over trial %s, and takes others; it stays in %s.",
                trial_id,
                self._outbox.folder,
            )
        return self._link.online

    def _send(self, record: TrialRecord) -> bool:
        trial_id = record.trial_id
        run = self._started.pop(trial_id, None)
        if run is None:
            new = self._is_new(trial_id)
            self._doubtful.add(trial_id)
            run = self._runs.open_trial(trial_id, record.values, record.started_ms, new=new)
            self._note_run(trial_id, run.run_id)
            self._left_running[trial_id] = run.run_id
        self._runs.end_trial(run, record)
        self._left_running.pop(trial_id, None)
        return True

    def _is_behind(self) -> bool:
        """Whether the search's run lacks something that is for this process to add."""
        return self._standing.changed and self._part != "worker"

    def _kill(self, trial_id: str) -> None:
        if self._link.online:
            run_id = self._left_running[trial_id]
            self._link.attempt(f"the end of trial {trial_id}", self._runs.kill, run_id)
            if self._link.online:
                del self._left_running[trial_id]

    def _update_parent(self) -> None:
        """Bring the search's run up to date."""
        if not (self._link.online and self._is_behind()):
            return
        points, tags = self._standing.summary(self._run_ids)
        self._updated = time.monotonic()
        self._link.attempt("the search's summary", self._runs.update_parent, points, tags)
        if self._link.online:  # what MLflow refused, it would refuse again
            self._standing.told()

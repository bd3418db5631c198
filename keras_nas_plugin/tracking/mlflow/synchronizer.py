"""Keeps the runs of a search in an MLflow store up to date with its trials."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.overwritten import OverwrittenSearch
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import Status, TrialRecord, load_run_id, save_run_id
from keras_nas_plugin.tracking.mlflow import client as connection
from keras_nas_plugin.tracking.mlflow.availability import StoreAvailability
from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from keras_nas_plugin.tracking.mlflow.saved_view_state import searches_view, trials_view
from keras_nas_plugin.tracking.mlflow.saved_views import write_views
from keras_nas_plugin.tracking.mlflow.search_runs import SearchRuns
from keras_nas_plugin.tracking.mlflow.trial_sync import SyncState, TrialSync
from keras_nas_plugin.tracking.summary.search_summary import BEST, SearchSummary
from keras_nas_plugin.wording import counted_are

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow shows this tag as the description of a run.
_NOTE = "mlflow.note.content"

Role = Literal["chief", "worker"]

# The search's run, which is what people watch, is at most this far behind.
_PARENT_SECONDS = 1.0
# A trial that failed to be sent this often, while others were accepted, counts as rejected.
_MAX_FAILURES = 3
# How often a chief looks for trials that its workers have finished.
_FOLLOW_SECONDS = 1.0

logger = logging.getLogger("keras_nas_plugin")


class RunSynchronizer:
    """Sends the trials of a search to the store exactly once, as soon as the store answers.

    All methods but `save` may wait for the store, and belong to one thread at a time.

    Args:
        search: The search.
        uri: Where runs are stored.
        registry_uri: Where models are registered; None for the same store.
        experiment: Name of the MLflow experiment.
        run_name: Name of the search's run.
        tags: The user's own tags for every run.
        exclusive: Whether no other process runs this search. Then every RUNNING run that does not
            belong to this process was left by a process that died.
        role: ``"worker"``, which leaves the search's run to the chief; ``"chief"``, which
            follows what its workers leave in the project folder; None for a search in one
            process.
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
        exclusive: bool = False,
        role: Role | None = None,
    ) -> None:
        self.uri = uri
        self.experiment_id: str | None = None
        self.view_key: str | None = None
        self.searches_view_key: str | None = None
        self._registry_uri = registry_uri
        self._experiment = experiment
        self._run_name = run_name
        self._tags = tags
        self._search = search
        self._layout = ProjectLayout.of(search.directory)
        self._exclusive = exclusive
        self._role = role
        self._summary = SearchSummary(search)
        self._outbox = Outbox(search.directory)
        self._runs: SearchRuns | None = None
        self._store = StoreAvailability(uri, self._outbox.folder, self._open_runs)
        self._parent_updated = float("-inf")
        # Records of an earlier process; they are compared with the store once it answers.
        self._earlier: list[TrialRecord] = []
        # By trial id: trials whose runs are not final yet, and the ids of the runs of all trials.
        self._trials: dict[str, TrialSync] = {}
        self._run_ids: dict[str, str] = {}
        self._sent = 0

    @property
    def parent_run_id(self) -> str | None:
        """Id of the search's run; None before the store answered."""
        return self._runs.parent_id if self._runs else None

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run; None if there is none or the store does not answer."""
        if trial_id not in self._run_ids and self._store.online:
            run = self._store.attempt(
                f"the search for trial {trial_id}", self._opened().find_trial, trial_id
            )
            if run is not None:
                self._run_ids[trial_id] = run.info.run_id
        return self._run_ids.get(trial_id)

    def open(self, records: Iterable[TrialRecord]) -> None:
        """Connect, and find what an earlier process left unsent; `flush` sends it.

        Args:
            records: The trials that ended earlier.

        Raises:
            TrackingError: The store cannot be used as configured. A server that does not
                answer is no error.
        """
        self._earlier = sorted(records, key=_by_end)
        for record in self._earlier:
            self._summary.add(record)
        for record in self._outbox.records():
            self._trial(record.trial_id).end(record, saved=True)
        self._store.connect()

    def start(self, trial_id: str, values: Mapping[str, Any], started_ms: int) -> None:
        """Open the run of a trial; if the store is offline, the run is created at the trial's end.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
            started_ms: Its start, in milliseconds since 1970 (UTC).
        """
        trial = self._trial(trial_id)
        trial.begin()
        if not self._store.online:
            return
        with self._outbox.sending():
            run = self._store.attempt(
                f"the start of trial {trial_id}",
                partial(self._opened().start_trial, new=self._is_new(trial)),
                trial_id,
                values,
                started_ms,
            )
        if run is None:
            trial.may_have_run = True
            return
        self._set_run_id(trial_id, run.run_id)
        trial.run, trial.shown_running = run, True

    def save(self, record: TrialRecord) -> bool:
        """Save a trial that ended to the outbox, before anything else is done with it.

        Returns:
            Whether that worked; a full disk is logged.
        """
        try:
            self._outbox.put(record)
        except OSError as error:
            logger.warning("Trial %s cannot be saved to the outbox: %s", record.trial_id, error)
            return False
        return True

    def end(self, record: TrialRecord, saved: bool) -> None:
        """Send a trial that ended, or leave it in the outbox until that works.

        Args:
            record: The trial.
            saved: What `save` returned.
        """
        if self._role == "worker":
            self._add_trials_of_others()  # the rank of this trial is among all of them
        self._summary.add(record)
        self._trial(record.trial_id).end(record, saved=saved)
        self._store.reconnect()
        if self._store.online:
            self._send_waiting()

    def idle(self) -> float | None:
        """Do pending work while no trial starts or ends.

        Returns:
            Seconds until something may be due again; None for never.
        """
        if self._role == "chief":
            self._add_trials_of_others()
        seconds = self._send_or_update()
        return _FOLLOW_SECONDS if self._role == "chief" and seconds is None else seconds

    def _send_or_update(self) -> float | None:
        if not self._store.online:
            if not (self._has_unsent() or self._is_behind()):
                return None
            self._store.reconnect()
            if self._store.online:
                self._send_waiting()
            return self._store.seconds_to_probe
        if not self._is_behind():
            return None
        now = time.monotonic()
        if now < self._parent_updated + _PARENT_SECONDS:
            return self._parent_updated + _PARENT_SECONDS - now
        self._update_parent()
        return _PARENT_SECONDS if self._is_behind() else None

    def flush(self) -> None:
        """Send everything now, if the store answers."""
        self._store.reconnect(now=True)
        if self._store.online:
            self._send_waiting()
        self._update_parent()
        if self._role == "worker":
            self._warn_of_unsent()

    def mark_overwritten(self) -> None:
        """Mark the runs of searches that this one has overwritten, if the store answers."""
        overwritten = OverwrittenSearch.load(self._search.directory)
        if not overwritten or not self._store.online or self._role == "worker":
            return
        for earlier in overwritten:
            what = f"the runs of the overwritten search {earlier.search_id}"
            self._store.attempt(
                what, self._opened().mark_overwritten, earlier.search_id, earlier.experiment
            )
        if self._store.online:  # what MLflow rejected, it would reject again
            OverwrittenSearch.clear(self._search.directory)

    def close(self, status: Status) -> None:
        """Send what waits, end the runs of abandoned trials, and end the search's run.

        Args:
            status: How the search ended.
        """
        shared = self._add_trials_of_others() or self._role == "chief"
        for trial in self._in_state(SyncState.TRAINING):
            trial.abandon()
        if self._exclusive:  # left by a worker that was killed and not restarted
            for record in self._outbox.records():
                trial = self._trial(record.trial_id)
                if trial.unsent is None:
                    trial.end(record, saved=True)
                    trial.may_have_run = True
                trial.saved = True
        self.flush()
        if self._store.online and (self._store.uncertain or self._opened().resumed or shared):
            self._store.attempt("the search for lost runs", self._settle)
        for trial in list(self._trials.values()):
            if trial.shown_running:
                self._kill(trial)
        self.mark_overwritten()
        self._order_axes()
        if self._store.online:
            self._store.attempt("the end of the search", self._opened().end_parent, status)
        self._warn_of_unsent()

    # Connecting

    def _opened(self) -> SearchRuns:
        if self._runs is None:
            raise RuntimeError("the store must answer once before its runs are used")
        return self._runs

    def _open_runs(self, timeout: float) -> None:
        client = connection.connect(self.uri, self._registry_uri, timeout=timeout)
        self.experiment_id = connection.open_experiment(client, self._experiment)
        runs = SearchRuns(
            client, self.experiment_id, self._search, self._tags, exclusive=self._exclusive
        )
        runs.open_parent(self._run_name)
        self._save_view(client, self.experiment_id)
        statuses = {}
        if runs.resumed:
            statuses = self._read_statuses(runs)
            self._summary.drop_points(runs.steps_of_parent(BEST))
        for record in self._earlier:
            trial = self._trials.get(record.trial_id)
            superseded = trial is not None and trial.state is not SyncState.ABANDONED
            if not superseded and statuses.get(record.trial_id) != record.status:
                self._trial(record.trial_id).end(record, saved=False)
        self._earlier = []
        self._runs = runs

    def _save_view(self, client: MlflowClient, experiment_id: str) -> None:
        """Save charts of the experiment for MLflow's UI; no search depends on them."""
        try:
            views = [trials_view(self._search), searches_view(self._search)]
            self.view_key, self.searches_view_key = write_views(client, experiment_id, views)
        except Exception as error:  # stores raise whatever their library raises
            if connection.is_outage(error):
                raise
            logger.warning("MLflow rejected the saved view of the experiment: %s", error)

    def _order_axes(self) -> None:
        """Give the view the most important decisions as axes, once the report has found them."""
        if not self._store.online or self.view_key is None or self._role == "worker":
            return
        decisions = _decisions_by_importance(self._layout)
        if decisions:
            view = trials_view(self._search, important=decisions)
            self._store.attempt("the saved view", self._opened().write_view, view)

    def _settle(self) -> None:
        """Find runs that a request with a lost answer created, and leave one per trial."""
        self._opened().find_parent()
        self._read_statuses(self._opened())
        self._store.uncertain = False

    def _read_statuses(self, runs: SearchRuns) -> dict[str, str]:
        """Read the run of every trial from the store.

        Returns:
            MLflow's status by trial id.
        """
        statuses = {}
        for trial_id, (run_id, status) in runs.trials(self._run_ids).items():
            self._set_run_id(trial_id, run_id)
            statuses[trial_id] = status
            if status == "RUNNING":
                self._trial(trial_id).shown_running = True
        return statuses

    def _warn_of_unsent(self) -> None:
        count = sum(trial.unsent is not None for trial in self._trials.values())
        if not count:
            return
        command = self._search.resume_command
        logger.warning(
            "%s kept in %s for MLflow at %s. `keras-nas sync` sends %s, and so does resuming the "
            "search%s",
            counted_are(count, "trial"),
            self._outbox.folder,
            connection.public_uri(self.uri),
            "it" if count == 1 else "them",
            f": {command}" if command else ".",
        )

    # The trials

    def _trial(self, trial_id: str) -> TrialSync:
        return self._trials.setdefault(trial_id, TrialSync(trial_id))

    def _in_state(self, state: SyncState) -> list[TrialSync]:
        return [trial for trial in self._trials.values() if trial.state is state]

    def _has_unsent(self) -> bool:
        return any(trial.unsent is not None for trial in self._trials.values())

    def _is_new(self, trial: TrialSync) -> bool:
        """Whether a trial certainly has no run yet, so that none needs to be looked for."""
        created = self._opened().resumed or trial.may_have_run
        if created or trial.trial_id in self._run_ids:
            return False
        # A worker that was lost has created it.
        folder = self._layout.trial(trial.trial_id).folder
        try:
            return load_run_id(folder) is None
        except StateError:
            return False

    def _set_run_id(self, trial_id: str, run_id: str) -> None:
        """Remember a trial's run, here and in the trial's folder."""
        if self._run_ids.get(trial_id) == run_id:
            return
        self._run_ids[trial_id] = run_id
        folder = self._layout.trial(trial_id).folder
        try:
            if folder.is_dir() and load_run_id(folder) != run_id:
                save_run_id(folder, run_id)
        except (OSError, StateError) as error:
            logger.debug("The run of trial %s was not saved: %s", trial_id, error)

    def _add_trials_of_others(self) -> bool:
        """Add trials that other processes of this search ended; returns whether there were any."""
        # Without a chief, no other process trains a trial again that has ended.
        return self._summary.add_from_project(may_repeat=self._role is not None)

    # Sending

    def _send_waiting(self) -> None:
        """Send the trials that wait, oldest first."""
        failures = 0  # in a row
        waiting = [(t, t.record) for t in self._in_state(SyncState.WAITING) if t.record]
        for trial, record in sorted(waiting, key=lambda pair: _by_end(pair[1])):
            if self._send(trial, record):
                self._sent, failures = self._sent + 1, 0
            elif self._store.online:
                trial.reject()
            else:
                failures += 1
                if failures == _MAX_FAILURES or not self._continues_without(trial):
                    return
        if self._exclusive:
            for trial in self._in_state(SyncState.ABANDONED):
                self._kill(trial)

    def _send(self, trial: TrialSync, record: TrialRecord) -> bool:
        """Send the record of a trial and forget the trial; returns whether that succeeded."""
        with self._outbox.sending():
            # Another process of this search may have sent it: `keras-nas sync`, or a worker.
            elsewhere = trial.saved and not self._outbox.has(trial.trial_id)
            if not elsewhere:
                sent = self._store.attempt(
                    f"trial {trial.trial_id}",
                    self._fill_run,
                    trial,
                    self._summary.with_observed_rank(record),
                )
                if not sent:
                    return False
                self._outbox.remove(record)
        if elsewhere:
            self.run_id(trial.trial_id)  # so that another attempt at the trial finds it
        del self._trials[trial.trial_id]
        return True

    def _fill_run(self, trial: TrialSync, record: TrialRecord) -> bool:
        run = trial.take_run()
        if run is None:
            new = self._is_new(trial)
            trial.may_have_run = True
            run = self._opened().open_trial(
                trial.trial_id, record.values, record.started_ms, new=new
            )
            self._set_run_id(trial.trial_id, run.run_id)
            trial.shown_running = True
        self._opened().end_trial(run, record)
        trial.shown_running = False
        return True

    def _continues_without(self, trial: TrialSync) -> bool:
        """Whether the store still answers, so that sending can continue after a failed trial.

        MLflow answers some requests that it cannot carry out by an internal error, as in an
        outage. A trial that fails repeatedly, while others are accepted, counts as rejected.
        """
        self._store.reconnect(now=True)
        if trial.fail(self._sent, limit=_MAX_FAILURES) and self._store.online:
            trial.reject()
            logger.warning(
                "MLflow rejected trial %s but accepted others; it is kept in %s.",
                trial.trial_id,
                self._outbox.folder,
            )
        return self._store.online

    def _kill(self, trial: TrialSync) -> None:
        """End the run of a trial as KILLED, unless it has ended."""
        if not self._store.online:
            return
        if trial.shown_running:
            run_id = self._run_ids[trial.trial_id]
            what = f"the end of trial {trial.trial_id}"
            self._store.attempt(what, self._opened().kill, run_id)
            if not self._store.online:
                return
        trial.shown_running = False
        if trial.state is SyncState.ABANDONED:
            del self._trials[trial.trial_id]

    def _is_behind(self) -> bool:
        """Whether the search's run lacks something that this process has to add."""
        return self._summary.changed and self._role != "worker"

    def _update_parent(self) -> None:
        """Bring the search's run up to date."""
        if not (self._store.online and self._is_behind()):
            return
        update = self._summary.unsent(self._run_ids)
        self._parent_updated = time.monotonic()
        self._store.attempt(
            "the search's summary",
            self._opened().update_parent,
            update.points,
            {**update.tags, _NOTE: update.note},
        )
        if self._store.online:  # what MLflow rejected, it would reject again
            self._summary.mark_sent()


def _decisions_by_importance(layout: ProjectLayout) -> list[str]:
    """Names of the decisions of a search, the most important first; empty if not known."""
    try:
        decisions = read_json(layout.importance)["decisions"]
        return [str(decision["name"]) for decision in decisions]
    except (OSError, StateError, KeyError, TypeError):
        return []


def _by_end(record: TrialRecord) -> tuple[int, str]:
    return record.ended_ms, record.trial_id

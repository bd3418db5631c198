"""Logs a search to MLflow: a run for the search, and a run below it for every trial."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import ProjectLayout, holds_search_lock
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import KILLED, Status, TrialRecord
from keras_nas_plugin.roles import is_chief, is_worker
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.mlflow import links
from keras_nas_plugin.tracking.mlflow.client import (
    absolute_uri,
    creates_database,
    is_server,
    public_uri,
    resolve_uri,
)
from keras_nas_plugin.tracking.mlflow.registry import MLflowModelRegistry
from keras_nas_plugin.tracking.mlflow.retrained_runs import RetrainedRuns
from keras_nas_plugin.tracking.mlflow.saved_views import view_url
from keras_nas_plugin.tracking.mlflow.synchronizer import RunSynchronizer
from keras_nas_plugin.tracking.mlflow.worker import BackgroundWorker

logger = logging.getLogger("keras_nas_plugin")


class MLflowTracker(Tracker):
    """Logs a search to MLflow: a parent run for the search, a child run for each trial.

    MLflow's global state (active run, tracking URI, experiment) is neither used nor changed.
    When a trial ends, its record is written to ``<project folder>/outbox`` and sent from there by
    a thread of the tracker, so that training never waits for the store. A store that does not
    answer is tried again every five seconds, and when the search ends. Trials that it still lacks
    then are sent when the search is resumed, or by ``keras-nas sync``. A resumed search continues
    in the same runs.

    Other programs may rely on these names. On every run:

    - ``nas.kind``: ``search`` (the parent) or ``trial``.
    - ``nas.search_id``: the same on all runs of one search.
    - ``nas.search_name``, ``nas.strategy``: the search and its oracle, for people.
    - ``nas.overwritten_by``: the search that has overwritten this one; saved views leave it out.
    - ``nas.device``, ``nas.precision``: device and precision of the training.

    On the parent: ``nas.name``, ``nas.objective``, ``nas.direction``, ``nas.directory``,
    ``nas.resume_command``, ``nas.env.<name>`` (library versions), ``nas.changed`` (settings, data
    and search space that a resume changed), ``nas.best_trial_id``, ``nas.best_run_id``; the note
    in ``mlflow.note.content``; the metrics ``best_objective``, ``trial_seconds`` and
    ``utilization``, whose step counts the trials that ended; parameters ``objective``,
    ``direction``, ``strategy``, ``max_trials`` and the search's settings; the space in the
    artifact ``search_space.json``.

    On a trial: ``nas.trial_id``; ``nas.worker``, ``nas.worker_pid``, ``nas.node`` and its own
    ``nas.device``; ``nas.excluded`` (why it does not count any more); ``nas.error`` (a failure's
    last line); ``nas.non_finite`` (infinite metrics, logged as NaN); the active
    hyperparameters as parameters, and unchanged in the artifact ``values.json`` if a name or value
    does not fit MLflow; the metrics ``objective/<metric>``, ``result/<metric>`` (at the best
    epoch), ``by_epoch/<metric>`` (averaged over executions), ``execution_<n>/<metric>`` (with
    several executions), ``cost/parameters``, ``cost/train_seconds`` and other costs,
    ``time/queue_seconds``, ``time/idle_seconds``, ``time/worker_seconds``, and ``proxy/<proxy>``.
    Trials are named ``t07 0.9731`` after their score.

    Args:
        experiment: MLflow experiment; created if it does not exist.
        tracking_uri: Where runs are stored, for example ``sqlite:///mlflow.db`` or
            ``http://host:5000``; None for what MLflow itself uses.
        registry_uri: Where models are registered; None for the same store.
        run_name: Name of the search's run; None for the name of the search.
        tags: Your own tags, for every run.

    Raises:
        TrackingError: MLflow cannot use an argument.
    """

    shows_report = True

    def __init__(
        self,
        experiment: str = "keras-nas",
        *,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(experiment, str) or not experiment.strip():
            raise TrackingError(f"`experiment` must be a name; got {experiment!r}")
        for key in tags or {}:
            if not isinstance(key, str) or key.startswith("nas."):
                raise TrackingError(
                    f"`tags` must have string keys that do not start with `nas.`; got {key!r}"
                )
        self._experiment = experiment
        self._registry_uri = registry_uri
        self._tracking_uri = tracking_uri
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._followed: _FollowedSearch | None = None

    @property
    def tracking_uri(self) -> str:
        """Where runs are stored: the argument, or what MLflow uses now."""
        if self._followed:
            return self._followed.synchronizer.uri
        return resolve_uri(self._tracking_uri)

    @property
    def registry_uri(self) -> str | None:
        """Where models are registered; None for the store of the runs."""
        return self._registry_uri

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self._experiment

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None before the store answered."""
        opened = self._opened()
        return opened.experiment_id if opened else None

    @property
    def parent_run_id(self) -> str | None:
        """Id of the search's run; None before the store answered."""
        opened = self._opened()
        return opened.parent_run_id if opened else None

    @property
    def experiment_url(self) -> str:
        """Address of the experiment in the MLflow UI; for a database, see `ui_command`."""
        if self.experiment_id is None:
            return links.ui_address(self.tracking_uri)
        return links.experiment_page(self.tracking_uri, self.experiment_id)

    @property
    def view_url(self) -> str | None:
        """Address of the charts of all trials in the MLflow UI; None if there are none."""
        opened = self._opened()
        key = opened.view_key if opened else None
        return view_url(self.experiment_url, key) if key else None

    @property
    def searches_view_url(self) -> str | None:
        """Address of the charts that compare the searches of the experiment; None without them."""
        opened = self._opened()
        key = opened.searches_view_key if opened else None
        return view_url(self.experiment_url, key) if key else None

    @property
    def search_url(self) -> str | None:
        """Address of the search's run in the MLflow UI; None before the store answered."""
        return self.run_url(self.parent_run_id) if self.parent_run_id else None

    def run_url(self, run_id: str) -> str | None:
        """Address of a run in the MLflow UI; None before the store answered."""
        if self.experiment_id is None:
            return None
        return links.run_page(self.tracking_uri, self.experiment_id, run_id)

    def ui_command(self) -> str:
        """The shell command that opens the MLflow UI, or the address of a server's UI.

        A database's password is omitted: `mlflow ui` finds it where the database's client does.
        """
        if is_server(self.tracking_uri):
            return self.experiment_url
        store = shlex.quote(public_uri(self.tracking_uri))
        return f"mlflow ui --backend-store-uri {store} --port {links.UI_PORT}"

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run; None if there is none or the store does not answer.

        Waits until all earlier events are sent.
        """
        if self._followed is None:
            return None
        return self._followed.worker.call(self._followed.synchronizer.run_id, trial_id)

    def find_run(self, search: SearchInfo, trial_id: str) -> str | None:
        """See `Tracker.find_run`.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        followed = self.run_id(trial_id)
        run_ids = self._retrained_runs().runs_of_trial(search, trial_id)
        return followed if followed in run_ids else next(iter(run_ids), None)

    def retraining_finished(
        self, retraining: Retraining, record: TrialRecord, search: SearchInfo
    ) -> Retraining:
        """See `Tracker.retraining_finished`: one run for each seed, below the search's run.

        Raises:
            TrackingError: The store does not answer, rejects the request, or has no run of the
                search.
        """
        return self._retrained_runs().log(retraining, record, search)

    def model_registry(self) -> MLflowModelRegistry:
        """See `Tracker.model_registry`."""
        return MLflowModelRegistry(self.tracking_uri, self._registry_uri)

    def _retrained_runs(self) -> RetrainedRuns:
        return RetrainedRuns(self.tracking_uri, self._registry_uri, self._experiment)

    def flush(self) -> None:
        """Wait until everything has been sent, unless the store does not answer."""
        if self._followed:
            self._followed.worker.call(self._followed.synchronizer.flush)

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`.

        Raises:
            TrackingError: MLflow cannot use `tracking_uri` or `experiment`. A server that
                does not answer is no error.
        """
        if self._followed and not self._followed.ended:
            self.search_ended(KILLED)  # the previous search was never ended
        self._followed = None
        synchronizer = RunSynchronizer(
            search,
            uri=resolve_uri(self._tracking_uri),
            registry_uri=self._registry_uri,
            experiment=self._experiment,
            run_name=self._run_name or search.name,
            tags=self._tags,
            exclusive=holds_search_lock(search.directory),
            role="worker" if is_worker() else "chief" if is_chief() else None,
        )
        # The tables of a new database are created while the first trial trains.
        later = not is_worker() and not is_chief() and creates_database(synchronizer.uri)
        if not later:
            synchronizer.open(records)
        followed = self._followed = _FollowedSearch(search.directory, synchronizer)
        self._save_settings(followed, None)
        if later:
            followed.opening = followed.worker.submit(self._open, followed, tuple(records))
        if later or synchronizer.parent_run_id or is_chief():
            # Sending the trials of an earlier process may take longer than a trial.
            followed.worker.submit(synchronizer.flush)
            followed.worker.submit(synchronizer.mark_overwritten)

    def _open(self, followed: _FollowedSearch, records: Iterable[TrialRecord]) -> None:
        followed.synchronizer.open(records)
        self._save_settings(followed, None)

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        if self._followed:
            self._followed.starts[trial_id] = self._followed.worker.submit(
                self._followed.synchronizer.start,
                trial_id,
                dict(values),
                time.time_ns() // 1_000_000,
            )

    def trial_ended(self, record: TrialRecord) -> None:
        """See `Tracker.trial_ended`."""
        if self._followed:
            saved = self._followed.synchronizer.save(record)
            start = self._followed.starts.pop(record.trial_id, None)
            if start is not None:
                # The start was not sent yet: start and end are sent together.
                start.cancel()
            self._followed.worker.submit(self._followed.synchronizer.end, record, saved)

    def search_ended(self, status: Status) -> None:
        """See `Tracker.search_ended`."""
        self._opened()
        if self._followed:
            self._save_settings(self._followed, status)
            self._followed.worker.submit(self._followed.synchronizer.close, status)
            self._followed.ended = True
            self._followed.worker.close()

    def leave(self) -> None:
        """Send everything and end the tracker's thread; the search continues elsewhere."""
        self.flush()
        if self._followed:
            self._followed.ended = True
            self._followed.worker.close()

    # What `keras-nas sync` and the report need

    def _opened(self) -> RunSynchronizer | None:
        """The runs of the search that is followed, once the store was opened for them."""
        if self._followed is None:
            return None
        if self._followed.opening is not None:
            wait([self._followed.opening])
        return self._followed.synchronizer

    def _save_settings(self, followed: _FollowedSearch, status: Status | None) -> None:
        """Save in the project folder where the search logs, and how it ended.

        An address with a password is not saved; `sync` must be given the address again.
        """
        uri, registry = absolute_uri(self.tracking_uri), self._registry_uri
        settings = {
            "experiment": self._experiment,
            "tracking_uri": uri if public_uri(uri) == uri else None,
            "registry_uri": registry if registry and public_uri(registry) == registry else None,
            "run_name": self._run_name,
            "tags": self._tags,
        }
        content: dict[str, Any] = {"settings": settings, "status": status}
        experiment_id = followed.synchronizer.experiment_id
        if experiment_id is not None:
            pages = links.RunPages(links.ui_address(uri), experiment_id)
            content[links.RUN_PAGES] = pages.to_dict()
        path = ProjectLayout.of(followed.directory).tracking
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)
        except OSError as error:
            logger.warning("`%s` was not written in %s: %s", path.name, followed.directory, error)

    @staticmethod
    def settings_of(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
        """Arguments of the last tracker of a project folder; None if it had none."""
        settings: dict[str, Any] | None = _saved(directory, "settings")
        return settings

    @staticmethod
    def last_status(directory: str | os.PathLike[str]) -> Status | None:
        """How the search of a project folder ended; None while it runs, or if it was killed."""
        status: Status | None = _saved(directory, "status")
        return status


class _FollowedSearch:
    """The search that a tracker follows, with the thread that sends its trials."""

    def __init__(self, directory: str, synchronizer: RunSynchronizer) -> None:
        self.directory = directory
        self.synchronizer = synchronizer
        self.worker = BackgroundWorker(synchronizer.idle)
        #: Starts of trials that may not have been sent yet.
        self.starts: dict[str, Future[None]] = {}
        #: The opening of the store, if the thread does that.
        self.opening: Future[None] | None = None
        self.ended = False


def _saved(directory: str | os.PathLike[str], field: str) -> Any:
    path = ProjectLayout.of(directory).tracking
    try:
        return read_json(path)[field]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise StateError(
            f"`{path}` must have the fields settings and status; it has no {field}"
        ) from error

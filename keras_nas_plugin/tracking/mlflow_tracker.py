"""Every search a run in MLflow, every trial a run below it."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import drives
from keras_nas_plugin.roles import is_chief, is_worker
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.connection import (
    absolute_uri,
    is_server,
    public_uri,
    resolve_uri,
)
from keras_nas_plugin.tracking.delivery import Delivery
from keras_nas_plugin.tracking.records import KILLED, SearchInfo, Status, TrialRecord
from keras_nas_plugin.tracking.sender import Sender
from keras_nas_plugin.tracking.views import view_url

_UI_PORT = 5000
NOTE_FILE = "tracking.json"

_log = logging.getLogger("keras_nas_plugin")


class MLflowTracker(Tracker):
    """Logs a search to MLflow: a parent run for the search, a child run for each trial.

    MLflow's global state (active run, tracking URI, experiment) is neither used nor changed.
    What a trial came to is written to ``<project folder>/outbox`` and sent from there by a
    thread of the tracker's own, so that training never waits for the store. A store that does
    not answer is asked again every five seconds, and when the search ends; what it still lacks
    then is sent when the search is resumed, or by ``keras-nas sync``. A resumed search goes on
    in the same runs.

    Tags that other programs may rely on, on every run:

    - ``nas.kind``: ``search`` (the parent) or ``trial``.
    - ``nas.search_id``: the same on all runs of one search.
    - ``nas.device``, ``nas.precision``: what the models were trained on and in.

    On the parent: ``nas.name``, ``nas.objective``, ``nas.direction``, ``nas.directory``,
    ``nas.resume_command``, ``nas.env.<name>`` (library versions), ``nas.changed`` (settings
    that a resume changed), ``nas.best_trial_id``, ``nas.best_run_id``; the note in
    ``mlflow.note.content``; the metric ``best_objective``, whose step counts the trials that
    ended; parameters ``objective``, ``direction``, ``strategy``, ``max_trials`` and the
    search's settings; the space in the artifact ``search_space.json``.

    On a trial: ``nas.trial_id``; ``nas.error`` (a failure's last line); ``nas.non_finite``
    (infinite metrics, logged as NaN); the active hyperparameters as parameters, and whole in
    the artifact ``values.json`` where a name or value does not fit MLflow; the metrics
    ``objective/<metric>``, ``best/<metric>`` (at the best epoch), ``<metric>`` (by epoch,
    averaged over executions), ``execution_<n>/<metric>`` (with several executions),
    ``cost/parameters``, ``cost/train_seconds`` and other costs, and ``proxy/<proxy>``. Trials
    are named ``t07 0.9731`` after their score.

    Args:
        experiment: MLflow experiment, created if it does not exist.
        tracking_uri: Where runs are kept, for example ``sqlite:///mlflow.db`` or
            ``http://host:5000``; None for what MLflow itself would use.
        registry_uri: Where models are registered; None for the same place.
        run_name: Name of the search's run; None for the search's own name.
        tags: Tags of your own, for every run.

    Raises:
        TrackingError: An argument that MLflow cannot take.
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
            raise TrackingError(f"`experiment` needs a name; received {experiment!r}")
        for key in tags or {}:
            if not isinstance(key, str) or key.startswith("nas."):
                raise TrackingError(f"`tags` needs text keys outside `nas.`; received {key!r}")
        self._experiment = experiment
        self._registry_uri = registry_uri
        self._tracking_uri = tracking_uri
        self._run_name = run_name
        self._tags = dict(tags or {})
        self._delivery: Delivery | None = None
        self._sender: Sender | None = None
        self._ended = True
        self._starting: dict[str, Future] = {}
        self._directory = "."

    @property
    def tracking_uri(self) -> str:
        """Where runs are kept: as given, or as MLflow says now."""
        return self._delivery.uri if self._delivery else resolve_uri(self._tracking_uri)

    @property
    def registry_uri(self) -> str | None:
        """Where models are registered; None for the same place as runs."""
        return self._registry_uri

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self._experiment

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None before the store answered."""
        return self._delivery.experiment_id if self._delivery else None

    @property
    def parent_run_id(self) -> str | None:
        """Id of the search's run; None before the store answered."""
        return self._delivery.parent_run_id if self._delivery else None

    @property
    def experiment_url(self) -> str:
        """Address of the experiment in the MLflow UI (on this machine: see `ui_command`)."""
        base = f"http://127.0.0.1:{_UI_PORT}"
        if is_server(self.tracking_uri):
            base = public_uri(self.tracking_uri).rstrip("/")
        return f"{base}/#/experiments/{self.experiment_id}" if self.experiment_id else base

    @property
    def view_url(self) -> str | None:
        """Address of the experiment's charts in the MLflow UI; None where there are none."""
        key = self._delivery.view_key if self._delivery else None
        return view_url(self.experiment_url, key) if key else None

    def ui_command(self) -> str:
        """The shell command that opens the MLflow UI, or the address where a server shows it.

        A database's password is left out: `mlflow ui` finds it where the database's client does.
        """
        if is_server(self.tracking_uri):
            return self.experiment_url
        store = shlex.quote(public_uri(self.tracking_uri))
        return f"mlflow ui --backend-store-uri {store} --port {_UI_PORT}"

    def run_id(self, trial_id: str) -> str | None:
        """Id of a trial's run; None when there is none or the store does not answer.

        Waits for what has been handed over to be sent.
        """
        if self._delivery is None:
            return None
        return self._sender.call(self._delivery.run_id, trial_id)

    def flush(self) -> None:
        """Wait until everything has been sent, or has to wait for a store that does not answer."""
        if self._delivery:
            self._sender.call(self._delivery.flush)

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """See `Tracker.search_started`.

        Raises:
            TrackingError: MLflow cannot use `tracking_uri` or `experiment`. A server that
                does not answer is no error.
        """
        if self._delivery and not self._ended:
            self.search_ended(KILLED)  # of another search, which nobody ended
        self._delivery = None
        delivery = Delivery(
            search,
            uri=resolve_uri(self._tracking_uri),
            registry_uri=self._registry_uri,
            experiment=self._experiment,
            run_name=self._run_name or search.name,
            tags=self._tags,
            alone=drives(search.directory),
            part="worker" if is_worker() else "chief" if is_chief() else None,
        )
        delivery.open(records)
        self._delivery = delivery
        self._sender = Sender(delivery.idle)
        self._ended = False
        if delivery.parent_run_id or is_chief():
            # What an earlier process left unsent may take longer than a trial.
            self._sender.submit(delivery.flush)
        self._note(search.directory, None)
        self._directory = search.directory

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        if self._delivery:
            self._starting[trial_id] = self._sender.submit(
                self._delivery.start, trial_id, dict(values), time.time_ns() // 1_000_000
            )

    def trial_ended(self, record: TrialRecord) -> None:
        if self._delivery:
            self._delivery.keep(record)
            if record.trial_id in self._starting:
                # A trial that is over before its start was told is told in one go.
                self._starting.pop(record.trial_id).cancel()
            self._sender.submit(self._delivery.end, record)

    def search_ended(self, status: Status) -> None:
        if self._delivery:
            self._note(self._directory, status)
            self._sender.submit(self._delivery.close, status)
            self._ended = True
            self._sender.close()

    def leave(self) -> None:
        """Send everything and end the tracker's thread; the search goes on elsewhere."""
        self.flush()
        if self._sender:
            self._ended = True
            self._sender.close()

    # What `keras-nas sync` needs

    def _note(self, directory: str, status: Status | None) -> None:
        """Leave in the project folder where the search logs, and how it ended.

        A password in an address is not written down: who syncs gives the address again.
        """
        uri, registry = absolute_uri(self.tracking_uri), self._registry_uri
        settings = {
            "experiment": self._experiment,
            "tracking_uri": uri if public_uri(uri) == uri else None,
            "registry_uri": registry if registry and public_uri(registry) == registry else None,
            "run_name": self._run_name,
            "tags": self._tags,
        }
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
            write_json(Path(directory) / NOTE_FILE, {"settings": settings, "status": status})
        except OSError as error:
            _log.warning("`%s` was not written in %s: %s", NOTE_FILE, directory, error)

    @staticmethod
    def settings_of(directory: str | os.PathLike) -> dict[str, Any] | None:
        """Arguments of the tracker that a project folder had last; None where it had none."""
        return _noted(directory, "settings")

    @staticmethod
    def last_status(directory: str | os.PathLike) -> Status | None:
        """How the search of a project folder ended; None while it runs, or when it was killed."""
        return _noted(directory, "status")


def _noted(directory: str | os.PathLike, what: str) -> Any:
    path = Path(directory) / NOTE_FILE
    try:
        return read_json(path)[what]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise StateError(f"`{path}` needs the fields settings and status; lacks {what}") from error

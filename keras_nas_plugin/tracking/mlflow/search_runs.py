"""The runs of one search in an MLflow store: find, create, fill and end them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_nas_plugin.files import file_lock
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import SUPERNET, Status, TrialRecord, is_supernet
from keras_nas_plugin.tracking.mlflow import payload
from keras_nas_plugin.tracking.mlflow.paging import iterate_runs, tags_equal
from keras_nas_plugin.tracking.mlflow.run_writer import RunWriter, source_tags, tag_value
from keras_nas_plugin.tracking.mlflow.saved_view_state import SavedView
from keras_nas_plugin.tracking.mlflow.saved_views import write_views
from keras_nas_plugin.tracking.mlflow.tags import (
    EXCLUDED,
    KIND,
    OBJECTIVE_TAG,
    OVERWRITTEN_BY,
    PARENT,
    SCHEMA,
    SCHEMA_VERSION,
    SEARCH_ID,
    SEARCH_NAME,
    STRATEGY,
    TRIAL_ID,
)
from keras_nas_plugin.tracking.points import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SPACE_ARTIFACT = "search_space.json"
SETTINGS_ARTIFACT = "settings.json"
VALUES_ARTIFACT = "values.json"

#: Tags of the search's run that name its best trial.
BEST_TAGS = ("nas.best_trial_id", "nas.best_run_id")

_ENVIRONMENT_TAGS = ("device", "precision")  # parts of the environment that every run shows
_ENDED = ("FINISHED", "FAILED", "KILLED")


class TrialRun(NamedTuple):
    """The open run of a trial.

    Attributes:
        run_id: MLflow's id.
        artifacts: The address of its files.
        logged: Names of the hyperparameters that it already has.
    """

    run_id: str
    artifacts: str
    logged: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run, logged: Iterable[str] = ()) -> TrialRun:
        """Create it from a run of MLflow's client.

        Args:
            run: The run.
            logged: Names of the hyperparameters that it already has.
        """
        return cls(run.info.run_id, run.info.artifact_uri, frozenset(logged))


class SearchRuns:
    """The parent run of a search and its trials' runs, by explicit ids.

    Every method may be called again after a failure: it uses what exists already, and
    what it writes depends on its arguments alone.

    Args:
        client: An open store.
        experiment_id: The experiment that holds the runs.
        search: The search.
        tags: The user's own tags for every run.
        exclusive: Whether no other process runs this search. Then runs that exist twice come
            from requests whose answers were lost, and are moved to MLflow's trash.

    Attributes:
        parent_id: Id of the search's run; empty before `open_parent`.
        resumed: Whether that run existed before.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        search: SearchInfo,
        tags: Mapping[str, str],
        *,
        exclusive: bool = False,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._search = search
        self._layout = ProjectLayout.of(search.directory)
        self._exclusive = exclusive
        self._reasons = search.exclusions.reasons
        self._write = RunWriter(client, search)
        self._origin = {
            SEARCH_NAME: tag_value(search.name),
            STRATEGY: tag_value(search.strategy),
        }
        self._tags = {
            **source_tags(),
            **{payload.safe_key(key): tag_value(value) for key, value in tags.items()},
            SCHEMA: SCHEMA_VERSION,
            SEARCH_ID: search.search_id,
            **self._origin,
            **{
                f"nas.{key}": tag_value(search.environment[key])
                for key in _ENVIRONMENT_TAGS
                if key in search.environment
            },
        }
        self.parent_id = ""
        self.resumed = False

    # The search's own run

    def open_parent(self, name: str) -> None:
        """Find the search's run and set it RUNNING, or create it.

        Args:
            name: Name of a new run.
        """
        # Workers of one search that start together must not create two parents.
        with file_lock(self._layout.mlflow_lock):
            run = self.find_parent()
            self.resumed = run is not None
            if run is None:
                created = self._client.create_run(
                    self._experiment_id,
                    tags={**self._tags, **self._parent_tags(), KIND: "search"},
                    run_name=name,
                )
                self.parent_id = created.info.run_id
            else:
                self.parent_id = run.info.run_id
        if run is None:
            self._write.params(self.parent_id, self._settings(), SETTINGS_ARTIFACT)
        else:
            self._resume_parent(run)
        self._write.datasets(self.parent_id)
        self._write.artifact(self.parent_id, SPACE_ARTIFACT, list(self._search.space))

    def find_parent(self) -> Run | None:
        """The search's run; a duplicate that a lost request created is moved to the trash."""
        runs = self._search_runs({KIND: "search"}, order_by=["attributes.start_time ASC"])
        if not runs:
            return None
        # A run that was created by a lost request is empty.
        runs.sort(key=lambda run: not run.data.params)
        return self._first_of([runs[0], *(run for run in runs[1:] if not run.data.params)])

    def _resume_parent(self, run: Run) -> None:
        """Set the run RUNNING and tag it with the settings that have changed."""
        self._client.update_run(run.info.run_id, status="RUNNING")
        params, _ = payload.params_of(self._settings(), whole_in=SETTINGS_ARTIFACT)
        existing = run.data.params
        new = {key: value for key, value in params.items() if key not in existing}
        changed = [
            f"{key}: {existing[key]} -> {value}"
            for key, value in params.items()
            if existing.get(key, value) != value
            and not any(change.startswith(f"{key} (") for change in self._search.changes)
        ]
        # The latest first, because the end of a long tag is cut.
        changed += reversed(self._search.changes)
        tags = {**self._origin, **self._parent_tags()}
        if changed:
            tags["nas.changed"] = tag_value("; ".join(dict.fromkeys(changed)))
        if run.data.tags.get(BEST_TAGS[0]) in self._search.exclusions:
            for tag in set(BEST_TAGS) & run.data.tags.keys():
                self._client.delete_tag(run.info.run_id, tag)
        self._write.batch(run.info.run_id, params=new, tags=tags)

    def update_parent(self, points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """Log points and set tags on the search's run."""
        self._write.batch(self.parent_id, points=points, tags=tags)

    def steps_of_parent(self, metric: str) -> set[int]:
        """Steps at which the search's run already has a point of this metric."""
        history = self._client.get_metric_history(self.parent_id, metric)
        return {point.step for point in history}

    def end_parent(self, status: Status) -> None:
        """Give the search's run its final status, and the report if there is one."""
        self._write.files(self.parent_id, [self._layout.report])
        self._client.set_terminated(self.parent_id, status)

    def _settings(self) -> dict[str, Any]:
        search = self._search
        own = {
            "objective": search.objective,
            "direction": search.direction,
            "strategy": search.strategy,
            "max_trials": search.max_trials,
        }
        # A setting of the same name must not replace ours.
        return own | {
            (f"settings/{name}" if name in own else name): value
            for name, value in search.settings.items()
        }

    def _parent_tags(self) -> dict[str, str]:
        search = self._search
        tags = {
            "nas.name": search.name,
            OBJECTIVE_TAG: search.objective,
            "nas.direction": search.direction,
            "nas.directory": os.path.abspath(search.directory),
            **{
                f"nas.env.{key}": value
                for key, value in search.environment.items()
                if key not in _ENVIRONMENT_TAGS
            },
        }
        if search.resume_command:
            tags["nas.resume_command"] = search.resume_command
        return {payload.safe_key(key): tag_value(value) for key, value in tags.items()}

    def write_view(self, view: SavedView) -> None:
        """Bring a saved view of the experiment up to date."""
        write_views(self._client, self._experiment_id, [view], update=True)

    # Trials' runs

    def find_trial(self, trial_id: str, *, settle: bool = False) -> Run | None:
        """Find the run of a trial.

        Args:
            trial_id: The trial.
            settle: Whether to move further runs of the trial to MLflow's trash. Only for the
                process that sends this trial, because the last request of a killed worker may be
                carried out after the first request of its successor.

        Returns:
            The run; None if there is none.
        """
        # The rarer tag first: at 3,000 trials this halves the time of the search.
        runs = self._search_runs({TRIAL_ID: trial_id})
        runs.sort(key=_preference)
        for run in runs[1:] if settle else ():
            self._supersede(run, runs[0].info.run_id)
        return runs[0] if runs else None

    def trials(self, preferred: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
        """Run id and status of every trial, by trial id.

        Args:
            preferred: Runs by trial id that this process uses; of several runs of one trial,
                this one stays.
        """
        runs_by_trial: dict[str, list[Run]] = {}
        for run in [*self._search_runs({KIND: "trial"}), *self._search_runs({KIND: SUPERNET})]:
            runs_by_trial.setdefault(run.data.tags[TRIAL_ID], []).append(run)
        trials = {}
        for trial_id, runs in runs_by_trial.items():
            ours = (preferred or {}).get(trial_id)
            run = self._first_of(
                sorted(runs, key=lambda r: (r.info.run_id != ours, _preference(r)))
            )
            trials[trial_id] = (run.info.run_id, run.info.status)
            missing = {k: v for k, v in self._origin.items() if k not in run.data.tags}
            if missing and self._exclusive:  # logged by an earlier version of this package
                self._write.batch(run.info.run_id, tags=missing)
            if self._exclusive:
                self._mark(run, trial_id)
        return trials

    def _mark(self, run: Run, trial_id: str) -> None:
        """Tag the run of a trial that does not count any more, or remove the tag."""
        reason = self._reasons.get(trial_id)
        tag = None if reason is None else tag_value(reason)
        if tag == run.data.tags.get(EXCLUDED):
            return
        if tag is None:
            self._client.delete_tag(run.info.run_id, EXCLUDED)
        else:
            self._client.set_tag(run.info.run_id, EXCLUDED, tag)

    def mark_overwritten(self, search_id: str, experiment: str | None) -> None:
        """Tag the runs of a search whose project folder this search has overwritten.

        Saved views leave them out. Runs that no process will end are ended.

        Args:
            search_id: The overwritten search.
            experiment: The experiment that it was logged to; None for that of this search.
        """
        experiment_ids = {self._experiment_id}
        if experiment is not None:
            existing = self._client.get_experiment_by_name(experiment)
            if existing is not None:
                experiment_ids.add(existing.experiment_id)
        condition = tags_equal({SEARCH_ID: search_id})
        for experiment_id in sorted(experiment_ids):
            for run in list(iterate_runs(self._client, experiment_id, condition)):
                if OVERWRITTEN_BY not in run.data.tags:
                    by = {OVERWRITTEN_BY: self._search.search_id}
                    self._write.batch(run.info.run_id, tags=by)
                if run.info.status not in _ENDED:
                    self._client.set_terminated(run.info.run_id, "KILLED")

    def _first_of(self, runs: Sequence[Run]) -> Run:
        """The first of several duplicate runs; the others are moved to MLflow's trash."""
        if self._exclusive:
            for run in runs[1:]:
                self._supersede(run, runs[0].info.run_id)
        return runs[0]

    def _supersede(self, run: Run, successor: str) -> None:
        run_id = run.info.run_id
        if run.info.status not in _ENDED:
            self._client.set_terminated(run_id, "KILLED")
        self._client.set_tag(run_id, "nas.superseded_by", successor)
        self._client.delete_run(run_id)

    def start_trial(
        self, trial_id: str, values: Mapping[str, Any], started_ms: int, *, new: bool = False
    ) -> TrialRun:
        """Open the run of a trial that has started, with its hyperparameters.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
            started_ms: When this attempt started, in milliseconds since 1970 (UTC).
            new: See `open_trial`.
        """
        now_ms = time.time_ns() // 1_000_000
        run = self.open_trial(trial_id, values, started_ms, others_until_ms=now_ms, new=new)
        self._write.params(run.run_id, values, VALUES_ARTIFACT, logged=run.logged)
        return run._replace(logged=frozenset(values))

    def open_trial(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        started_ms: int,
        *,
        others_until_ms: int | None = None,
        new: bool = False,
    ) -> TrialRun:
        """Open the run of a trial: a new one, or the one that was interrupted.

        A run that holds the metrics of one attempt cannot hold those of another one too:
        it goes to MLflow's trash, from which it can be restored, and gets a successor.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
            started_ms: When this attempt started, in milliseconds since 1970 (UTC).
            others_until_ms: A run that ended until then belongs to another attempt; None for
                ``started_ms``. While a trial trains, no run of it has ended by itself.
            new: Whether the trial certainly has no run yet, so that none is looked for.

        Returns:
            The run.
        """
        earlier = None if new else self.find_trial(trial_id, settle=True)
        until_ms = started_ms if others_until_ms is None else others_until_ms
        if earlier is not None and self._reopen(earlier, values, until_ms):
            keys = payload.safe_keys(values)
            return TrialRun.of(earlier, (n for n in values if keys[n] in earlier.data.params))
        kind = SUPERNET if is_supernet(trial_id) else "trial"
        run = self._client.create_run(
            self._experiment_id,
            start_time=started_ms,
            tags={**self._tags, KIND: kind, TRIAL_ID: trial_id, PARENT: self.parent_id},
            run_name=payload.run_label(trial_id),
        )
        if earlier is not None:
            self._supersede(earlier, run.info.run_id)
        self._write.datasets(run.info.run_id)
        return TrialRun.of(run)

    def _reopen(self, run: Run, values: Mapping[str, Any], until_ms: int) -> bool:
        """Reopen an earlier run for this attempt; returns False if that is not possible."""
        params, _ = payload.params_of(values, whole_in=VALUES_ARTIFACT)
        logged = run.data.params
        if any(logged.get(key, value) != value for key, value in params.items()):
            return False  # a parameter never changes in MLflow
        if not _ended_by(run, until_ms):
            return True
        if run.data.metrics:
            return False
        self._client.update_run(
            run.info.run_id, "RUNNING", payload.run_label(run.data.tags[TRIAL_ID])
        )
        if "nas.error" in run.data.tags:
            self._client.delete_tag(run.info.run_id, "nas.error")
        return True

    def end_trial(self, run: TrialRun, record: TrialRecord) -> None:
        """Fill the run of a trial that ended, and end it.

        Args:
            run: The open run.
            record: The trial.
        """
        run_id = run.run_id
        late = [name for name in record.values if name not in run.logged]
        params, changed = payload.params_of(record.values, whole_in=VALUES_ARTIFACT)
        keys = payload.safe_keys(record.values)
        if late and changed:
            self._write.artifact(run_id, VALUES_ARTIFACT, dict(record.values))
        points, infinite = payload.points_of(record, self._search)
        tags = {}
        if record.trial_id in self._reasons:
            tags[EXCLUDED] = tag_value(self._reasons[record.trial_id])
        if record.placement is not None:
            tags |= payload.placement_tags(record.placement)
        if record.parents:
            tags["nas.parents"] = tag_value(", ".join(record.parents))
        files = self._layout.trial(record.trial_id)
        artifacts = [files.architecture, files.picture, files.model_summary]
        if is_supernet(record.trial_id):
            artifacts = [self._layout.supernet_weights] if record.trial_id == SUPERNET else []
        if record.error:
            tags["nas.error"] = tag_value(record.error)
            artifacts.append(files.traceback)
        if record.location:
            tags["nas.error_location"] = tag_value(str(record.location))
        self._write.files(run_id, artifacts, run.artifacts)
        if infinite:
            tags["nas.non_finite"] = infinite
        missing = {keys[name]: params[keys[name]] for name in late}
        self._write.batch(run_id, points=points, params=missing, tags=tags)
        label = payload.trial_label(record)
        self._write.end(run_id, record.status, record.ended_ms or None, name=label)

    def kill(self, run_id: str) -> None:
        """End a run as KILLED because its trial does not continue, unless the run has ended."""
        if self._client.get_run(run_id).info.status not in _ENDED:
            self._client.set_terminated(run_id, "KILLED")

    def _search_runs(self, tags: Mapping[str, str], order_by: Sequence[str] = ()) -> list[Run]:
        """All runs of this search with these tags."""
        condition = tags_equal({**tags, SEARCH_ID: self._search.search_id})
        return list(iterate_runs(self._client, self._experiment_id, condition, order_by))


def _preference(run: Run) -> tuple[bool, bool, str]:
    """Sorts runs of one trial: the one that stays comes first."""
    return run.info.status not in _ENDED, not run.data.metrics, run.info.run_id


def _ended_by(run: Run, moment_ms: int) -> bool:
    return run.info.status in _ENDED and (run.info.end_time or 0) <= moment_ms

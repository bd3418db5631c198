"""The runs of one search in an MLflow store: find, create, fill and end them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keras_nas_plugin.files import file_lock
from keras_nas_plugin.tracking import payload
from keras_nas_plugin.tracking.records import (
    ARCHITECTURE,
    PICTURE,
    REPORT,
    SearchInfo,
    Status,
    TrialRecord,
)
from keras_nas_plugin.tracking.writing import RunWriter, origin, tag_value

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SPACE_ARTIFACT = "search_space.json"
SETTINGS_ARTIFACT = "settings.json"
VALUES_ARTIFACT = "values.json"

KIND, SEARCH_ID, TRIAL_ID = "nas.kind", "nas.search_id", "nas.trial_id"
#: Version of the names of tags and metrics, as `docs/mlflow.md` has them.
SCHEMA, SCHEMA_VERSION = "nas.schema", "1"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"

_EVERYWHERE = ("device", "precision")  # parts of the environment that every run is tagged with
_PAGE = 1_000
_ENDED = ("FINISHED", "FAILED", "KILLED")


class TrialRun(NamedTuple):
    """The run of a trial that is open.

    Attributes:
        run_id: MLflow's id.
        artifacts: Where its files go.
        known: Hyperparameters that it has already.
    """

    run_id: str
    artifacts: str
    known: frozenset[str] = frozenset()

    @classmethod
    def of(cls, run: Run, known: Iterable[str] = ()) -> TrialRun:
        """From MLflow's own."""
        info = run.info
        return cls(info.run_id, info.artifact_uri, frozenset(known))


class SearchRuns:
    """The parent run of a search and its trials' runs, by explicit ids.

    Every method may be called again after a failure: it finds what is there already, and
    what it writes depends on its arguments alone.

    Args:
        client: An open store.
        experiment_id: The experiment that holds the runs.
        search: The search.
        tags: The user's own tags for every run.
        alone: Whether no other process works on this search: then runs that are there twice are
            nobody's but a lost request's, and go to MLflow's trash.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        search: SearchInfo,
        tags: Mapping[str, str],
        *,
        alone: bool = False,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._search = search
        self._alone = alone
        self._write = RunWriter(client, search)
        self._tags = {
            **origin(),
            **{payload.safe_key(key): tag_value(value) for key, value in tags.items()},
            SCHEMA: SCHEMA_VERSION,
            SEARCH_ID: search.search_id,
            **{
                f"nas.{key}": tag_value(search.environment[key])
                for key in _EVERYWHERE
                if key in search.environment
            },
        }
        self.parent_id = ""
        self.resumed = False

    # The search's own run

    def open_parent(self, name: str) -> None:
        """Find the search's run and set it RUNNING, or create it."""
        # Workers of one search that start together must not create two parents.
        with file_lock(Path(self._search.directory) / ".mlflow.lock"):
            found = self.find_parent()
            if found is None:
                run = self._client.create_run(
                    self._experiment_id,
                    tags={**self._tags, **self._parent_tags(), KIND: "search"},
                    run_name=name,
                )
                self.parent_id = run.info.run_id
            else:
                self.parent_id = found.info.run_id
        self.resumed = found is not None
        if found is None:
            self._write.params(self.parent_id, self._settings(), SETTINGS_ARTIFACT)
        else:
            self._continue_parent(found)
        self._write.datasets(self.parent_id)
        self._write.artifact(self.parent_id, SPACE_ARTIFACT, list(self._search.space))

    def find_parent(self) -> Run | None:
        """The search's run; one that a lost request made beside it goes to the trash."""
        found = self._search_runs(f"tags.`{KIND}` = 'search'", ["attributes.start_time ASC"])
        # A run that a lost request made has nothing in it.
        found.sort(key=lambda run: not run.data.params)
        return (
            self._only([found[0], *(r for r in found[1:] if not r.data.params)]) if found else None
        )

    def _continue_parent(self, run: Run) -> None:
        """Set the run RUNNING and say what is different from the last time."""
        self._client.update_run(run.info.run_id, status="RUNNING")
        params, _ = payload.params_of(self._settings(), whole_in=SETTINGS_ARTIFACT)
        known = run.data.params
        new = {key: value for key, value in params.items() if key not in known}
        changed = [
            f"{key}: {known[key]} -> {value}"
            for key, value in params.items()
            if known.get(key, value) != value
        ]
        tags = self._parent_tags()
        if changed:
            tags["nas.changed"] = tag_value("; ".join(changed))
        self._write.batch(run.info.run_id, params=new, tags=tags)

    def update_parent(self, points: Sequence[payload.Point], tags: Mapping[str, str]) -> None:
        """Log points and set tags on the search's run."""
        self._write.batch(self.parent_id, points=points, tags=tags)

    def steps_of_parent(self, metric: str) -> set[int]:
        """Steps at which the search's run has this metric already."""
        history = self._client.get_metric_history(self.parent_id, metric)
        return {point.step for point in history}

    def end_parent(self, status: Status) -> None:
        """Give the search's run its final status, and the report where there is one."""
        self._write.files(self.parent_id, Path(self._search.directory), (REPORT,))
        self._client.set_terminated(self.parent_id, status)

    def _settings(self) -> dict[str, Any]:
        search = self._search
        own = {
            "objective": search.objective,
            "direction": search.direction,
            "strategy": search.strategy,
            "max_trials": search.max_trials,
        }
        # A setting of the same name must not take the place of ours.
        return own | {
            (f"settings/{name}" if name in own else name): value
            for name, value in search.settings.items()
        }

    def _parent_tags(self) -> dict[str, str]:
        search = self._search
        tags = {
            "nas.name": search.name,
            "nas.objective": search.objective,
            "nas.direction": search.direction,
            "nas.directory": os.path.abspath(search.directory),
            **{
                f"nas.env.{key}": value
                for key, value in search.environment.items()
                if key not in _EVERYWHERE
            },
        }
        if search.resume_command:
            tags["nas.resume_command"] = search.resume_command
        return {payload.safe_key(key): tag_value(value) for key, value in tags.items()}

    # Trials' runs

    def find_trial(self, trial_id: str, *, settle: bool = False) -> Run | None:
        """The run of a trial, or None.

        Args:
            trial_id: The trial.
            settle: Whether other runs of it go to MLflow's trash. Only for whoever sends this
                trial: a killed worker's last request may be carried out after the next one's.
        """
        # The rarer tag first: at 3,000 trials this halves the time of the look-up.
        found = self._search_runs(f"tags.`{TRIAL_ID}` = '{_quoted(trial_id)}'")
        found.sort(key=_worth)
        for run in found[1:] if settle else ():
            self._supersede(run, found[0].info.run_id)
        return found[0] if found else None

    def trials(self, known: Mapping[str, str] | None = None) -> dict[str, tuple[str, str]]:
        """Run id and status of every trial, by trial id.

        Args:
            known: Runs by trial id that this process works with, to be kept where there are
                several.
        """
        found: dict[str, list[Run]] = {}
        for run in self._search_runs(f"tags.`{KIND}` = 'trial'"):
            found.setdefault(run.data.tags[TRIAL_ID], []).append(run)
        kept = {}
        for trial_id, runs in found.items():
            ours = (known or {}).get(trial_id)
            runs.sort(key=lambda run: (run.info.run_id != ours, _worth(run)))
            run = self._only(runs)
            kept[trial_id] = (run.info.run_id, run.info.status)
        return kept

    def _only(self, runs: Sequence[Run]) -> Run:
        """The first of several runs of the same thing; the others go to MLflow's trash."""
        if self._alone:
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
        """Open the run of a trial that has started, with its hyperparameters."""
        now = time.time_ns() // 1_000_000
        run = self.open_trial(trial_id, values, started_ms, others_until_ms=now, new=new)
        self._write.params(run.run_id, values, VALUES_ARTIFACT, known=run.known)
        return run._replace(known=frozenset(values))

    def open_trial(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        started_ms: int,
        *,
        others_until_ms: int | None = None,
        new: bool = False,
    ) -> TrialRun:
        """Open the run of a trial: a new one, or the one that was cut off.

        A run that holds the metrics of an earlier attempt cannot hold another one's too:
        it goes to MLflow's trash, from where it can be restored, and gets a successor.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
            started_ms: When this attempt started, in milliseconds since 1970 (UTC).
            others_until_ms: A run that ended until then is another attempt's; None for
                ``started_ms``. Of a trial that trains still, no run has ended by itself.
            new: The trial certainly has no run yet, so none is looked for.

        Returns:
            The run.
        """
        earlier = None if new else self.find_trial(trial_id, settle=True)
        until_ms = started_ms if others_until_ms is None else others_until_ms
        if earlier is not None and self._goes_on(earlier, values, until_ms):
            keys = payload.safe_keys(values)
            return TrialRun.of(earlier, (n for n in values if keys[n] in earlier.data.params))
        run = self._client.create_run(
            self._experiment_id,
            start_time=started_ms,
            tags={**self._tags, KIND: "trial", TRIAL_ID: trial_id, PARENT: self.parent_id},
            run_name=payload.run_label(trial_id),
        )
        if earlier is not None:
            self._supersede(earlier, run.info.run_id)
        self._write.datasets(run.info.run_id)
        return TrialRun.of(run)

    def _goes_on(self, run: Run, values: Mapping[str, Any], until_ms: int) -> bool:
        """Whether an earlier run can be this attempt's, which it is then made."""
        params, _ = payload.params_of(values, whole_in=VALUES_ARTIFACT)
        known = run.data.params
        if any(known.get(key, value) != value for key, value in params.items()):
            return False  # a parameter never changes in MLflow
        if not _ended_until(run, until_ms):
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
        """Fill the run of a trial that ended, and end it."""
        run_id = run.run_id
        late = [name for name in record.values if name not in run.known]
        params, changed = payload.params_of(record.values, whole_in=VALUES_ARTIFACT)
        keys = payload.safe_keys(record.values)
        if late and changed:
            self._write.artifact(run_id, VALUES_ARTIFACT, dict(record.values))
        points, infinite = payload.points_of(record, self._search)
        tags = {}
        if record.parents:
            tags["nas.parents"] = tag_value(", ".join(record.parents))
        folder = Path(self._search.directory) / f"trial_{record.trial_id}"
        self._write.files(run_id, folder, (ARCHITECTURE, PICTURE), run.artifacts)
        if record.error:
            tags["nas.error"] = tag_value(record.error)
        if infinite:
            tags["nas.non_finite"] = infinite
        missing = {keys[name]: params[keys[name]] for name in late}
        self._write.batch(run_id, points=points, params=missing, tags=tags)
        label = payload.trial_label(record)
        self._write.end(run_id, record.status, record.ended_ms or None, name=label)

    def kill(self, run_id: str) -> None:
        """End a run whose trial is not going on, unless it has ended meanwhile."""
        if self._client.get_run(run_id).info.status not in _ENDED:
            self._client.set_terminated(run_id, "KILLED")

    # What both kinds share

    def _of_this_search(self) -> str:
        return f"tags.`{SEARCH_ID}` = '{_quoted(self._search.search_id)}'"

    def _search_runs(self, condition: str, order_by: list[str] | None = None) -> list[Run]:
        """All runs of this search that a condition holds for."""
        found, token = [], None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"{condition} and {self._of_this_search()}",
                max_results=_PAGE,
                order_by=order_by,
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found


def _worth(run: Run) -> tuple[bool, bool, str]:
    """Sorts runs of one trial: the one to keep comes first."""
    return run.info.status not in _ENDED, not run.data.metrics, run.info.run_id


def _ended_until(run: Run, moment_ms: int) -> bool:
    return run.info.status in _ENDED and (run.info.end_time or 0) <= moment_ms


def _quoted(text: str) -> str:
    return text.replace("'", "''")

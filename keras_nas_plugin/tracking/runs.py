"""The runs of one search in an MLflow store: find, create, fill and end them."""

from __future__ import annotations

import getpass
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SPACE_ARTIFACT = "search_space.json"
SETTINGS_ARTIFACT = "settings.json"
VALUES_ARTIFACT = "values.json"

KIND, SEARCH_ID, TRIAL_ID = "nas.kind", "nas.search_id", "nas.trial_id"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"

_EVERYWHERE = ("device", "precision")  # parts of the environment that every run is tagged with
_PAGE = 1_000
_ENDED = ("FINISHED", "FAILED", "KILLED")

_log = logging.getLogger("keras_nas_plugin")


class SearchRuns:
    """The parent run of a search and its trials' runs, by explicit ids.

    Every method may be called again after a failure: it finds what is there already, and
    what it writes depends on its arguments alone.

    Args:
        client: An open store.
        experiment_id: The experiment that holds the runs.
        search: The search.
        tags: The user's own tags for every run.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        search: SearchInfo,
        tags: Mapping[str, str],
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._search = search
        self._tags = {
            **_origin(),
            **{payload.safe_key(key): _tag(value) for key, value in tags.items()},
            SEARCH_ID: search.search_id,
            **{
                f"nas.{key}": _tag(search.environment[key])
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
            found = self._find(f"tags.`{KIND}` = 'search'", order_by=["attributes.start_time ASC"])
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
            self._log_params(self.parent_id, self._settings(), SETTINGS_ARTIFACT)
        else:
            self._continue_parent(found)
        self._log_datasets(self.parent_id)
        self._log_artifact(self.parent_id, SPACE_ARTIFACT, list(self._search.space))

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
            tags["nas.changed"] = _tag("; ".join(changed))
        self._log_batch(run.info.run_id, params=new, tags=tags)

    def update_parent(self, points: Sequence[payload.Point], tags: Mapping[str, str]) -> None:
        """Log points and set tags on the search's run."""
        self._log_batch(self.parent_id, points=points, tags=tags)

    def steps_of_parent(self, metric: str) -> set[int]:
        """Steps at which the search's run has this metric already."""
        history = self._client.get_metric_history(self.parent_id, metric)
        return {point.step for point in history}

    def end_parent(self, status: Status) -> None:
        """Give the search's run its final status, and the report where there is one."""
        self._log_files(self.parent_id, Path(self._search.directory), (REPORT,))
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
        return {payload.safe_key(key): _tag(value) for key, value in tags.items()}

    # Trials' runs

    def find_trial(self, trial_id: str) -> Run | None:
        """The run of a trial, or None."""
        # The rarer tag first: at 3,000 trials this halves the time of the look-up.
        return self._find(f"tags.`{TRIAL_ID}` = '{_quoted(trial_id)}'")

    def trials(self) -> dict[str, tuple[str, str]]:
        """Run id and status of every trial, by trial id."""
        found: dict[str, tuple[str, str]] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`{KIND}` = 'trial' and {self._of_this_search()}",
                max_results=_PAGE,
                page_token=token,
            )
            for run in page:
                found[run.data.tags[TRIAL_ID]] = (run.info.run_id, run.info.status)
            token = page.token
            if not token:
                return found

    def start_trial(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        started_ms: int | None = None,
        *,
        new: bool = False,
    ) -> str:
        """Open the run of a trial: a new one, or the one that was cut off.

        A run that holds the metrics of an earlier attempt cannot hold another one's too:
        it goes to MLflow's trash, from where it can be restored, and gets a successor.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
            started_ms: When this attempt started; None for now.
            new: The trial certainly has no run yet, so none is looked for.

        Returns:
            The run's id.
        """
        started_ms = started_ms or int(time.time() * 1e3)
        earlier = None if new else self.find_trial(trial_id)
        if earlier is not None and self._goes_on(earlier, values, started_ms):
            run_id = earlier.info.run_id
            self._log_params(run_id, values, VALUES_ARTIFACT, known=earlier.data.params)
            return run_id
        run_id = self._create_trial(trial_id, started_ms)
        if earlier is not None:
            self._client.set_tag(earlier.info.run_id, "nas.superseded_by", run_id)
            self._client.delete_run(earlier.info.run_id)
        self._log_params(run_id, values, VALUES_ARTIFACT)
        self._log_datasets(run_id)
        return run_id

    def _goes_on(self, run: Run, values: Mapping[str, Any], started_ms: int) -> bool:
        """Whether an earlier run can be this attempt's, which it is then made."""
        params, _ = payload.params_of(values, whole_in=VALUES_ARTIFACT)
        known = run.data.params
        if any(known.get(key, value) != value for key, value in params.items()):
            return False  # a parameter never changes in MLflow
        if not _ended_before(run, started_ms):
            return True
        if run.data.metrics:
            return False
        self._client.update_run(
            run.info.run_id, "RUNNING", payload.run_label(run.data.tags[TRIAL_ID])
        )
        if "nas.error" in run.data.tags:
            self._client.delete_tag(run.info.run_id, "nas.error")
        return True

    def end_trial(self, run_id: str, record: TrialRecord, known: Iterable[str] = ()) -> None:
        """Fill the run of a trial that ended, and end it.

        Args:
            run_id: The trial's run.
            record: The trial.
            known: Hyperparameters that the run has already.
        """
        known = set(known)
        late = {name: value for name, value in record.values.items() if name not in known}
        params, changed = payload.params_of(record.values, whole_in=VALUES_ARTIFACT)
        if late:
            keys = payload.safe_keys(record.values)
            params = {keys[name]: params[keys[name]] for name in late}
            if changed:
                self._log_artifact(run_id, VALUES_ARTIFACT, dict(record.values))
        points, infinite = payload.points_of(record, self._search)
        tags = {RUN_NAME: payload.trial_label(record)}
        if record.parents:
            tags["nas.parents"] = _tag(", ".join(record.parents))
        folder = Path(self._search.directory) / f"trial_{record.trial_id}"
        self._log_files(run_id, folder, (ARCHITECTURE, PICTURE))
        if record.error:
            tags["nas.error"] = _tag(record.error)
        if infinite:
            tags["nas.non_finite"] = infinite
        self._log_batch(run_id, points=points, params=params if late else {}, tags=tags)
        self._client.set_terminated(run_id, record.status, record.ended_ms or None)

    def kill(self, run_id: str) -> None:
        """End a run whose trial is not going on, unless it has ended meanwhile."""
        if self._client.get_run(run_id).info.status not in _ENDED:
            self._client.set_terminated(run_id, "KILLED")

    def _create_trial(self, trial_id: str, started_ms: int) -> str:
        run = self._client.create_run(
            self._experiment_id,
            start_time=started_ms,
            tags={**self._tags, KIND: "trial", TRIAL_ID: trial_id, PARENT: self.parent_id},
            run_name=payload.run_label(trial_id),
        )
        return run.info.run_id

    # What both kinds share

    def _of_this_search(self) -> str:
        return f"tags.`{SEARCH_ID}` = '{_quoted(self._search.search_id)}'"

    def _find(self, condition: str, order_by: list[str] | None = None) -> Run | None:
        found = self._client.search_runs(
            [self._experiment_id],
            f"{condition} and {self._of_this_search()}",
            max_results=1,
            order_by=order_by,
        )
        return found[0] if found else None

    def _log_batch(
        self,
        run_id: str,
        *,
        points: Sequence[payload.Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(p.key, p.value, p.time_ms, p.step) for p in points],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )

    def _log_params(
        self,
        run_id: str,
        values: Mapping[str, Any],
        artifact: str,
        known: Mapping[str, str] | None = None,
    ) -> None:
        params, changed = payload.params_of(values, whole_in=artifact)
        self._log_batch(run_id, params={k: v for k, v in params.items() if k not in (known or {})})
        if changed:
            self._log_artifact(run_id, artifact, dict(values))

    def _log_datasets(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"tags": _origin()})
        inputs = [
            DatasetInput(
                Dataset(
                    name=fields["name"],
                    digest=fields["digest"],
                    source_type="code",
                    source=source,
                    schema=fields["schema"],
                    profile=fields["profile"],
                ),
                [InputTag("mlflow.data.context", fields["context"])],
            )
            for fields in payload.dataset_fields(self._search)
        ]
        if inputs:
            self._client.log_inputs(run_id, inputs)

    def _log_files(self, run_id: str, folder: Path, names: Iterable[str]) -> None:
        """Store what lies in a folder for people to look at."""
        for name in names:
            if (folder / name).exists():
                try:
                    self._client.log_artifact(run_id, str(folder / name))
                except Exception as error:  # artifact stores raise whatever their library raises
                    _log.warning("MLflow's artifact store did not take `%s`: %s", name, error)

    def _log_artifact(self, run_id: str, name: str, data: Any) -> None:
        """Store JSON beside a run; the run does not depend on it."""
        text = json.dumps(data, indent=1, default=str)
        try:
            self._client.log_text(run_id, text, name)
        except Exception as error:  # artifact stores raise whatever their library raises
            _log.warning("MLflow's artifact store did not take `%s`: %s", name, error)


def _ended_before(run: Run, started_ms: int) -> bool:
    return run.info.status in _ENDED and (run.info.end_time or 0) <= started_ms


def _tag(value: Any) -> str:
    return payload.shorten(payload.text_of(value), payload.TAG_LIMIT)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _origin() -> dict[str, str]:
    """Who started what, as MLflow's own system tags."""
    tags = {"mlflow.source.name": sys.argv[0] or "python", "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        _log.debug("The system has no name for this user.")
    return tags

"""Reads trials of an MLflow experiment, which any program may have logged."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import NASError, TrackingError, WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.records.retraining import RETRAINED
from keras_nas_plugin.records.trial import SUPERNET
from keras_nas_plugin.tracking.mlflow.client import (
    bounded_requests,
    connect,
    first_line,
    public_uri,
    resolve_uri,
)
from keras_nas_plugin.tracking.mlflow.paging import iterate_runs
from keras_nas_plugin.tracking.mlflow.payload import (
    COST,
    RESULT,
    RESULT_OF_SCHEMA_1,
    objective_key,
    safe_key,
)
from keras_nas_plugin.tracking.mlflow.schema_lock import sqlite_path
from keras_nas_plugin.tracking.mlflow.search_runs import SPACE_ARTIFACT, VALUES_ARTIFACT
from keras_nas_plugin.tracking.mlflow.tags import (
    KIND,
    SEARCH_ID,
    TRIAL_ID,
)
from keras_nas_plugin.transfer.trials import (
    Objective,
    Outcome,
    TrialCollector,
    check_reported,
    listed,
    merge_directions,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("keras_nas_plugin")

_OUTCOMES = {"FINISHED": Outcome.FINISHED, "FAILED": Outcome.FAILED}
_MULTI_OBJECTIVE = "multi_objective"
# Prefixes of metrics with the name under which a trial reported them.
_REPORTED = (RESULT, RESULT_OF_SCHEMA_1, COST)
_TRUNCATED = f"whole in {VALUES_ARTIFACT}]"


def read_experiment(
    name: str,
    tracking_uri: str | None,
    objectives: Sequence[Objective] | None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read the runs of an experiment.

    Args:
        name: The experiment.
        tracking_uri: Its tracking store; None for MLflow's default.
        objectives: Objectives to use; None for those of its searches.
        constraints: See `earlier_trials`.

    Raises:
        WarmStartError: See `earlier_trials`.
        TrackingError: The store does not respond, or responds with an error.
    """
    uri = resolve_uri(tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise WarmStartError(f"`tracking_uri` must be an existing store; got '{public_uri(uri)}'")
    client = connect(uri)
    with bounded_requests():
        try:
            collector = TrialCollector(f"MLflow's {name!r}", constraints)
            return _read(client, name, objectives, collector)
        except NASError:
            raise
        except Exception as error:  # MLflow, SQLAlchemy and plugins raise errors of any type
            raise TrackingError(
                f"`tracking_uri` must be a store that can be read; got '{public_uri(uri)}': "
                f"{first_line(error)}"
            ) from error


def _read(
    client: MlflowClient,
    name: str,
    objectives: Sequence[Objective] | None,
    collector: TrialCollector,
) -> EarlierTrials:
    runs = sorted(iterate_runs(client, _experiment_id(client, name)), key=_start_key)
    searches = {
        run.data.tags[SEARCH_ID]: _Search(client, run)
        for run in runs
        if run.data.tags.get(KIND) == "search"
    }
    trials = [
        _trial(client, run, searches.get(run.data.tags.get(SEARCH_ID, "")))
        for run in runs
        # A retrained model belongs to another run, which is a trial; a supernet to a search.
        if run.data.tags.get(KIND) not in ("search", RETRAINED, SUPERNET) and run.data.params
    ]
    if not trials:
        raise WarmStartError(
            f"`experiment` must contain runs with parameters; got {name!r}, which has none"
        )
    directions = {search.objective: search.direction for search in searches.values()}
    finished = [trial for trial in trials if trial.outcome is Outcome.FINISHED]
    if objectives is None:
        objectives = _objectives_of(searches.values(), finished, collector.source)
    elif finished:
        for objective in objectives:
            if not any(trial.metric(objective[0]) is not None for trial in finished):
                check_reported([objective], _metric_names(finished), collector.source)
    used = merge_directions(objectives, directions, collector.source)
    for trial in trials:
        collector.add(trial, used)
    return collector.trials(used)


def _experiment_id(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = sorted(experiment.name for experiment in client.search_experiments())
        raise WarmStartError(
            f"`experiment` must be the name of an existing experiment, one of {listed(names)}; "
            f"got {name!r}"
        )
    return experiment.experiment_id


def _start_key(run: Run) -> tuple[int, int, str]:
    """Sort key by start time; trials that started in the same millisecond sort by their ids."""
    number = run.data.tags.get(TRIAL_ID, "")
    return run.info.start_time, len(number), number


def _objectives_of(
    searches: Iterable[_Search], finished: Sequence[_RunTrial], source: str
) -> list[Objective]:
    """The objective of the searches in an experiment.

    Raises:
        WarmStartError: It is unknown, or the searches have different objectives.
    """
    pairs = {(search.objective, search.direction) for search in searches}
    objectives: list[Objective] = sorted(pairs, key=lambda pair: (pair[0], pair[1] or ""))
    if len(objectives) == 1 and objectives[0][0] != _MULTI_OBJECTIVE:
        return objectives
    texts = [f"{name} ({direction})" for name, direction in objectives]
    raise WarmStartError(
        f"`objective` must be the name of a metric, because the objective of {source} is "
        f"{' and '.join(texts) or 'unknown'}; got None. Its metrics: "
        f"{listed(_metric_names(finished))}"
    )


def _metric_names(finished: Sequence[_RunTrial]) -> list[str]:
    """Available names; for runs of this package as the trials reported them."""
    names: set[str] = set()
    for trial in finished:
        for key in trial.run.data.metrics:
            if trial.search is None:
                names.add(key)
                continue
            prefix = next((prefix for prefix in _REPORTED if key.startswith(prefix)), None)
            if prefix is not None:
                names.add(key.removeprefix(prefix))
    return sorted(names)


class _Search:
    """The run of a search of this package."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        tags = run.data.tags
        self.objective, self.direction = tags.get("nas.objective", ""), tags.get("nas.direction")
        space = _artifact(client, run.info.run_id, SPACE_ARTIFACT)
        #: Hyperparameters whose name is also the key of their parameter; None if unknown.
        self.plain_names: frozenset[str] | None = None
        if isinstance(space, list):
            names = (config.get("name", "") for config in space)
            self.plain_names = frozenset(name for name in names if safe_key(name) == name)
        self._names_without_artifact: set[frozenset[str]] = set()

    def values(self, client: MlflowClient, run: Run) -> Mapping[str, Any]:
        """The values of a trial: its parameters, or the artifact with the exact values."""
        params = run.data.params
        changed: frozenset[str] = frozenset()
        if self.plain_names is not None:
            names = frozenset(params) - self.plain_names
            changed = frozenset(name for name in names if not name.startswith("tuner/"))
        truncated = any(value.endswith(_TRUNCATED) for value in params.values())
        if not truncated and (not changed or changed in self._names_without_artifact):
            return params
        exact = _artifact(client, run.info.run_id, VALUES_ARTIFACT)
        if isinstance(exact, dict):
            return exact
        # Hyperparameters that were declared during the search: do not ask for every trial.
        self._names_without_artifact.add(changed)
        return params


@dataclasses.dataclass(frozen=True)
class _RunTrial:
    """A run that is a trial, and its search if it is a search of this package."""

    run: Run
    values: Mapping[str, Any]
    outcome: Outcome
    search: _Search | None

    def metric(self, name: str) -> float | None:
        """See `Candidate.metric`."""
        metrics = self.run.data.metrics
        if self.search is None:
            return metrics.get(name)
        # The metric by epoch has the value of the last epoch, not of the best one.
        keys = (
            objective_key(name),
            safe_key(RESULT + name),
            safe_key(RESULT_OF_SCHEMA_1 + name),
            safe_key(COST + canonical(name)),
        )
        return next((metrics[key] for key in keys if key in metrics), None)

    def score(self) -> float | None:
        """See `Candidate.score`."""
        return None if self.search is None else self.metric(self.search.objective)


def _trial(client: MlflowClient, run: Run, search: _Search | None) -> _RunTrial:
    outcome = _OUTCOMES.get(run.info.status, Outcome.UNFINISHED)
    values = run.data.params
    if search is not None and outcome is not Outcome.UNFINISHED:
        values = search.values(client, run)
    return _RunTrial(run, values, outcome, search)


def _artifact(client: MlflowClient, run_id: str, name: str) -> object:
    """The content of a JSON artifact; None if there is none that can be read."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, name, folder)
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except Exception as error:  # artifact stores raise errors of any type
            logger.debug("MLflow has no artifact `%s` of run %s: %s", name, run_id, error)
            return None

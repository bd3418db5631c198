"""Trials of an MLflow experiment, whoever logged them."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import NASError, TrackingError, WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.tracking.connection import (
    bounded_requests,
    connect,
    first_line,
    public_uri,
    resolve_uri,
)
from keras_nas_plugin.tracking.opening import sqlite_path
from keras_nas_plugin.tracking.payload import BEST, COST, objective_key, safe_key
from keras_nas_plugin.tracking.retraining import RETRAINED
from keras_nas_plugin.tracking.runs import (
    KIND,
    SEARCH_ID,
    SPACE_ARTIFACT,
    TRIAL_ID,
    VALUES_ARTIFACT,
)
from keras_nas_plugin.transfer.trials import (
    Account,
    Candidate,
    Outcome,
    Wanted,
    agreed,
    check_reported,
    listed,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("keras_nas_plugin")

_PAGE = 1_000
_OUTCOMES = {"FINISHED": Outcome.FINISHED, "FAILED": Outcome.FAILED}
_SEVERAL = "multi_objective"
_CUT = f"whole in {VALUES_ARTIFACT}]"


def read_experiment(
    name: str,
    tracking_uri: str | None,
    wanted: Sequence[Wanted] | None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read the runs of an experiment.

    Args:
        name: The experiment.
        tracking_uri: Where it is; None for MLflow's own default.
        wanted: Objectives; None for what the searches in it were for.
        constraints: See `earlier_trials`.

    Raises:
        WarmStartError: See `earlier_trials`.
        TrackingError: The store does not answer, or not as it should.
    """
    uri = resolve_uri(tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise WarmStartError(
            f"`tracking_uri` needs a store that exists; received '{public_uri(uri)}'"
        )
    client = connect(uri)
    with bounded_requests():
        try:
            return _read(client, name, wanted, Account(f"MLflow's {name!r}", constraints))
        except NASError:
            raise
        except Exception as error:  # whatever MLflow, SQLAlchemy and plugins raise
            raise TrackingError(
                f"`tracking_uri` needs a store that can be read; received '{public_uri(uri)}': "
                f"{first_line(error)}"
            ) from error


def _read(
    client: MlflowClient, name: str, wanted: Sequence[Wanted] | None, account: Account
) -> EarlierTrials:
    runs = sorted(_runs(client, _experiment(client, name)), key=_began)
    searches = {
        run.data.tags[SEARCH_ID]: _Search(client, run)
        for run in runs
        if run.data.tags.get(KIND) == "search"
    }
    trials = [
        _trial(client, run, searches.get(run.data.tags.get(SEARCH_ID)))
        for run in runs
        # What was retrained on all data has been a trial before.
        if run.data.tags.get(KIND) not in ("search", RETRAINED) and run.data.params
    ]
    if not trials:
        raise WarmStartError(
            f"`experiment` needs runs with parameters; received {name!r}, which has none"
        )
    known = {search.objective: search.direction for search in searches.values()}
    finished = [trial for trial in trials if trial.outcome is Outcome.FINISHED]
    if wanted is None:
        wanted = _searched_for(searches.values(), finished, account.source)
    elif finished:
        for one in wanted:
            if not any(trial.metric(one[0]) is not None for trial in finished):
                check_reported([one], _metrics(finished), account.source)
    objectives = agreed(wanted, known, account.source)
    for trial in trials:
        account.take(Candidate(trial.values, trial.outcome, trial.metric), objectives)
    return account.trials(objectives)


def _experiment(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        names = sorted(one.name for one in client.search_experiments())
        raise WarmStartError(
            f"`experiment` needs one that exists; received {name!r}. There: {listed(names)}"
        )
    return experiment.experiment_id


def _began(run: Run) -> tuple[int, int, str]:
    """Sorts runs by their start; trials that start in the same millisecond by their numbers."""
    number = run.data.tags.get(TRIAL_ID, "")
    return run.info.start_time, len(number), number


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """All runs that are not in the trash."""
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _searched_for(
    searches: Iterable[_Search], finished: Sequence[_Trial], source: str
) -> list[Wanted]:
    """What the searches of an experiment were for.

    Raises:
        WarmStartError: They do not say, or not all the same.
    """
    found = sorted({(search.objective, search.direction) for search in searches})
    if len(found) == 1 and found[0][0] != _SEVERAL:
        return found
    reason = " and ".join(f"{name} ({way})" for name, way in found) or "nothing that is known"
    raise WarmStartError(
        f"`objective` needs a metric's name, because {source} searched for {reason}; received "
        f"None. Metrics there: {listed(_metrics(finished))}"
    )


def _metrics(finished: Sequence[_Trial]) -> list[str]:
    """Names that may be asked for; those of our own runs as their trials reported them."""
    names: set[str] = set()
    for trial in finished:
        own = trial.search is not None
        keys = trial.run.data.metrics
        for key in keys:
            prefix = next((one for one in (BEST, COST) if key.startswith(one)), "")
            if not own or prefix:
                names.add(key.removeprefix(prefix) if own else key)
    return sorted(names)


class _Search:
    """The run of a search of this package."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        tags = run.data.tags
        self.objective, self.direction = tags.get("nas.objective", ""), tags.get("nas.direction")
        space = _artifact(client, run.info.run_id, SPACE_ARTIFACT)
        #: Names of its hyperparameters that are keys of parameters as well; None if unknown.
        self.plain: frozenset[str] | None = None
        if isinstance(space, list):
            names = (one.get("name", "") for one in space)
            self.plain = frozenset(name for name in names if safe_key(name) == name)
        self._without: set[frozenset[str]] = set()

    def values(self, client: MlflowClient, run: Run) -> Mapping[str, Any]:
        """A trial's values: its parameters, or the artifact that holds what these cannot."""
        params = run.data.params
        other = frozenset() if self.plain is None else frozenset(params) - self.plain
        other = frozenset(name for name in other if not name.startswith("tuner/"))
        cut = any(value.endswith(_CUT) for value in params.values())
        if not cut and (not other or other in self._without):
            return params
        exact = _artifact(client, run.info.run_id, VALUES_ARTIFACT)
        if isinstance(exact, dict):
            return exact
        # Names that were found while the search ran: no need to ask for each trial.
        self._without.add(other)
        return params


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A run that is a trial, and its search if it is one of this package."""

    run: Run
    values: Mapping[str, Any]
    outcome: Outcome
    search: _Search | None

    def metric(self, name: str | None) -> float | None:
        """See `Candidate`."""
        metrics = self.run.data.metrics
        if self.search is None:
            return metrics.get(name)
        # The last epoch's value, under the plain name, is not the best epoch's.
        keys = (objective_key(name), safe_key(BEST + name), safe_key(COST + canonical(name)))
        return next((metrics[key] for key in keys if key in metrics), None)


def _trial(client: MlflowClient, run: Run, search: _Search | None) -> _Trial:
    outcome = _OUTCOMES.get(run.info.status, Outcome.UNFINISHED)
    values = run.data.params
    if search is not None and outcome is not Outcome.UNFINISHED:
        values = search.values(client, run)
    return _Trial(run, values, outcome, search)


def _artifact(client: MlflowClient, run_id: str, name: str) -> Any:
    """What a JSON artifact holds; None when there is none that can be read."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, name, folder)
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except Exception as error:  # artifact stores raise whatever their library raises
            logger.debug("MLflow has no artifact `%s` of run %s: %s", name, run_id, error)
            return None

"""Trials of a project folder: of this package, or of KerasTuner's own tuners."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError, WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.files import read_json
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.tracking.records import SearchInfo
from keras_nas_plugin.transfer.trials import (
    Account,
    Candidate,
    Outcome,
    Wanted,
    agreed,
    check_reported,
    listed,
)

_TRIALS = "trial_*/trial.json"
_OUTCOMES = {
    "COMPLETED": Outcome.FINISHED,
    "FAILED": Outcome.FAILED,
    "INVALID": Outcome.FAILED,
}
# What reading a file that is damaged, or something else, raises.
_UNREADABLE = (OSError, StateError, LookupError, TypeError, ValueError, AttributeError)
_UNREADABLE += (ArithmeticError,)


def read_project(
    source: str | os.PathLike,
    wanted: Sequence[Wanted] | None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read ``trial_*/trial.json`` of a folder.

    Args:
        source: The folder.
        wanted: Objectives; None for what the search was for.
        constraints: See `earlier_trials`.

    Raises:
        WarmStartError: See `earlier_trials`.
    """
    folder = Path(source)
    files = sorted(folder.glob(_TRIALS), key=lambda path: (len(str(path)), path))
    if not files:
        raise WarmStartError(
            f"`source` needs the folder of a search, with {_TRIALS} in it; "
            f"received {str(source)!r}, {_instead(folder)}"
        )
    account = Account(repr(str(folder)), constraints)
    trials = list(_read(files, account))
    if not trials:
        raise WarmStartError(
            f"`source` needs trials that can be read; received {str(source)!r}, where none of "
            f"{len(files)} can: {account.unreadable[0]}"
        )
    own = _objectives_of(folder) or _inferred(trials)
    objectives = own
    if wanted is not None:
        completed = [trial for trial in trials if trial.outcome is Outcome.FINISHED]
        if completed:
            reported = {name for trial in completed for name in trial.at_best}
            check_reported(wanted, reported, account.source)
        objectives = agreed(wanted, dict(own or ()), account.source)
    # The score is the objective at its best epoch, whatever the metrics' own history says.
    single = own[0][0] if own is not None and len(own) == 1 else None
    for trial in trials:
        candidate = Candidate(trial.values, trial.outcome, partial(trial.metric, single))
        account.take(candidate, objectives)
    return account.trials(objectives)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What a file says of a trial; metrics at its best epoch and at their own best."""

    values: Mapping[str, Any]
    outcome: Outcome
    score: float | None
    at_best: Mapping[str, float]
    extremes: frozenset[tuple[Wanted, float]]

    def metric(self, objective: str | None, name: str | None) -> float | None:
        return self.score if name in (None, objective) else self.at_best.get(name)


def _instead(folder: Path) -> str:
    """What is in a folder that holds no trials."""
    if not folder.is_dir():
        return "which is not a folder"
    searches = sorted({path.parent.parent.name for path in folder.glob(f"*/{_TRIALS}")})
    return f"which has none; searches in it: {listed(searches)}"


def _read(files: Sequence[Path], account: Account) -> Iterator[_Trial]:
    """The trials of files that hold one."""
    for path in files:
        try:
            yield _trial(read_json(path))
        except _UNREADABLE as error:
            account.unreadable.append(f"{path}: {type(error).__name__}")


def _trial(state: Mapping[str, Any]) -> _Trial:
    at_best, extremes = {}, set()
    for name, metric in state["metrics"]["metrics"].items():
        history = {
            one["step"]: sum(one["value"]) / len(one["value"]) for one in metric["observations"]
        }
        if history:
            # Where the best epoch has no value of this metric, its last one counts.
            at_best[name] = history.get(state["best_step"], history[max(history)])
            way = metric["direction"]
            best = max(history.values()) if way == "max" else min(history.values())
            extremes.add(((name, way), best))
    return _Trial(
        dict(state["hyperparameters"]["values"]),
        _OUTCOMES.get(state["status"], Outcome.UNFINISHED),
        state["score"],
        at_best,
        frozenset(extremes),
    )


def _objectives_of(folder: Path) -> list[Wanted] | None:
    """What a search of this package was for; None for one of KerasTuner's tuners."""
    try:
        state = read_json(folder / "oracle.json")
        # `oracles/store.py` writes the first, `oracles/stock.py` the second.
        if "search" in state:
            return [(name, way) for name, way in state["search"]["objectives"]]
        if "keras_nas_plugin" in state:
            return [(name, way) for name, way in state["keras_nas_plugin"][1]]
        search = SearchInfo.load(folder)
    except _UNREADABLE:
        # Damaged, or of another version: then the trials themselves have to say it.
        return None
    return None if search is None else [(search.objective, search.direction)]


def _inferred(trials: Sequence[_Trial]) -> list[Wanted] | None:
    """The one metric whose best value is the score of every trial; None when none or two are.

    KerasTuner's own files do not name the objective.
    """
    equal = [
        {metric for metric, best in trial.extremes if best == trial.score}
        for trial in trials
        if trial.outcome is Outcome.FINISHED
    ]
    candidates = set.intersection(*equal) if equal else set()
    return list(candidates) if len(candidates) == 1 else None

"""Reads trials of a project folder of this package or of KerasTuner."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError, WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.files import read_json
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.transfer.trials import (
    Objective,
    Outcome,
    TrialCollector,
    check_reported,
    listed,
    merge_directions,
)

_OUTCOMES = {
    "COMPLETED": Outcome.FINISHED,
    "FAILED": Outcome.FAILED,
    "INVALID": Outcome.FAILED,
}
# Errors that a damaged or unrelated file may cause.
_UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    StateError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
)


def read_project(
    source: str | os.PathLike[str],
    objectives: Sequence[Objective] | None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read the trials of a project folder.

    Args:
        source: The folder.
        objectives: Objectives to use; None for those of the search.
        constraints: See `earlier_trials`.

    Raises:
        WarmStartError: See `earlier_trials`.
    """
    folder = Path(source)
    states = [trial.state for trial in ProjectLayout(folder).trials()]
    files = [path for path in states if path.exists()]
    if not files:
        raise WarmStartError(
            "`source` must be the folder of a search, which contains trial_*/trial.json; "
            f"got {str(source)!r}, {_content_of(folder)}"
        )
    collector = TrialCollector(repr(str(folder)), constraints)
    trials = list(_read(files, collector.unreadable))
    if not trials:
        raise WarmStartError(
            f"`source` must contain trials that can be read; got {str(source)!r}, in which none "
            f"of {len(files)} can be read: {collector.unreadable[0]}"
        )
    searched = _objectives_of(folder) or _inferred(trials)
    # The score is the objective at the best epoch, whatever the history of that metric says.
    single = searched[0][0] if searched is not None and len(searched) == 1 else None
    used = searched
    if objectives is not None:
        finished = [trial for trial in trials if trial.outcome is Outcome.FINISHED]
        if finished:
            reported = {name for trial in finished for name in trial.at_best}
            check_reported(objectives, reported, collector.source)
        used = merge_directions(objectives, dict(searched or ()), collector.source)
    for trial in trials:
        collector.add(dataclasses.replace(trial, objective=single), used)
    return collector.trials(used)


@dataclasses.dataclass(frozen=True)
class _ProjectTrial:
    """The content of a file: metrics at the best epoch, and the best value of each metric."""

    values: Mapping[str, Any]
    outcome: Outcome
    reported_score: float | None
    at_best: Mapping[str, float]
    extremes: frozenset[tuple[tuple[str, str], float]]
    objective: str | None = None

    def metric(self, name: str) -> float | None:
        """See `Candidate.metric`."""
        return self.reported_score if name == self.objective else self.at_best.get(name)

    def score(self) -> float | None:
        """See `Candidate.score`."""
        return self.reported_score


def _content_of(folder: Path) -> str:
    """What a folder without trials contains."""
    if not folder.is_dir():
        return "which is not a folder"
    searches = sorted(path.name for path in folder.iterdir() if ProjectLayout(path).trials())
    return f"which has none; searches in it: {listed(searches)}"


def _read(files: Sequence[Path], unreadable: list[str]) -> Iterator[_ProjectTrial]:
    """Yield the trials; files that contain none are added to ``unreadable``."""
    for path in files:
        try:
            yield _trial(read_json(path))
        except _UNREADABLE as error:
            unreadable.append(f"{path}: {type(error).__name__}")


def _trial(state: Mapping[str, Any]) -> _ProjectTrial:
    at_best, extremes = {}, set()
    for name, metric in state["metrics"]["metrics"].items():
        history = {
            observation["step"]: sum(observation["value"]) / len(observation["value"])
            for observation in metric["observations"]
        }
        if history:
            # If the best epoch has no value of this metric, its last value counts.
            at_best[name] = history.get(state["best_step"], history[max(history)])
            direction = metric["direction"]
            best = max(history.values()) if direction == "max" else min(history.values())
            extremes.add(((name, direction), best))
    return _ProjectTrial(
        dict(state["hyperparameters"]["values"]),
        _OUTCOMES.get(state["status"], Outcome.UNFINISHED),
        state["score"],
        at_best,
        frozenset(extremes),
    )


def _objectives_of(folder: Path) -> list[Objective] | None:
    """The objectives of a search of this package; None for one of KerasTuner's tuners."""
    try:
        state = read_json(ProjectLayout(folder).oracle)
        # `NASOracle` writes the first key, the wrappers of KerasTuner's oracles the second.
        if "search" in state:
            return [(name, direction) for name, direction in state["search"]["objectives"]]
        if "keras_nas_plugin" in state:
            return [(name, direction) for name, direction in state["keras_nas_plugin"][1]]
        search = SearchInfo.load(folder)
    except _UNREADABLE:
        # Damaged, or written by another version: the objectives are inferred from the trials.
        return None
    return None if search is None else list(search.directions.items())


def _inferred(trials: Sequence[_ProjectTrial]) -> list[Objective] | None:
    """The only metric whose best value is the score of every trial; None if it is not unique.

    KerasTuner's own files do not name the objective.
    """
    matching = [
        {metric for metric, best in trial.extremes if best == trial.reported_score}
        for trial in trials
        if trial.outcome is Outcome.FINISHED
    ]
    candidates = set.intersection(*matching) if matching else set()
    return list(candidates) if len(candidates) == 1 else None

"""Selects the trials of an earlier search, whatever their source, and resolves objectives."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint, broken_by
from keras_nas_plugin.oracles.earlier import EarlierTrials, Scores
from keras_nas_plugin.space.fidelity import configuration

logger = logging.getLogger("keras_nas_plugin")

#: Name and direction of an objective; the direction is None if it is unknown.
Objective = tuple[str, str | None]

_LISTED_NAMES = 20  # in an error message


class Outcome(enum.Enum):
    """How a trial ended, if it did."""

    FINISHED, FAILED, UNFINISHED = enum.auto(), enum.auto(), enum.auto()


class Candidate(Protocol):
    """A trial of a source."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its hyperparameters, including the number of epochs in a multi-fidelity search."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""

    def metric(self, name: str) -> float | None:
        """A metric at the best epoch; None if the trial has no such metric."""

    def score(self) -> float | None:
        """The score by the objective of the source; None if it is unknown."""


@dataclasses.dataclass(frozen=True)
class _UsedTrial:
    values: Mapping[str, Any]
    scores: Scores | None


class TrialCollector:
    """Collects the usable trials of a source and counts the others.

    Args:
        source: Display name of the source.
        constraints: Limits that a trial must satisfy.
    """

    def __init__(self, source: str, constraints: Sequence[Constraint] = ()) -> None:
        self.source = source
        self._constraints = constraints
        #: Files that contain no trial.
        self.unreadable: list[str] = []
        self._used: list[_UsedTrial] = []
        self._unfinished = 0
        self._unscored = 0
        self._infeasible = 0

    def add(self, trial: Candidate, objectives: Sequence[Objective] | None) -> None:
        """Add a trial, or count why it is not used.

        Args:
            trial: The trial.
            objectives: The objectives; None for the score of the source.
        """
        if trial.outcome is Outcome.UNFINISHED:
            self._unfinished += 1
            return
        if trial.outcome is Outcome.FAILED:
            self._used.append(_UsedTrial(trial.values, None))
            return
        if objectives is None:
            reported = [trial.score()]
        else:
            reported = [trial.metric(name) for name, _ in objectives]
        scores = [score for score in reported if score is not None]
        if len(scores) < len(reported):
            self._unscored += 1
            return
        infeasible = self._violates_constraints(trial)
        self._infeasible += infeasible
        self._used.append(_UsedTrial(trial.values, None if infeasible else _finite(scores)))

    def _violates_constraints(self, trial: Candidate) -> bool:
        values = ((limit.name, trial.metric(limit.name)) for limit in self._constraints)
        measured = {name: value for name, value in values if value is not None}
        # Trials of other programs may not have the metric, so it cannot be checked.
        return bool(broken_by(self._constraints, measured))

    def trials(self, objectives: Sequence[Objective] | None) -> EarlierTrials:
        """The trials for a warm start; the log says how many were not used, and why."""
        pairs = _longest_trainings(self._used)
        self._log_summary(pairs, objectives)
        return EarlierTrials(pairs, objectives)

    def _log_summary(
        self, pairs: Sequence[tuple[object, object]], objectives: Sequence[Objective] | None
    ) -> None:
        failed = sum(score is None for _, score in pairs)
        text = f"{len(pairs)} earlier trials" + (f" ({failed} of them failed)" if failed else "")
        if objectives:
            text += f" with {' and '.join(name for name, _ in objectives)}"
        text += f" from {self.source}"
        for count, reason in (
            (self._infeasible, "violated a constraint and count as failed"),
            (len(self._used) - len(pairs), "trained further under another id"),
            (self._unfinished, "unfinished and ignored"),
            (self._unscored, "without the objective and ignored"),
        ):
            text += f"; {count} {reason}" if count else ""
        if self.unreadable:
            text += f"; {len(self.unreadable)} unreadable ({self.unreadable[0]})"
        warn = self.unreadable or self._unscored or not pairs
        logger.log(logging.WARNING if warn else logging.INFO, "%s", text)


def _longest_trainings(trials: Iterable[_UsedTrial]) -> list[tuple[dict[str, Any], Any]]:
    """Pairs of values and score, with only the longest training of each configuration.

    A longer training that failed does not replace a shorter one with a score.
    """
    best: dict[Hashable, tuple[tuple[bool, float], _UsedTrial]] = {}
    for number, trial in enumerate(trials):
        values = configuration(trial.values)
        epochs = trial.values.get("tuner/epochs")
        key = number if epochs is None else json.dumps(values, sort_keys=True, default=str)
        rank = (trial.scores is not None, 0.0 if epochs is None else float(epochs))
        if key not in best or rank >= best[key][0]:
            best[key] = rank, dataclasses.replace(trial, values=values)
    return [(dict(trial.values), _single(trial.scores)) for _, trial in best.values()]


def _single(scores: Scores | None) -> float | Scores | None:
    """One score as a number, several as a tuple."""
    return scores[0] if scores is not None and len(scores) == 1 else scores


def parse_objective(objective: object) -> list[Objective] | None:
    """Names and directions of the argument of `earlier_trials`.

    Raises:
        WarmStartError: It is something other than a name, an objective or a list of these.
    """
    if objective is None:
        return None
    if isinstance(objective, list | tuple):
        parsed = (parse_objective(item) or [] for item in objective)
        return [pair for pairs in parsed for pair in pairs] or None
    if isinstance(objective, str):
        return [(objective, None)]
    several = getattr(objective, "objectives", None)  # `keras_tuner`'s MultiObjective
    if isinstance(several, list):
        return parse_objective(several)
    name, direction = getattr(objective, "name", None), getattr(objective, "direction", None)
    if not isinstance(name, str):
        raise WarmStartError(
            "`objective` must be the name of a metric, a keras_tuner.Objective or a list of "
            f"these; got {objective!r}"
        )
    return [(name, direction)]


def merge_directions(
    objectives: Sequence[Objective], directions: Mapping[str, str | None], source: str
) -> list[Objective]:
    """Complete objectives with the directions of the source.

    Raises:
        WarmStartError: The source searched in the other direction.
    """
    merged = []
    for name, direction in objectives:
        source_direction = directions.get(name)
        if direction is not None and source_direction not in (None, direction):
            raise WarmStartError(
                f"the direction of `objective` {name!r} must be {source_direction!r}, as in "
                f"{source}; got {direction!r}"
            )
        merged.append((name, source_direction or direction))
    return merged


def check_reported(objectives: Sequence[Objective], reported: Iterable[str], source: str) -> None:
    """Reject an objective that no trial of the source reported.

    Raises:
        WarmStartError: The objective is missing; the message lists the available metrics.
    """
    names = sorted(reported)
    missing = [name for name, _ in objectives if name not in names]
    if missing:
        raise WarmStartError(
            f"`objective` must be a metric of {source}, which has {listed(names)}; "
            f"got {missing[0]!r}"
        )


def listed(names: Sequence[str]) -> str:
    """Join names for an error message; a long list is truncated."""
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return (", ".join(names[:_LISTED_NAMES]) or "none") + more


def _finite(scores: Sequence[float]) -> Scores | None:
    """Scores as a tuple; None, as for a failed trial, if one of them is not finite."""
    numbers = tuple(float(score) for score in scores)
    return numbers if all(map(math.isfinite, numbers)) else None

"""Earlier trials, from wherever they came: objectives, choice and account."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.earlier import EarlierTrials, Scores
from keras_nas_plugin.space.fidelity import configuration

logger = logging.getLogger("keras_nas_plugin")

#: Name and direction of an objective; the direction is None where nobody said it.
Wanted = tuple[str, str | None]

_SHOWN = 20  # names that an error lists


class Outcome(enum.Enum):
    """How a trial ended, if it did."""

    FINISHED, FAILED, UNFINISHED = enum.auto(), enum.auto(), enum.auto()


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A trial of a source.

    Attributes:
        values: Its values; what says how long it was trained among them.
        outcome: How it ended.
        metric: A metric at its best epoch by name, or its score for None; None where it
            has no such metric.
    """

    values: Mapping[str, Any]
    outcome: Outcome
    metric: Callable[[str | None], float | None]


@dataclasses.dataclass(frozen=True)
class _Found:
    values: Mapping[str, Any]
    scores: Scores | None


class Account:
    """What was found in a source, and what was not used of it.

    Args:
        source: The source, as a person knows it.
        constraints: Limits that a trial has to keep.
    """

    def __init__(self, source: str, constraints: Sequence[Constraint] = ()) -> None:
        self.source = source
        self._constraints = constraints
        #: Names of files that hold no trial.
        self.unreadable: list[str] = []
        self._found: list[_Found] = []
        self._unfinished = 0
        self._unscored = 0
        self._broken = 0

    def take(self, trial: Candidate, objectives: Sequence[Wanted] | None) -> None:
        """Take in a trial, or count why it is not used."""
        if trial.outcome is Outcome.UNFINISHED:
            self._unfinished += 1
            return
        if trial.outcome is Outcome.FAILED:
            self._found.append(_Found(trial.values, None))
            return
        names = [None] if objectives is None else [name for name, _ in objectives]
        scores = [trial.metric(name) for name in names]
        if None in scores:
            self._unscored += 1
            return
        broken = self._breaks(trial)
        self._broken += broken
        self._found.append(_Found(trial.values, None if broken else _finite(scores)))

    def _breaks(self, trial: Candidate) -> bool:
        values = ((limit, trial.metric(limit.name)) for limit in self._constraints)
        return any(value is not None and limit.violation(value) > 0 for limit, value in values)

    def trials(self, objectives: Sequence[Wanted] | None) -> EarlierTrials:
        """What a warm start takes, and a line in the log about the rest."""
        pairs = _longest(self._found)
        self._report(pairs, objectives)
        return EarlierTrials(pairs, objectives)

    def _report(self, pairs: Sequence[tuple], objectives: Sequence[Wanted] | None) -> None:
        failed = sum(score is None for _, score in pairs)
        text = f"{len(pairs)} earlier trials" + (f" ({failed} of them failed)" if failed else "")
        if objectives:
            text += f" with {' and '.join(name for name, _ in objectives)}"
        text += f" from {self.source}"
        for count, what in (
            (self._broken, "broke a constraint and count as failed"),
            (len(self._found) - len(pairs), "trained further under another id"),
            (self._unfinished, "unfinished and left out"),
            (self._unscored, "without the objective and left out"),
        ):
            text += f"; {count} {what}" if count else ""
        if self.unreadable:
            text += f"; {len(self.unreadable)} unreadable ({self.unreadable[0]})"
        lost = self.unreadable or self._unscored or not pairs
        logger.log(logging.WARNING if lost else logging.INFO, "%s", text)


def _longest(found: Iterable[_Found]) -> list[tuple[dict[str, Any], Any]]:
    """Pairs of values and score; of a configuration trained for several lengths, the longest.

    A longer training that failed does not take the place of a shorter one with a score.
    """
    kept: dict[Any, tuple[tuple[bool, float], _Found]] = {}
    for number, trial in enumerate(found):
        values = configuration(trial.values)
        epochs = trial.values.get("tuner/epochs")
        key = number if epochs is None else json.dumps(values, sort_keys=True, default=str)
        rank = (trial.scores is not None, 0.0 if epochs is None else float(epochs))
        if key not in kept or rank >= kept[key][0]:
            kept[key] = rank, dataclasses.replace(trial, values=values)
    return [(dict(one.values), _plain(one.scores)) for _, one in kept.values()]


def _plain(scores: Scores | None) -> Any:
    """One score as a number, several as a tuple."""
    return scores[0] if scores is not None and len(scores) == 1 else scores


def parse_objective(objective: Any) -> list[Wanted] | None:
    """Names and directions of what `earlier_trials` was asked for.

    Raises:
        WarmStartError: It is neither a name, an objective nor a list of these.
    """
    if objective is None:
        return None
    if isinstance(objective, list | tuple):
        return [one for item in objective for one in parse_objective(item) or ()] or None
    if isinstance(objective, str):
        return [(objective, None)]
    if isinstance(getattr(objective, "objectives", None), list):  # several in one
        return parse_objective(objective.objectives)
    name, direction = getattr(objective, "name", None), getattr(objective, "direction", None)
    if not isinstance(name, str):
        raise WarmStartError(
            "`objective` needs the name of a metric, a keras_tuner.Objective or a list of "
            f"these; received {objective!r}"
        )
    return [(name, direction)]


def agreed(wanted: Sequence[Wanted], known: Mapping[str, str | None], source: str) -> list[Wanted]:
    """What is wanted, with the directions that the source knows.

    Raises:
        WarmStartError: The source searched in the other direction.
    """
    result = []
    for name, direction in wanted:
        there = known.get(name)
        if direction is not None and there not in (None, direction):
            raise WarmStartError(
                f"`objective` needs {name!r} with direction {there!r}, as {source} searched for "
                f"it; received {direction!r}"
            )
        result.append((name, there or direction))
    return result


def check_reported(wanted: Sequence[Wanted], reported: Iterable[str], source: str) -> None:
    """Refuse an objective that no trial of the source reported.

    Raises:
        WarmStartError: Naming it and what there is.
    """
    names = sorted(reported)
    missing = [name for name, _ in wanted if name not in names]
    if missing:
        raise WarmStartError(
            f"`objective` needs a metric of {source}; received {missing[0]!r}, and it has "
            f"{listed(names)}"
        )


def listed(names: Sequence[str]) -> str:
    """Names on one line, not too many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _finite(values: Iterable[Any]) -> Scores | None:
    """Numbers as scores; None, as of a failed trial, when one of them is not finite."""
    scores = tuple(float(value) for value in values)
    return scores if all(map(math.isfinite, scores)) else None

"""Matching of earlier trials to a search space, and the report on it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.oracles.earlier import Scores
from keras_nas_plugin.space.matching import match
from keras_nas_plugin.space.spec import SearchSpec, Values

_UNKNOWN_SPACE = "the space is not known before the first trial: pass `hyperparameters`"


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """How many earlier trials and initial configurations fit the search space.

    Attributes:
        used: Configurations of earlier trials that the strategy learned from.
        failed: How many of these had failed.
        repeated: Number of earlier trials that repeat the configuration of another; the mean of
            their scores counts.
        dropped: Number of earlier trials that did not fit the space, by reason.
        unknown: Number of trials by hyperparameter that the space does not have.
        initial: Number of configurations to try first.
        initial_dropped: Number of initial configurations that did not fit the space, by reason.
    """

    used: int = 0
    failed: int = 0
    repeated: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    initial: int = 0
    initial_dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        if self.initial and self == WarmStartReport(initial=self.initial):  # no earlier trials
            return f"tried first: {_count(self.initial, 'configuration')}"
        text = f"warm start: {_count(self.used, 'earlier configuration')} used"
        text += f" ({self.failed} of them failed)" if self.failed else ""
        text += f", {_count(self.repeated, 'trial')} repeated one of them" if self.repeated else ""
        text += _dropped_text("trial", self.dropped)
        if self.unknown:
            text += f"; hyperparameters that the space does not have: {', '.join(self.unknown)}"
        first = f"; {_count(self.initial, 'configuration')} tried first"
        text += first if self.initial else ""
        return text + _dropped_text("initial configuration", self.initial_dropped)


def _count(number: int, noun: str) -> str:
    """A number of things: ``1 trial``, ``2 trials``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _dropped_text(noun: str, dropped: Mapping[str, int]) -> str:
    if not dropped:
        return ""
    reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items())
    return f", {_count(sum(dropped.values()), noun)} did not fit ({reasons})"


class MatchedTrials:
    """Earlier trials whose values fit a space, merged by configuration.

    Args:
        spec: The search space.

    Attributes:
        dropped: Number of trials that do not fit, by reason.
        unknown: Number of trials by hyperparameter that the space does not have.
        repeated: Number of trials that repeat the configuration of another.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._scores: dict[str, tuple[Values, list[Scores | None]]] = {}
        self.dropped: collections.Counter[str] = collections.Counter()
        self.unknown: collections.Counter[str] = collections.Counter()
        self.repeated = 0

    def add(self, values: Mapping[str, Any], scores: Scores | None) -> None:
        """Add a trial; if it does not fit, count the reason.

        Args:
            values: Its values.
            scores: Its scores, the larger the better; None if it failed.
        """
        if not self._spec.decisions:
            # All trials would have the same, empty configuration, which would exhaust the space.
            self.dropped[_UNKNOWN_SPACE] += 1
            return
        matched = match(self._spec, values)
        # KerasTuner's own entries (`tuner/epochs`) are not hyperparameters.
        self.unknown.update(name for name in matched.unknown if not name.startswith("tuner/"))
        if matched.values is None:
            reasons = [f"no {name!r}" for name in matched.missing]
            reasons += [f"{name!r} outside its domain" for name in matched.outside]
            self.dropped[", ".join(reasons)] += 1
            return
        key = self._spec.key(matched.values)
        self.repeated += key in self._scores
        self._scores.setdefault(key, (matched.values, []))[1].append(scores)

    def merged(self) -> list[tuple[Values, Scores | None]]:
        """Configurations with their mean scores: failed ones first, the best last.

        Strategies with a limited memory keep the last observations, here the best ones.
        """
        merged = [(values, _mean(scores)) for values, scores in self._scores.values()]
        return sorted(merged, key=lambda pair: (pair[1] is not None, pair[1] or ()))


def _mean(all_scores: list[Scores | None]) -> Scores | None:
    """Mean per objective over the trials that did not fail; None if all failed."""
    finished = [scores for scores in all_scores if scores is not None]
    if not finished:
        return None
    return tuple(sum(column) / len(column) for column in zip(*finished, strict=True))

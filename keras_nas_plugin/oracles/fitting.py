"""Fitting earlier trials to a search space, and the account of it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.oracles.earlier import Scores
from keras_nas_plugin.space.matching import match
from keras_nas_plugin.space.spec import SearchSpec, Values

_UNKNOWN_SPACE = "the space is not known before the first trial: it needs `hyperparameters`"


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What became of earlier trials and of configurations to try first.

    Attributes:
        used: Configurations of earlier trials that the strategy was told.
        failed: How many of these failed then.
        repeated: Earlier trials of a configuration that another one had too; their mean
            score counts.
        dropped: Reason to count, for earlier trials that did not fit the space.
        unknown: Names of hyperparameters that the space does not have, to how often.
        initial: Configurations that are tried first.
        initial_dropped: Reason to count, for those that did not fit the space.
    """

    used: int = 0
    failed: int = 0
    repeated: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    initial: int = 0
    initial_dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        text = f"warm start: {self.used} earlier configurations used"
        text += f" ({self.failed} of them failed)" if self.failed else ""
        text += f", {self.repeated} trials repeated one" if self.repeated else ""
        text += _dropped_text("trials", self.dropped)
        if self.unknown:
            text += f"; hyperparameters that the space does not have: {', '.join(self.unknown)}"
        text += f"; {self.initial} configurations tried first" if self.initial else ""
        return text + _dropped_text("configurations to try first", self.initial_dropped)


def _dropped_text(what: str, dropped: Mapping[str, int]) -> str:
    if not dropped:
        return ""
    reasons = "; ".join(f"{count} x {reason}" for reason, count in dropped.items())
    return f", {sum(dropped.values())} {what} did not fit ({reasons})"


class Fitting:
    """Values that fit a space, each configuration once."""

    def __init__(self, spec: SearchSpec) -> None:
        self._spec = spec
        self._found: dict[str, tuple[Values, list[Scores | None]]] = {}
        self.dropped: collections.Counter[str] = collections.Counter()
        self.unknown: collections.Counter[str] = collections.Counter()
        self.repeated = 0

    def add(self, given: Mapping[str, Any], scores: Scores | None) -> None:
        """Take in one trial, or count why it does not fit."""
        if not self._spec.decisions:
            # Every trial would be the same empty configuration, and nothing left to try.
            self.dropped[_UNKNOWN_SPACE] += 1
            return
        found = match(self._spec, given)
        # KerasTuner's own entries (`tuner/epochs`) are not hyperparameters.
        self.unknown.update(name for name in found.unknown if not name.startswith("tuner/"))
        if found.values is None:
            reasons = [f"no {name!r}" for name in found.missing]
            reasons += [f"{name!r} outside its domain" for name in found.outside]
            self.dropped[", ".join(reasons)] += 1
            return
        key = self._spec.key(found.values)
        self.repeated += key in self._found
        self._found.setdefault(key, (found.values, []))[1].append(scores)

    def merged(self) -> list[tuple[Values, Scores | None]]:
        """Configurations with their mean score, failed ones first, the best last.

        What a strategy heard last, it takes for the youngest.
        """
        told = [(values, _mean(scores)) for values, scores in self._found.values()]
        return sorted(told, key=lambda pair: (pair[1] is not None, pair[1] or ()))


def _mean(all_scores: list[Scores | None]) -> Scores | None:
    """Mean per objective over the trials that did not fail; None when all did."""
    finished = [scores for scores in all_scores if scores is not None]
    if not finished:
        return None
    return tuple(sum(column) / len(column) for column in zip(*finished, strict=True))

"""What an oracle knows before its first trial: earlier results, and what to try first."""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.oracles.scoring import oriented
from keras_nas_plugin.space.matching import match
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")

_FILE = "earlier.json"


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What became of earlier trials and of configurations to try first.

    Attributes:
        used: Earlier trials that the strategy was told.
        dropped: Reason to count, for those that did not fit the space.
        unknown: Names of hyperparameters that the space does not have, to how often.
        initial: Configurations that are tried first.
    """

    used: int = 0
    dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    initial: int = 0

    def __str__(self) -> str:
        text = f"warm start: {self.used} earlier trials used"
        if self.dropped:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in self.dropped.items())
            text += f", {sum(self.dropped.values())} did not fit the space ({reasons})"
        if self.unknown:
            text += f"; hyperparameters that the space does not have: {', '.join(self.unknown)}"
        return text + (f"; {self.initial} configurations tried first" if self.initial else "")


class WarmStart:
    """Earlier trials and first configurations of one oracle.

    They are fitted to the space when the first trial is asked for, because only then the
    space is known, and kept in a file of their own from then on: a resumed search does not
    read their source again.

    Args:
        earlier: Pairs of values and score, in the objective's own direction; one score per
            objective for several; None or NaN for a trial that failed.
        initial: Configurations to try first.
        objectives: How many objectives the oracle has.

    Raises:
        WarmStartError: An entry has another form.
    """

    def __init__(
        self,
        earlier: Iterable[tuple[Mapping[str, Any], Any]],
        initial: Iterable[Mapping[str, Any]],
        objectives: int,
    ) -> None:
        self._given = [_checked(pair, index, objectives) for index, pair in enumerate(earlier)]
        self._wanted = [_mapping(item, f"initial[{i}]") for i, item in enumerate(initial)]
        #: Earlier trials that fit, from the worst to the best.
        self.observations: list[Observation] = []
        self.initial: list[Values] = []
        #: What fitted and what did not; None before the first trial.
        self.report: WarmStartReport | None = None
        self._keys: tuple[SearchSpec, frozenset[str]] | None = None

    def fit(self, oracle: NASOracle) -> None:
        """Fit everything to the space as it is now, once."""
        if self.report is not None:
            return
        spec = oracle.spec
        dropped: collections.Counter[str] = collections.Counter()
        unknown: collections.Counter[str] = collections.Counter()
        fitting = [
            (values, _oriented(scores, oracle))
            for given, scores in self._given
            if (values := _fitted(spec, given, dropped, unknown)) is not None
        ]
        # Worst first: what a strategy heard last, it takes for the youngest.
        fitting.sort(key=lambda pair: (pair[1] is not None, pair[1] or ()))
        self.observations = [
            Observation(f"earlier-{number}", values, scores)
            for number, (values, scores) in enumerate(fitting)
        ]
        wanted = [_fitted(spec, given, dropped, unknown) for given in self._wanted]
        self.initial = [values for values in wanted if values is not None]
        self.report = WarmStartReport(
            len(self.observations), dict(dropped), dict(unknown), len(self.initial)
        )
        if self._given or self._wanted:
            level = logging.WARNING if dropped else logging.INFO
            logger.log(level, "%s", self.report)

    def tried(self, spec: SearchSpec, key: str) -> bool:
        """Whether an earlier trial had the configuration of ``key``."""
        if self._keys is None or self._keys[0] is not spec:
            # A space that grew gives the same values another key.
            self._keys = spec, frozenset(spec.key(one.values) for one in self.observations)
        return key in self._keys[1]

    def wanted(self, spec: SearchSpec, tried: Callable[[str], bool]) -> Values | None:
        """The next of ``initial``; ``tried`` tells which keys this search has tried."""
        for values in self.initial:
            known = spec.fill(values)
            if not tried(spec.key(known)):
                return known
        return None

    def save(self, project: Path | None) -> None:
        """Write what was fitted, unless there is nothing or nowhere to write it."""
        if project is None or not (self.observations or self.initial):
            return
        project.mkdir(parents=True, exist_ok=True)
        earlier = [[one.trial_id, dict(one.values), one.scores] for one in self.observations]
        write_json(
            project / _FILE,
            {
                "earlier": earlier,
                "initial": self.initial,
                "report": dataclasses.asdict(self.report),
            },
        )

    def load(self, project: Path, *, begun: bool) -> None:
        """Read what an earlier process fitted.

        Args:
            project: Folder of the search.
            begun: Whether a trial was started: then no file says that nothing was fitted.
        """
        try:
            data = read_json(project / _FILE)
        except FileNotFoundError:
            if begun:
                self.observations, self.initial, self.report = [], [], WarmStartReport()
            return
        self.observations = [
            Observation(trial_id, values, None if scores is None else tuple(scores))
            for trial_id, values, scores in data["earlier"]
        ]
        self.initial = data["initial"]
        self.report = WarmStartReport(**data["report"])


def _checked(pair: Any, index: int, objectives: int) -> tuple[Mapping, tuple[float, ...] | None]:
    name = f"warm_start[{index}]"
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise WarmStartError(f"`{name}` needs a pair (values, score); received {pair!r}")
    values, scores = _mapping(pair[0], name), pair[1]
    if scores is None:
        return values, None
    numbers_given = list(scores) if isinstance(scores, Sequence) else [scores]
    if any(isinstance(n, bool | str) or not isinstance(n, numbers.Real) for n in numbers_given):
        raise WarmStartError(f"`{name}` needs a number as its score; received {scores!r}")
    if len(numbers_given) != objectives:
        raise WarmStartError(
            f"`{name}` needs one score per objective, {objectives}; received {scores!r}"
        )
    if not all(math.isfinite(number) for number in numbers_given):
        return values, None
    return values, tuple(float(number) for number in numbers_given)


def _mapping(values: Any, name: str) -> Mapping[str, Any]:
    # A trial's own `keras_tuner.HyperParameters` are welcome as well.
    values = getattr(values, "values", values) if not isinstance(values, Mapping) else values
    if not isinstance(values, Mapping):
        raise WarmStartError(f"`{name}` needs values by name; received {values!r}")
    return values


def _fitted(
    spec: SearchSpec,
    given: Mapping[str, Any],
    dropped: collections.Counter[str],
    unknown: collections.Counter[str],
) -> Values | None:
    found = match(spec, given)
    unknown.update(name for name in found.unknown if not name.startswith("tuner/"))
    if found.values is None:
        reasons = [f"no {name!r}" for name in found.missing]
        reasons += [f"{name!r} outside its domain" for name in found.outside]
        dropped[", ".join(reasons)] += 1
    return found.values


def _oriented(scores: tuple[float, ...] | None, oracle: NASOracle) -> tuple[float, ...] | None:
    if scores is None:
        return None
    return tuple(
        oriented(score, objective.direction)
        for score, objective in zip(scores, oracle.scored_objectives, strict=True)
    )

"""What an oracle knows before its first trial: earlier results, and what to try first."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.oracles.earlier import Objectives, Scores, checked_pairs, values_of
from keras_nas_plugin.oracles.fitting import Fitting, WarmStartReport
from keras_nas_plugin.oracles.scoring import oriented
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")

_FILE = "earlier.json"


class WarmStart:
    """Earlier trials and first configurations of one oracle.

    They are fitted to the space when the first trial is asked for, because only then the
    space is known, and kept in a file of their own from then on: a resumed search does not
    read their source again.

    Args:
        earlier: Pairs of values and score, in the objective's own direction; one score per
            objective for several; None, NaN or infinite for a trial that failed.
        initial: Configurations to try first.
        objectives: How many scores the strategy gets of a trial.

    Raises:
        WarmStartError: An entry has another form.
    """

    def __init__(
        self,
        earlier: Iterable[tuple[Mapping[str, Any], Any]],
        initial: Iterable[Mapping[str, Any]],
        objectives: int,
    ) -> None:
        self._given = checked_pairs(earlier, objectives)
        self._objectives = getattr(earlier, "objectives", None)
        self._wanted = [values_of(item, f"initial[{i}]") for i, item in enumerate(initial)]
        #: Earlier trials that fit, from the worst to the best.
        self.observations: list[Observation] = []
        self.initial: list[Values] = []
        #: What fitted and what did not; None before the first trial.
        self.report: WarmStartReport | None = None
        self._keys: tuple[SearchSpec, frozenset[str]] | None = None

    def fit(self, oracle: NASOracle) -> None:
        """Fit everything to the space as it is now, once.

        Raises:
            WarmStartError: The scores are of other objectives than the oracle's.
        """
        if self.report is not None:
            return
        _check_objectives(self._objectives, oracle)
        spec = oracle.spec
        fitting = Fitting(spec)
        for values, scores in self._given:
            fitting.add(values, _oriented(scores, oracle))
        told = fitting.merged()
        self.observations = [
            Observation(f"earlier-{number}", values, scores)
            for number, (values, scores) in enumerate(told)
        ]
        first = Fitting(spec)
        for values in self._wanted:
            first.add(values, None)
        self.initial = [values for values, _ in first.merged()]
        self.report = WarmStartReport(
            used=len(told),
            failed=sum(scores is None for _, scores in told),
            repeated=fitting.repeated,
            dropped=dict(fitting.dropped),
            unknown=dict(fitting.unknown + first.unknown),
            initial=len(self.initial),
            initial_dropped=dict(first.dropped),
        )
        if self._asked_for:
            lost = fitting.dropped or first.dropped
            logger.log(logging.WARNING if lost else logging.INFO, "%s", self.report)

    @property
    def _asked_for(self) -> bool:
        return bool(self._given or self._wanted)

    def tried(self, spec: SearchSpec, key: str) -> bool:
        """Whether an earlier trial had the configuration of ``key``."""
        if self._keys is None or self._keys[0] is not spec:
            # In a space that grew, an earlier trial had the default of what is new.
            filled = (spec.fill(one.values) for one in self.observations)
            self._keys = spec, frozenset(map(spec.key, filled))
        return key in self._keys[1]

    def wanted(self, spec: SearchSpec, tried: Callable[[str], bool]) -> Values | None:
        """The next of ``initial``; ``tried`` tells which keys this search has tried."""
        for values in self.initial:
            known = spec.fill(values)
            # The trial that ran it may have ended before the space grew.
            if not tried(spec.key(known)) and not tried(spec.key(values)):
                return known
        return None

    def save(self, project: Path | None) -> None:
        """Write what was fitted, if there is a place; without anything, no file is left."""
        if project is None or self.report is None:
            return
        if not self._asked_for:
            # Of a process that was killed before its first trial, with other arguments.
            (project / _FILE).unlink(missing_ok=True)
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
                self._say_what_counts()
            return
        self.observations = [
            Observation(trial_id, values, None if scores is None else tuple(scores))
            for trial_id, values, scores in data["earlier"]
        ]
        self.initial = data["initial"]
        self.report = WarmStartReport(**data["report"])
        self._keys = None
        self._say_what_counts()

    def _say_what_counts(self) -> None:
        if not self._asked_for:
            return
        nothing = not (self.observations or self.initial)
        logger.log(
            logging.WARNING if nothing else logging.INFO,
            "The search goes on with the %d earlier configurations it began with; `warm_start` "
            "and `initial` count when a search begins.",
            len(self.observations),
        )


def was_fitted(project: str | os.PathLike) -> bool:
    """Whether the search of a project folder has begun, so that nothing is fitted any more.

    Args:
        project: The folder, which need not exist.
    """
    if (Path(project) / _FILE).exists():
        return True
    try:
        state = read_json(Path(project) / "oracle.json")
    except FileNotFoundError:
        return False
    return state.get("started", 0) > 0


def _oriented(scores: Scores | None, oracle: NASOracle) -> Scores | None:
    """Scores as the strategy gets them: each objective's, or their sum."""
    if scores is None:
        return None
    wanted = oracle.scored_objectives
    if len(wanted) == 1 < len(oracle.objectives) == len(scores):
        names = [objective.name for objective in oracle.objectives]
        scores = (oracle.objective.get_value(dict(zip(names, scores, strict=True))),)
    if len(scores) != len(wanted):
        raise WarmStartError(
            f"`warm_start` needs one score per objective, {len(wanted)}; received {scores}"
        )
    return tuple(
        oriented(score, objective.direction)
        for score, objective in zip(scores, wanted, strict=True)
    )


def _check_objectives(known: Objectives | None, oracle: NASOracle) -> None:
    """Refuse scores that were better when smaller, where larger is better now."""
    if known is None or len(known) != len(oracle.objectives):
        return
    for (name, direction), now in zip(known, oracle.objectives, strict=True):
        if direction is not None and direction != now.direction:
            raise WarmStartError(
                f"`warm_start` needs scores of {now.name} ({now.direction}); received scores of "
                f"{name} ({direction}). Read that metric where it was logged: "
                f"`earlier_trials(..., objective={now.name!r})`."
            )
        if name != now.name:
            logger.warning(
                "`warm_start` has scores of %s, and the search is for %s.", name, now.name
            )

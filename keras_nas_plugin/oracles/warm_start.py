"""Warm starts: trials of earlier searches, and configurations to try first."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.oracles.earlier import Objectives, Scores, checked_pairs, values_of
from keras_nas_plugin.oracles.fitting import MatchedTrials, WarmStartReport
from keras_nas_plugin.oracles.scoring import Scoring, oriented
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation
from keras_nas_plugin.wording import counted

logger = logging.getLogger("keras_nas_plugin")


class WarmStart:
    """Earlier trials and initial configurations of an oracle.

    They are matched to the space when the first trial is created, because the space is not known
    before, and saved to a file: a resumed search does not read their source again.

    Args:
        earlier: Pairs of values and score, in the objective's own direction; one score per
            objective for several; None, NaN or infinite for a trial that failed.
        initial: Configurations to try first; an empty one is the default of each hyperparameter.
        objectives: Number of scores that the strategy gets of a trial.

    Raises:
        WarmStartError: An entry has the wrong type.
    """

    def __init__(
        self,
        earlier: Iterable[tuple[Mapping[str, Any], Any]],
        initial: Iterable[Mapping[str, Any]],
        objectives: int,
    ) -> None:
        self._unmatched_trials = checked_pairs(earlier, objectives)
        self._trial_objectives: Objectives | None = getattr(earlier, "objectives", None)
        self._unmatched_initial = [
            values_of(item, f"initial[{index}]") for index, item in enumerate(initial)
        ]
        #: Earlier trials that fit the space, from the worst to the best.
        self.observations: list[Observation] = []
        #: Initial configurations that fit the space.
        self.initial: list[Values] = []
        #: How many of them fit the space; None before the first trial.
        self.report: WarmStartReport | None = None
        self._keys: tuple[SearchSpec, frozenset[str]] | None = None
        self._has_dropped = False

    def fit(self, spec: SearchSpec, scoring: Scoring) -> None:
        """Match the trials and the initial configurations to the space, and log the result.

        Args:
            spec: The search space.
            scoring: Objectives of the search.

        Raises:
            WarmStartError: The scores are not those of the objectives of the search.
        """
        _check_objectives(self._trial_objectives, scoring)
        matched = MatchedTrials(spec)
        for values, scores in self._unmatched_trials:
            matched.add(values, _oriented(scores, scoring))
        merged = matched.merged()
        self.observations = [
            Observation(f"earlier-{number}", values, scores)
            for number, (values, scores) in enumerate(merged)
        ]
        initial = MatchedTrials(spec)
        for values in self._unmatched_initial:
            initial.add(values or spec.fill({}), None)
        self.initial = [values for values, _ in initial.merged()]
        self.report = WarmStartReport(
            used=len(merged),
            failed=sum(scores is None for _, scores in merged),
            repeated=matched.repeated,
            dropped=dict(matched.dropped),
            unknown=dict(matched.unknown + initial.unknown),
            initial=len(self.initial),
            initial_dropped=dict(initial.dropped),
        )
        if self._has_input:
            dropped = matched.dropped or initial.dropped
            logger.log(logging.WARNING if dropped else logging.INFO, "%s", self.report)

    @property
    def _has_input(self) -> bool:
        return bool(self._unmatched_trials or self._unmatched_initial)

    def tried(self, spec: SearchSpec, key: str) -> bool:
        """Whether an earlier trial had a configuration.

        Args:
            spec: The search space, which may have grown.
            key: Key of the configuration.
        """
        if self._keys is None or self._keys[0] is not spec:
            # New hyperparameters had their defaults in the earlier trials.
            filled = (spec.fill(observation.values) for observation in self.observations)
            self._keys = spec, frozenset(map(spec.key, filled))
        return key in self._keys[1]

    def next_initial(self, spec: SearchSpec, tried: Callable[[str], bool]) -> Values | None:
        """The next initial configuration; None when all were tried.

        Args:
            spec: The search space.
            tried: Whether this search has tried the configuration with a key.
        """
        for values in self.initial:
            filled = spec.fill(values)
            # The configuration may have been tried before the space grew.
            if not tried(spec.key(filled)) and not tried(spec.key(values)):
                return filled
        return None

    def drop_unless(self, fits: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop the trials and configurations that are not in a changed space.

        Args:
            fits: Whether values are in it.
        """
        trials, initial = len(self.observations), len(self.initial)
        self.observations = [item for item in self.observations if fits(item.values)]
        self.initial = [values for values in self.initial if fits(values)]
        self._keys = None
        dropped = trials - len(self.observations), initial - len(self.initial)
        if any(dropped):
            self._has_dropped = True
            logger.warning(
                "Not in the changed space, and dropped: %s of the warm start, and %s to be tried "
                "first.",
                *(counted(count, "configuration") for count in dropped),
            )

    def save_dropped(self, project: Path | None) -> None:
        """Save the trials that `drop_unless` has left, once."""
        if self._has_dropped and project is not None:
            self._write(project)
        self._has_dropped = False

    def save(self, project: Path | None) -> None:
        """Save the matched trials and configurations; deletes the file if there are none.

        Args:
            project: Folder of the search; None writes nothing.
        """
        if project is None or self.report is None:
            return
        path = ProjectLayout(project).warm_start
        if not self._has_input:
            # A process with other arguments may have been killed before its first trial.
            path.unlink(missing_ok=True)
            return
        self._write(project)

    def _write(self, project: Path) -> None:
        project.mkdir(parents=True, exist_ok=True)
        report = WarmStartReport() if self.report is None else self.report
        write_json(
            ProjectLayout(project).warm_start,
            {
                "earlier": [
                    [observation.trial_id, dict(observation.values), observation.scores]
                    for observation in self.observations
                ],
                "initial": self.initial,
                "report": dataclasses.asdict(report),
            },
        )

    def load(self, project: Path, *, begun: bool) -> None:
        """Load the trials and configurations that the search began with.

        Args:
            project: Folder of the search.
            begun: Whether a trial was started: then a missing file means that there are none.
        """
        try:
            data = read_json(ProjectLayout(project).warm_start)
        except FileNotFoundError:
            if begun:
                self.observations, self.initial, self.report = [], [], WarmStartReport()
                self._log_resumed()
            return
        self.observations = [
            Observation(trial_id, values, None if scores is None else tuple(scores))
            for trial_id, values, scores in data["earlier"]
        ]
        self.initial = data["initial"]
        self.report = WarmStartReport(**data["report"])
        self._keys = None
        self._log_resumed()

    def _log_resumed(self) -> None:
        if not self._has_input:
            return
        nothing = not (self.observations or self.initial)
        logger.log(
            logging.WARNING if nothing else logging.INFO,
            "The search resumes with %s, as it began: `warm_start` and `initial` are read only "
            "when a search begins.",
            counted(len(self.observations), "earlier configuration"),
        )


def was_fitted(project: str | os.PathLike[str]) -> bool:
    """Whether the search of a project folder has begun, so that a warm start has no effect.

    Args:
        project: The project folder, which need not exist.
    """
    layout = ProjectLayout.of(project)
    if layout.warm_start.exists():
        return True
    try:
        state = read_json(layout.oracle)
    except FileNotFoundError:
        return False
    return state.get("started", 0) > 0


def _oriented(scores: Scores | None, scoring: Scoring) -> Scores | None:
    """Scores for the strategy, the larger the better: one per objective, or their sum."""
    if scores is None:
        return None
    scored = scoring.scored_objectives
    if len(scored) == 1 < len(scoring.objectives) == len(scores):
        names = [objective.name for objective in scoring.objectives]
        scores = (scoring.objective.get_value(dict(zip(names, scores, strict=True))),)
    if len(scores) != len(scored):
        raise WarmStartError(
            f"`warm_start` must have one score per objective, {len(scored)}; got {scores}"
        )
    return tuple(
        oriented(score, objective.direction)
        for score, objective in zip(scores, scored, strict=True)
    )


def _check_objectives(objectives: Objectives | None, scoring: Scoring) -> None:
    """Reject scores whose direction is not that of the objective of the search."""
    if objectives is None or len(objectives) != len(scoring.objectives):
        return
    for (name, direction), objective in zip(objectives, scoring.objectives, strict=True):
        if direction is not None and direction != objective.direction:
            raise WarmStartError(
                f"`warm_start` must have scores of {objective.name} ({objective.direction}); got "
                f"scores of {name} ({direction}). Read that metric where it was logged: "
                f"`earlier_trials(..., objective={objective.name!r})`."
            )
        if name != objective.name:
            logger.warning(
                "`warm_start` has scores of %s, but the objective of the search is %s.",
                name,
                objective.name,
            )

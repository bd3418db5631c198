"""Architectures that a supernet proposes become trials, whose scores judge the supernet."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.pareto import non_dominated_ranks
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Proposal, Strategy
from keras_nas_plugin.strategies.calibration import RankCorrelation, kendall

_SEED_BITS = 31
# One of this many finalists is a random control: the ranks of the best alone do not show whether
# the scores rank architectures.
RANDOM_EVERY = 4
# Architectures that are scored even where the time is short.
_FEWEST_SCORED = 10
# Share of its decisions in which a finalist differs from those before it.
_DIFFERENT = 0.2
_FEWEST_CALIBRATION, _MOST_CALIBRATION = 5, 10

#: Architectures with their scores.
Scored = Sequence[tuple[Values, tuple[float, ...]]]


def default_calibration(max_trials: int | None) -> int:
    """Trials after which the supernet is judged: a third of them, 5 to 10.

    >>> default_calibration(None), default_calibration(24), default_calibration(6)
    (10, 8, 5)
    """
    if max_trials is None:
        return _MOST_CALIBRATION
    return min(_MOST_CALIBRATION, max(_FEWEST_CALIBRATION, math.ceil(max_trials / 3)))


class SupernetScorer(Protocol):
    """Scores architectures with the weights of a supernet, each architecture once.

    Attributes:
        name: Name of the scores among the proxies of a trial.
    """

    name: str

    def restricted(self, spec: SearchSpec) -> SearchSpec:
        """The space that the supernet searches: decisions that it fixes have a single value."""

    def __call__(self, values: Values) -> tuple[float, ...] | None:
        """One score per objective, the larger the better; None for an infeasible architecture."""

    def parameters(self, values: Values) -> float | None:
        """Number of parameters of an architecture alone; None where it is not known."""

    def release(self) -> None:
        """Free the memory of the supernet until another architecture is to be scored."""


@dataclasses.dataclass(frozen=True)
class SupernetCalibration:
    """How well a supernet ranked the first finalists.

    Attributes:
        supernet: Correlation of the supernet's scores with those of the trials.
        parameters: Correlation of the number of parameters with the scores of the trials.
        split: Whether the supernet had been split into sub-supernets.
    """

    supernet: RankCorrelation
    parameters: RankCorrelation
    split: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def better(self) -> bool:
        """Whether the supernet ranks better than the number of parameters."""
        return self.supernet.value > max(self.parameters.value, 0.0)

    @property
    def ranks(self) -> str:
        """Both correlations, as a clause."""
        subject = "the sub-supernets rank" if self.split else "the supernet ranks"
        return (
            f"{subject} the finalists with Kendall's tau {self.supernet}, the number of "
            f"parameters with {self.parameters}"
        )

    def __str__(self) -> str:
        if self.better:
            followed = "sub-supernets" if self.split else "supernet"
            return f"{self.ranks}: the next finalists follow the {followed}"
        subject = "they are" if self.split else "it is"
        return (
            f"{self.ranks}: {subject} not better than the number of parameters, so that the "
            "remaining trials are proposed from the scores of the trials alone"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be trained alone.

    Attributes:
        finalists: Architectures in the order in which they become trials.
        keys: Keys of the architectures that were scored with the supernet.
    """

    finalists: tuple[Values, ...]
    keys: frozenset[str]


class FinalistSearch(Strategy):
    """Tries the architectures that a supernet proposes, as long as it ranks them well.

    The first proposal makes the plan of a subclass: which architectures become trials. After the
    first few have been trained, their scores judge the supernet: if they do not confirm it,
    ``base`` proposes the remaining trials, from the scores of the trials only.

    Args:
        scorer: Scores architectures with the weights of the supernet.
        base: Proposes the trials when there are no finalists left, or if the ranks are poor.
        evaluations: Number of architectures to score, at least 1.
        calibration_trials: Number of finalists after which the ranks are compared, at least 2.

    Raises:
        StrategyError: A number is too small.
    """

    def __init__(
        self,
        scorer: SupernetScorer,
        *,
        base: Strategy,
        evaluations: int,
        calibration_trials: int = _FEWEST_CALIBRATION,
    ) -> None:
        super().__init__()
        for name, number, least in (
            ("evaluations", evaluations, 1),
            ("calibration_trials", calibration_trials, 2),
        ):
            if number < least:
                raise StrategyError(f"`{name}` must be at least {least}; got {number}")
        self.scorer = scorer
        self.base = base
        self.multi_objective = base.multi_objective
        self.evaluations, self.calibration_trials = evaluations, calibration_trials
        #: Whether there is time to score another architecture; None sets no limit.
        self.may_score: Callable[[], bool] | None = None
        # Number of evaluations that such a limit has left.
        self._limited: int | None = None
        self._seed: int | None = None
        self._plan: tuple[SearchSpec, Plan] | None = None
        self._observations: list[Observation] = []
        #: How the trials judged the supernet before it was split; None if it was not.
        self.calibration_before: SupernetCalibration | None = None
        #: How the trials judge the supernet; None before the first proposal after enough finalists
        #: have ended.
        self.calibration: SupernetCalibration | None = None

    @abc.abstractmethod
    def _planned(self, spec: SearchSpec, seed: int) -> Plan:
        """The architectures to train; equal calls give equal plans."""

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        if self._seed is None:
            seed = int(rng.integers(1 << _SEED_BITS))
            self._planned_once(spec, seed)
            self._seed = seed  # only now, because scoring may raise
        if self.calibration is None:
            self.calibration = self._calibrated(spec, self._seed)
        if self.calibration is None or self.calibration.better:
            for values in self._planned_once(spec, self._seed).finalists:
                if not tried(values):
                    return Proposal(values)
        return self.base.ask(spec, rng, tried=tried, pending=pending)

    def learn(self, observation: Observation) -> None:
        """See `Strategy.learn`."""
        self._observations.append(observation)

    def tell(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        scores: Sequence[float] | None,
        *,
        violation: float = 0.0,
    ) -> None:
        """See `Strategy.tell`; the base strategy learns from every trial."""
        super().tell(trial_id, values, scores, violation=violation)
        self.base.tell(trial_id, values, scores, violation=violation)

    @property
    def current_scorer(self) -> SupernetScorer:
        """The scorer that the finalists follow."""
        return self.scorer

    def scored(self, spec: SearchSpec, values: Values) -> bool:
        """Whether an architecture was scored with `current_scorer`."""
        return self._plan is not None and spec.key(values) in self._plan[1].keys

    def _planned_once(self, spec: SearchSpec, seed: int) -> Plan:
        """The plan for a space; the supernet is released after it is made."""
        if self._plan is None or self._plan[0] is not spec:
            self._plan = spec, self._planned(spec, seed)
            self.current_scorer.release()
        return self._plan[1]

    def _ends_scoring(self, evaluated: int) -> bool:
        """Whether no further architecture is scored; a resumed search ends at the same one.

        Args:
            evaluated: Number of architectures that have been scored.
        """
        if self._limited is None and evaluated >= _FEWEST_SCORED and not self.has_time:
            self._limited = evaluated
        return evaluated >= (self.evaluations if self._limited is None else self._limited)

    @property
    def has_time(self) -> bool:
        """Whether there is time to score another architecture."""
        return self.may_score is None or self.may_score()

    # ------------------------------------------------------------------ the comparison

    def _calibrated(self, spec: SearchSpec, seed: int) -> SupernetCalibration | None:
        """The comparison of the first finalists; None before they have ended."""
        finalists = self._first_finalists(spec, seed)
        return None if finalists is None else self._compared(finalists, self.scorer)

    def _first_finalists(
        self, spec: SearchSpec, seed: int
    ) -> list[tuple[Mapping[str, Any], float]] | None:
        """The finalists to compare, with the scores of their trials; None before they ended."""
        if len(self._observations) < self.calibration_trials:
            return None
        self._planned_once(spec, seed)
        finalists = [
            (observation.values, observation.scores[0])
            for observation in self._observations
            if observation.scores is not None
            and observation.violation <= 0
            and self.scored(spec, dict(observation.values))
        ][: self.calibration_trials]
        return finalists if len(finalists) == self.calibration_trials else None

    def _compared(
        self, finalists: Sequence[tuple[Mapping[str, Any], float]], scorer: SupernetScorer
    ) -> SupernetCalibration:
        """The ranks by a scorer against those of the trials."""
        trained = [score for _, score in finalists]
        scores = [scorer(dict(values)) for values, _ in finalists]
        predicted = [-math.inf if score is None else score[0] for score in scores]
        counts = [scorer.parameters(dict(values)) for values, _ in finalists]
        sizes = [0.0 if count is None else count for count in counts]
        return SupernetCalibration(kendall(predicted, trained), kendall(sizes, trained))

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        """The seed of the search on the supernet, the comparison, and the state of ``base``."""
        calibration = self.calibration and dataclasses.asdict(self.calibration)
        state = {"seed": self._seed, "calibration": calibration, "base": self.base.get_state()}
        return state if self._limited is None else {**state, "evaluations": self._limited}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        history = list(history)
        self._seed, self._observations = state.get("seed"), []
        self._limited = state.get("evaluations")
        saved = state.get("calibration")
        self.calibration = saved and self._calibration_from(saved)
        self.base.set_state(state.get("base", {}), history)
        super().set_state(state, history)

    def _calibration_from(self, saved: Mapping[str, Any]) -> SupernetCalibration:
        """The comparison that `get_state` wrote."""
        return SupernetCalibration(
            *(RankCorrelation(**saved[name]) for name in ("supernet", "parameters")),
            split=saved.get("split", False),
        )


def ordered(
    scored: Scored, rng: np.random.Generator, controls: Sequence[Values] | None = None
) -> list[Values]:
    """The best first, but different ones, and every fourth as a random control.

    Args:
        scored: Architectures with one score per objective, the larger the better.
        rng: Draws the controls from ``scored``.
        controls: Controls to take instead, as long as there are any.
    """
    if not scored:
        return []
    scores = np.array([scores for _, scores in scored], float)
    worst = np.where(np.isfinite(scores), scores, np.inf).min(axis=0, initial=0.0)
    scores = np.where(np.isfinite(scores), scores, worst - 1.0)
    ranks = non_dominated_ranks(scores)
    waiting = [scored[index][0] for index in np.lexsort((-scores[:, 0], ranks))]
    order: list[Values] = []
    waiting_controls = list(controls or ())
    while waiting:
        if len(order) % RANDOM_EVERY == RANDOM_EVERY - 1:
            if waiting_controls:
                order.append(waiting_controls.pop(0))
            else:
                order.append(waiting.pop(int(rng.integers(len(waiting)))))
            continue
        different = (
            index
            for index, values in enumerate(waiting)
            if all(_distance(values, other) >= _DIFFERENT for other in order)
        )
        order.append(waiting.pop(next(different, 0)))
    return order + waiting_controls


def _distance(first: Values, second: Values) -> float:
    """Share of the decisions in which two architectures differ."""
    names = first.keys() | second.keys()
    differing = sum(
        name not in first or name not in second or first[name] != second[name] for name in names
    )
    return differing / max(len(names), 1)

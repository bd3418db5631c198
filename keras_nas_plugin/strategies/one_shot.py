"""Search on the scores of a supernet, whose best architectures become trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.finalists import (
    FinalistSearch,
    Plan,
    SupernetCalibration,
    SupernetScorer,
    default_calibration,
    ordered,
)

_FEWEST_EVALUATIONS, _MOST_EVALUATIONS, _EVALUATIONS_PER_TRIAL = 50, 200, 10


def default_evaluations(max_trials: int | None) -> int:
    """Architectures that are scored for a number of trials: ten for each, 50 to 200.

    >>> default_evaluations(None), default_evaluations(12), default_evaluations(3)
    (200, 120, 50)
    """
    if max_trials is None:
        return _MOST_EVALUATIONS
    most = _EVALUATIONS_PER_TRIAL * max_trials
    return min(_MOST_EVALUATIONS, max(_FEWEST_EVALUATIONS, most))


class SplitScorer(SupernetScorer, Protocol):
    """Scores architectures with sub-supernets, each with that which contains it."""

    @property
    def decision(self) -> str | None:
        """The decision whose options are split; None if the supernet cannot be split."""


class OneShotSearch(FinalistSearch):
    """Searches on the scores of a supernet, then tries the best architectures as trials.

    The first proposal runs a whole search by another strategy, whose trials are evaluations of
    the supernet. Its best architectures are the finalists, in the order of their scores (of
    their Pareto fronts for several objectives); each differs from those before it in a fifth of
    its decisions as long as there is such an architecture, and every fourth is drawn at random
    from all that were scored. After the first few have been trained, their ranks are compared
    with those of the supernet. If these are not better than the number of parameters, the
    supernet is split into sub-supernets, which rank the same finalists: if their ranks are
    better, the search is run again with their scores. Otherwise ``base`` proposes the remaining
    trials, from the scores of the trials only.

    Source: Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform
    Sampling", section 3.3 (evolution on the supernet). On why ranks have to be checked: Yu et
    al. 2020, "Evaluating the Search Phase of Neural Architecture Search". On the split: Zhao et
    al. 2021, "Few-shot Neural Architecture Search".

    Args:
        scorer: Scores architectures with the weights of the supernet.
        search: Makes the strategy that searches on the supernet.
        base: Proposes the trials when there are no finalists left, or if the ranks are poor.
        evaluations: Number of architectures to score, at least 1.
        calibration_trials: Number of finalists after which the ranks are compared, at least 2.
        split: Scores architectures with sub-supernets; None never splits the supernet.

    Raises:
        StrategyError: A number is too small.
    """

    def __init__(
        self,
        scorer: SupernetScorer,
        *,
        search: Callable[[], Strategy],
        evaluations: int = _MOST_EVALUATIONS,
        split: SplitScorer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(scorer, evaluations=evaluations, **options)
        self._make_search = search
        self._split = split

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults`."""
        return {
            "evaluations": default_evaluations(max_trials),
            "calibration_trials": default_calibration(max_trials),
        }

    @property
    def current_scorer(self) -> SupernetScorer:
        """See `FinalistSearch`: the sub-supernets, if their ranks are good."""
        calibration = self.calibration
        if self._split is None or calibration is None or not calibration.split:
            return self.scorer
        return self._split if calibration.better else self.scorer

    def _calibrated(self, spec: SearchSpec, seed: int) -> SupernetCalibration | None:
        """See `FinalistSearch`; poor ranks split the supernet, and its parts are judged."""
        finalists = self._first_finalists(spec, seed)
        if finalists is None:
            return None
        whole = self._compared(finalists, self.scorer)
        if (
            whole.better
            or self._split is None
            or not self.has_time
            or self._split.decision is None
        ):
            return whole
        try:
            parts = dataclasses.replace(self._compared(finalists, self._split), split=True)
        finally:
            self._split.release()
        self.calibration_before = whole
        if parts.better:
            self._plan = None  # the next finalists are those of the sub-supernets
        return parts

    def _planned(self, spec: SearchSpec, seed: int) -> Plan:
        """See `FinalistSearch`: all architectures that were scored."""
        scored = self._search(spec, np.random.default_rng(seed))
        keys = frozenset(spec.key(values) for values, _ in scored)
        return Plan(tuple(ordered(scored, np.random.default_rng(seed + 1))), keys)

    def _search(
        self, spec: SearchSpec, rng: np.random.Generator
    ) -> list[tuple[Values, tuple[float, ...]]]:
        """Architectures with their scores, from a search on the supernet."""
        scorer = self.current_scorer
        strategy, space = self._make_search(), scorer.restricted(spec)
        keys: set[str] = set()
        scored = []
        number = 0
        while not self._ends_scoring(number):
            proposal = strategy.ask(
                space, rng, tried=lambda values: space.key(values) in keys, pending={}
            )
            if proposal is None:
                break
            keys.add(space.key(proposal.values))
            scores = scorer(proposal.values)
            strategy.tell(f"supernet-{number}", proposal.values, scores)
            number += 1
            if scores is not None:
                scored.append((proposal.values, scores))
        return scored

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        """See `FinalistSearch`; with the comparison before the supernet was split."""
        before = self.calibration_before and dataclasses.asdict(self.calibration_before)
        return {**super().get_state(), "calibration_before": before}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        super().set_state(state, history)
        saved = state.get("calibration_before")
        self.calibration_before = saved and self._calibration_from(saved)
        self._plan = None

"""NSGA-II as a KerasTuner oracle: a search for several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_nas_plugin import pareto
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.nsga2 import NSGA2


class NSGA2Oracle(NASOracle):
    """Search for the best trade-offs between objectives: see `NSGA2`.

    ```python
    oracle = NSGA2Oracle(
        [keras_tuner.Objective("val_accuracy", "max"), keras_tuner.Objective("parameters", "min")],
        max_trials=200,
    )
    ...
    for trial in oracle.pareto_front():
        print(trial.trial_id, trial.hyperparameters.values)
    ```

    Objectives are never added up. List them in the order of their importance, because the
    first one decides wherever a single number is needed: it is the displayed score of a trial, it
    selects the best epoch, at which all objectives are read and whose weights are kept, and
    `get_best_trials` orders each front by it.

    A plain `keras_tuner.Tuner` rejects a dictionary from `HyperModel.fit` without the key
    ``"multi_objective"``, as it does for its own multiple objectives (1.4.8): add the key with
    any number, which is ignored. `NASTuner` does not need it.

    Args:
        objective: See `NASOracle`; usually a list of `keras_tuner.Objective`.
        max_trials: See `NASOracle`.
        population_size: Number of trials that may become parents; twice as many random
            trials come first. None takes a twentieth of ``max_trials``, 10 to 40, and never
            more than a quarter.
        crossover_probability: Probability that a child has two parents instead of one. None
            takes the default of `NSGA2`.
        **options: The other arguments of `NASOracle`.

    Raises:
        ObjectiveError: There is no objective, or an objective is listed twice.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        population_size: int | None = None,
        crossover_probability: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = NSGA2.for_budget(
            max_trials,
            population_size=population_size,
            crossover_probability=crossover_probability,
        )
        super().__init__(strategy, objective, max_trials, **options)
        self._results = _Results(len(self.objectives), self.end_order)

    @synchronized
    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials that completed and kept all constraints, best first.

        Trials are ordered by front (`pareto_front`, then the front of the remaining trials, and
        so on), within a front by the first objective, and equal trials in the order of their
        ends. The first trial is therefore non-dominated and the best in the first objective.

        Args:
            num_trials: Maximum number of trials.
        """
        return [self.trials[trial_id] for trial_id in self._current().best(num_trials)]

    @synchronized
    def pareto_front(self) -> list[Trial]:
        """The non-dominated trials, by the first objective, best first.

        Among trials that completed and kept all constraints. A trial dominates another when
        it is worse in no objective and better in at least one; equal trials are all on the
        front.
        """
        results = self._current()
        return [self.trials[trial_id] for trial_id in results.best(results.front_size)]

    @synchronized
    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """The volume of objective space that the front dominates: the larger, the better.

        Exact, in the product of the objectives' units. If a front dominates another, its
        hypervolume is larger.

        Source: Zitzler & Thiele 1998, "Multiobjective Optimization Using Evolutionary
        Algorithms".

        Args:
            reference: One value per objective, in its own unit and in the order of the
                objectives; a trial counts when it is better in each. None takes the worst
                value of each, over all trials that completed and kept all constraints. That
                differs between searches and moves during a search: to compare searches, pass
                the same reference to both.

        Returns:
            The hypervolume; 0 while no trial completed.

        Raises:
            ObjectiveError: The length of ``reference`` is not the number of objectives.
        """
        results = self._current()
        if reference is None:
            worst = results.worst
        elif len(reference) != len(self.objectives):
            raise ObjectiveError(
                f"`reference` must have one value per objective, {len(self.objectives)}; "
                f"got {reference!r}"
            )
        else:
            signs = [
                1.0 if objective.direction == "max" else -1.0 for objective in self.objectives
            ]
            worst = np.array(signs) * np.array(reference, dtype=float)
        return pareto.hypervolume(results.front_scores, worst)

    @synchronized
    def compromise_trial(self) -> Trial | None:
        """The trial on the front that is nearest to the best value of every objective.

        The objectives are scaled so that the front's best value is 0 and its worst 1; the
        trial is the one nearest to the origin::

            min_i  sqrt(sum_k ((best_k - f_k(i)) / (best_k - worst_k))^2)

        An objective in which all trials of the front are equal does not count; of several
        trials at the same distance, the best in the first objective is returned. None while
        no trial completed.

        Source: Yu 1973, "A Class of Solutions for Group Decision Problems"; Zeleny 1973,
        "Compromise Programming": the compromise solution with p = 2 and equal weights.
        """
        results = self._current()
        front = self.pareto_front()
        if not front:
            return None
        return front[pareto.compromise(results.front_scores)]

    def _current(self) -> _Results:
        """The results, updated with the trials that have ended."""
        if self._results.order is not self.end_order:
            # `set_state` replaces the list.
            self._results = _Results(len(self.objectives), self.end_order)
        for trial_id in self.end_order[self._results.added :]:
            observation = self._scoring.observation(self.trials[trial_id])
            feasible = observation.violation <= 0
            self._results.add(trial_id, observation.scores if feasible else None)
        return self._results


class _Results:
    """Scores of completed, feasible trials and their first front, updated trial by trial.

    Args:
        objectives: Number of objectives.
        order: The list to which the ids of trials are appended as they end.
    """

    def __init__(self, objectives: int, order: list[str]) -> None:
        self.order = order
        #: Number of ids of ``order`` that were added.
        self.added = 0
        self.worst = np.full(objectives, np.inf)
        self._ids: list[str] = []
        self._scores: list[tuple[float, ...]] = []
        # Indices of the front in `_ids`, best first, and their scores.
        self._front: list[int] = []
        self.front_scores = np.empty((0, objectives))
        self._ranking: list[int] = []

    @property
    def front_size(self) -> int:
        """Number of non-dominated trials."""
        return len(self._front)

    def add(self, trial_id: str, scores: tuple[float, ...] | None) -> None:
        """Add the next trial of ``order``; its scores are None if it failed or is infeasible."""
        self.added += 1
        if scores is None:
            return
        index = len(self._ids)
        self._ids.append(trial_id)
        self._scores.append(scores)
        self.worst = np.minimum(self.worst, scores)
        front = self.front_scores
        if ((front >= scores).all(axis=1) & (front > scores).any(axis=1)).any():
            return
        dominated = (front <= scores).all(axis=1) & (front < scores).any(axis=1)
        remaining = np.flatnonzero(~dominated)
        position = int((front[remaining, 0] >= scores[0]).sum())
        self._front = [self._front[member] for member in remaining]
        self._front.insert(position, index)
        self.front_scores = np.insert(front[remaining], position, scores, axis=0)

    def best(self, count: int) -> list[str]:
        """Ids of the ``count`` best trials, best first."""
        if count <= len(self._front):
            return [self._ids[index] for index in self._front[: max(count, 0)]]
        if len(self._ranking) < len(self._ids):
            scores = np.array(self._scores)
            ranks = pareto.non_dominated_ranks(scores)
            # A stable sort keeps equal trials in the order of their ends.
            self._ranking = np.lexsort((-scores[:, 0], ranks)).tolist()
        return [self._ids[index] for index in self._ranking[:count]]

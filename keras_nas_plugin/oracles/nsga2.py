"""NSGA-II as a KerasTuner oracle: a search for several objectives at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.scoring import observation_of
from keras_nas_plugin.strategies import pareto
from keras_nas_plugin.strategies.nsga2 import NSGA2, default_nsga2_population


class NSGA2Oracle(NASOracle):
    """Search for the best trade-offs between objectives: see `NSGA2`.

    ```python
    oracle = NSGA2Oracle(
        [keras_tuner.Objective("val_accuracy", "max"), keras_tuner.Objective("params", "min")],
        max_trials=200,
    )
    ...
    for trial in oracle.pareto_front():
        print(trial.trial_id, trial.hyperparameters.values)
    ```

    No objective is ever added to another. List them in the order of their importance, because
    where one answer is needed the first decides: it is the score that a trial shows, it
    chooses the epoch at which all objectives are read and whose weights are kept, and
    `get_best_trials` orders each front by it.

    A plain `keras_tuner.Tuner` refuses a dictionary from `HyperModel.fit` that has no
    ``"multi_objective"``, as it does for its own several objectives (1.4.8): add the key with
    any number, which does not count. `NASTuner` needs none.

    Args:
        objective: See `NASOracle`; usually a list of `keras_tuner.Objective`.
        max_trials: See `NASOracle`.
        population_size: Trials that may become parents; twice as many random ones come
            first. None takes a twentieth of ``max_trials``, 10 to 40, and never more than a
            quarter.
        crossover_probability: How often a child has two parents, not one.
        **options: The other arguments of `NASOracle`.

    Raises:
        ObjectiveError: There is no objective, or one is there twice.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        population_size: int | None = None,
        crossover_probability: float = 0.9,
        **options: Unpack[OracleOptions],
    ) -> None:
        if population_size is None:
            population_size = default_nsga2_population(max_trials)
        strategy = NSGA2(
            population_size=population_size, crossover_probability=crossover_probability
        )
        super().__init__(strategy, objective, max_trials, **options)
        self._results = _Results(len(self.objectives))

    @synchronized
    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials that completed and kept all constraints, best first.

        In the order of their fronts (`pareto_front`, then the front of what is left, and so
        on), within a front by the first objective, and equal ones in the order of their ends.
        So the first trial is the best in the first objective, and one that no other
        dominates; a trial never comes before one that dominates it. Fewer than
        ``num_trials`` when fewer completed.
        """
        return [self.trials[one] for one in self._known().best(num_trials)]

    @synchronized
    def pareto_front(self) -> list[Trial]:
        """All trials that no other dominates, by the first objective, best first.

        Of trials that completed and kept all constraints. A trial dominates another when it
        is nowhere worse and somewhere better; of equal ones all are on the front.
        """
        results = self._known()
        return [self.trials[one] for one in results.best(results.front_size)]

    @synchronized
    def hypervolume(self, reference: Sequence[float] | None = None) -> float:
        """How much of the objectives' space the front dominates: the larger, the better.

        Exact, in the product of the objectives' units. Of two fronts of which one dominates
        the other, that one has the larger hypervolume.

        Source: Zitzler & Thiele 1998, "Multiobjective Optimization Using Evolutionary
        Algorithms".

        Args:
            reference: One value per objective, in its own unit and in the order of the
                objectives; a trial counts when it is better in each. None takes the worst
                value of each, over all trials that completed and kept all constraints. That
                differs between searches, and moves while one goes on: to compare, give the
                same reference to both.

        Returns:
            The hypervolume; 0 while no trial completed.

        Raises:
            ObjectiveError: ``reference`` has another length.
        """
        results = self._known()
        if reference is None:
            worst = results.worst
        elif len(reference) != len(self.objectives):
            raise ObjectiveError(
                f"`reference` needs one value per objective, {len(self.objectives)}; "
                f"received {reference!r}"
            )
        else:
            signs = [1.0 if one.direction == "max" else -1.0 for one in self.objectives]
            worst = np.array(signs) * np.array(reference, dtype=float)
        return pareto.hypervolume(results.front_scores, worst)

    @synchronized
    def compromise_trial(self) -> Trial | None:
        """The trial on the front that is nearest to having the best of every objective.

        With the objectives scaled so that the front's best value is 0 and its worst 1, the
        one nearest to the origin::

            min_i  sqrt(sum_k ((best_k - f_k(i)) / (best_k - worst_k))^2)

        An objective in which the whole front is equal does not count; of several as near, the
        best in the first objective is taken. None while no trial completed.

        Source: Yu 1973, "A Class of Solutions for Group Decision Problems"; Zeleny 1973,
        "Compromise Programming": the compromise solution with p = 2 and equal weights.
        """
        results = self._known()
        front = self.pareto_front()
        if not front:
            return None
        return front[pareto.compromise(results.front_scores)]

    def _known(self) -> _Results:
        """Results of all trials that ended."""
        if self._results.order is not self.end_order:
            # A reload brings a new list.
            self._results = _Results(len(self.objectives))
            self._results.order = self.end_order
        for trial_id in self.end_order[self._results.taken :]:
            one = observation_of(self, self.trials[trial_id])
            kept = one.scores is not None and one.violation <= 0
            self._results.take(trial_id, one.scores if kept else None)
        return self._results


class _Results:
    """Scores of trials that count, and their first front, which is kept up to date.

    Args:
        objectives: How many there are.
    """

    def __init__(self, objectives: int) -> None:
        #: The list of trials, in the order of their ends, and how many of them were taken.
        self.order: list[str] | None = None
        self.taken = 0
        self.worst = np.full(objectives, np.inf)
        self._ids: list[str] = []
        self._scores: list[tuple[float, ...]] = []
        # Places of the front in `_ids`, best first, and their scores.
        self._front: list[int] = []
        self.front_scores = np.empty((0, objectives))
        self._ranking: list[int] = []

    @property
    def front_size(self) -> int:
        """How many trials no other dominates."""
        return len(self._front)

    def take(self, trial_id: str, scores: tuple[float, ...] | None) -> None:
        """The next trial that ended; None for scores that do not count."""
        self.taken += 1
        if scores is None:
            return
        place = len(self._ids)
        self._ids.append(trial_id)
        self._scores.append(scores)
        self.worst = np.minimum(self.worst, scores)
        front = self.front_scores
        if ((front >= scores).all(axis=1) & (front > scores).any(axis=1)).any():
            return
        kept = ~((front <= scores).all(axis=1) & (front < scores).any(axis=1))
        at = int((front[kept, 0] >= scores[0]).sum())
        self._front = [one for one, stays in zip(self._front, kept, strict=True) if stays]
        self._front.insert(at, place)
        self.front_scores = np.insert(front[kept], at, scores, axis=0)

    def best(self, count: int) -> list[str]:
        """Ids of the ``count`` best."""
        if count <= len(self._front):
            return [self._ids[place] for place in self._front[: max(count, 0)]]
        if len(self._ranking) < len(self._ids):
            scores = np.array(self._scores)
            ranks = pareto.non_dominated_ranks(scores)
            # A stable sort: equal ones stay in the order of their ends.
            self._ranking = np.lexsort((-scores[:, 0], ranks)).tolist()
        return [self._ids[place] for place in self._ranking[:count]]

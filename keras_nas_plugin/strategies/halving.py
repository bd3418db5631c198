"""Asynchronous successive halving: which trials are trained further, and for how long.

Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht & Talwalkar 2020, "A System
for Massively Parallel Hyperparameter Tuning" (ASHA), algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_nas_plugin.pareto import constrained_ranks, crowding_distances
from keras_nas_plugin.strategies.base import Observation

# Number of reductions of a full training, unless the user sets the epochs of the shortest one.
# With a factor of 3, a trial starts with a ninth of the epochs, and a search takes 0.26 to 0.33
# of those of full training. A third reduction would halve this, but would lose the best trial far
# more often.
_REDUCTIONS = 2
# The share of the time of full trainings that shorter ones must save, since their scores say less.
_WORTHWHILE = 1 / 3


def rung_epochs(max_epochs: int, factor: int, min_epochs: int | None = None) -> tuple[int, ...]:
    """Epochs of each rung, from the shortest training to the full one.

    They are computed from ``max_epochs`` downwards: each is ``factor`` times shorter than the
    next, and rounded. If ``max_epochs / min_epochs`` is a power of ``factor``, these are the
    rungs of the paper; if it is not, their ratios are still equal.

    Args:
        max_epochs: Epochs of a full training.
        factor: Number of trials of a rung per promotion to the next.
        min_epochs: Epochs of the shortest training; None for two reductions, and at least 1
            epoch.

    >>> rung_epochs(27, 3), rung_epochs(27, 3, 1), rung_epochs(100, 3), rung_epochs(10, 3)
    ((3, 9, 27), (1, 3, 9, 27), (11, 33, 100), (1, 3, 10))
    >>> rung_epochs(2, 3), rung_epochs(30, 3, 10)
    ((2,), (10, 30))
    """
    lowest = 1 if min_epochs is None else min_epochs
    most = _REDUCTIONS if min_epochs is None else max_epochs
    rungs = [max_epochs]
    while len(rungs) <= most and max_epochs >= lowest * factor ** len(rungs):
        rungs.append(math.floor(max_epochs / factor ** len(rungs) + 0.5))
    return tuple(reversed(rungs))


def first_rung(
    epochs: Sequence[int], factor: int, fixed_seconds: float, epoch_seconds: float
) -> int:
    """The rung at which configurations start, so that they take the least time.

    A configuration that starts at rung ``k`` reaches rung ``j`` with probability
    ``factor ** (k - j)``. Each of its trainings takes ``fixed_seconds`` and the time of the epochs
    that it adds. If this saves less than a third of the time of full trainings, all are trained in
    full, since scores of short trainings say less.

    Args:
        epochs: Epochs of each rung, see `rung_epochs`.
        factor: Number of trials of a rung per promotion to the next.
        fixed_seconds: Seconds of a training that do not depend on its epochs.
        epoch_seconds: Seconds of an epoch.

    >>> first_rung((3, 9, 27), 3, fixed_seconds=1.0, epoch_seconds=1.0)
    0
    >>> first_rung((3, 9, 27), 3, fixed_seconds=1.0, epoch_seconds=0.01)
    2
    """

    def seconds(first: int) -> float:
        started = (0, *epochs[first:-1])
        return sum(
            (fixed_seconds + (end - start) * epoch_seconds) / factor**promotions
            for promotions, (start, end) in enumerate(zip(started, epochs[first:], strict=True))
        )

    top = len(epochs) - 1
    cheapest = min(range(len(epochs)), key=seconds)
    return cheapest if seconds(cheapest) <= (1 - _WORTHWHILE) * seconds(top) else top


def ranking(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Order of trials from the best to the worst; ties keep their order.

    Trials that violated a constraint rank below those that did not, by their violation. A
    single objective is ranked by score, several by non-dominated front and, within a front, by
    crowding distance (Deb et al. 2002, NSGA-II; Schmucker et al. 2021, "Multi-objective
    Asynchronous Successive Halving", compare such rankings).

    Args:
        scores: Shape ``[n, m]``, the larger the better.
        violations: Shape ``[n]``; infinite for trials that failed, whose scores are ignored.

    Returns:
        Shape ``[n]``, indices.

    >>> ranking(np.array([[0.1], [0.9], [0.5], [np.nan]]), np.array([0, 2, 0, np.inf])).tolist()
    [2, 0, 1, 3]
    """
    if scores.shape[1] == 1:
        return np.lexsort((-scores[:, 0], violations))
    ranks = constrained_ranks(scores, violations)
    crowding = np.zeros(len(ranks))
    for front in np.unique(ranks[violations <= 0]):
        crowding[ranks == front] = crowding_distances(scores[ranks == front])
    return np.lexsort((-crowding, ranks))


class _Rung:
    """The trials that ended at a rung, in the order in which they ended."""

    def __init__(self) -> None:
        self.ended: list[Observation] = []
        self._order: list[int] | None = None

    def __len__(self) -> int:
        return len(self.ended)

    def add(self, observation: Observation) -> None:
        self.ended.append(observation)
        self._order = None

    @property
    def ranked(self) -> list[Observation]:
        """From the best to the worst; failed trials come last."""
        if self._order is None:
            # Sorted again after each new result: a millisecond for thousands of trials.
            width = max((len(trial.scores) for trial in self.ended if trial.scores), default=1)
            missing = (math.nan,) * width
            scores = np.array([trial.scores or missing for trial in self.ended]).reshape(-1, width)
            violations = [
                math.inf if trial.scores is None else trial.violation for trial in self.ended
            ]
            self._order = ranking(scores, np.array(violations)).tolist()
        return [self.ended[index] for index in self._order]


class Rungs:
    """The trials of each rung, and which of them to train further next.

    Args:
        epochs: Epochs of each rung, see `rung_epochs`.
        factor: The best 1/factor of a rung are promoted; at least 2.
        first: The rung at which new configurations start.
    """

    def __init__(self, epochs: Sequence[int], factor: int, first: int = 0) -> None:
        self.epochs = tuple(epochs)
        self.factor = factor
        #: The rung at which new configurations start; it may change.
        self.first = first
        #: Number of configurations that were started.
        self.configurations = 0
        self._rungs = [_Rung() for _ in self.epochs]
        self._rung_of: dict[str, int] = {}
        self._ended: dict[str, Observation] = {}
        self._promoted: dict[str, str] = {}

    def start(self, trial_id: str, rung: int = 0, parent: str | None = None) -> None:
        """Add a trial that starts: a new configuration, or one that continues ``parent``."""
        self._rung_of[trial_id] = rung
        if parent is None:
            self.configurations += 1
        else:
            self._promoted[parent] = trial_id

    def end(self, observation: Observation) -> None:
        """Add the result of a trial; failed trials count as the worst of their rung."""
        self._ended[observation.trial_id] = observation
        self._rungs[self._rung_of[observation.trial_id]].add(observation)

    def promotable(self) -> tuple[str, int] | None:
        """The next trial to promote, and its new rung; None if there is none.

        The best 1/factor of a rung's ended trials are promoted, without waiting for running
        ones; the highest rung comes first (algorithm 2, ``get_job``).
        """
        for number in reversed(range(len(self._rungs) - 1)):
            rung = self._rungs[number]
            promotions = len(rung) // self.factor
            for trial in rung.ranked[:promotions] if promotions else ():
                if self._may_be_promoted(trial):
                    return trial.trial_id, number + 1
        return None

    def unfinished(self) -> tuple[str, int] | None:
        """The trial to train further once no promotion by rank is left; None if there is none.

        This makes sure that the best trial is trained in full: the best trial of the highest
        rung continues until a trial that violates no constraint has been trained for all epochs.
        With few trials or many failures, a rung may have too few trials for a promotion by rank.
        """
        top = self._rungs[-1].ended
        if any(_is_feasible(trial) for trial in top):
            return None
        completed = any(trial.scores is not None for trial in top)
        for eligible in (_is_feasible,) if completed else (_is_feasible, lambda trial: True):
            for number in reversed(range(len(self._rungs) - 1)):
                for trial in self._rungs[number].ranked:
                    if self._may_be_promoted(trial) and eligible(trial):
                        return trial.trial_id, number + 1
        return None

    def needed(self, trial_id: str) -> bool:
        """Whether another trial may still have to continue from the last epoch of this one."""
        if trial_id not in self._ended:
            return True
        if trial_id in self._promoted:
            # The promoted trial may have to be started again.
            return self._promoted[trial_id] not in self._ended
        top = self._rung_of[trial_id] == len(self._rungs) - 1
        return not top and self._ended[trial_id].scores is not None

    def eliminated(self, configurations: int) -> list[str]:
        """Trials of the lowest rung whose promotion its latest result has ruled out.

        With a single objective, a rank can only get worse, and the rung never has more trials
        than there are configurations. With several objectives ranks may improve again, so no
        trial is eliminated.

        Args:
            configurations: Number of configurations that the search starts in total.
        """
        rung = self._rungs[0]
        promotions = max(1, configurations // self.factor)
        if len(rung) <= promotions or len(rung.ranked[0].scores or ()) > 1:
            return []
        behind = rung.ranked[promotions:]
        # The latest trial, if it ranks too low, or else the trial that it displaced.
        newly_behind = [trial for trial in behind if trial is rung.ended[-1]] or behind[:1]
        return [trial.trial_id for trial in newly_behind if self._may_be_promoted(trial)]

    def _may_be_promoted(self, trial: Observation) -> bool:
        return trial.scores is not None and trial.trial_id not in self._promoted


def _is_feasible(trial: Observation) -> bool:
    """Whether a trial completed and violates no constraint."""
    return trial.scores is not None and trial.violation <= 0

"""Asynchronous successive halving: who is trained further, and how far.

Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht & Talwalkar 2020, "A System
for Massively Parallel Hyperparameter Tuning" (ASHA), algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_nas_plugin.strategies.base import Observation
from keras_nas_plugin.strategies.pareto import constrained_ranks, crowding_distances

# Reductions below a full training unless the user says where to begin. With a factor of 3 a
# trial begins with a ninth of its epochs and a search takes 0.26 to 0.33 of full training; a
# third reduction would take half of that and lose the best trial far more often.
_REDUCTIONS = 2


def rung_epochs(max_epochs: int, factor: int, min_epochs: int | None = None) -> tuple[int, ...]:
    """Lengths of training, from the shortest to the full one.

    Counted down from ``max_epochs``, each ``factor`` times shorter than the next, rounded:
    the paper's, where the quotient is a power of ``factor``, and still as far apart where it
    is not.

    Args:
        max_epochs: A full training.
        factor: How many of a rung compete for one place in the next.
        min_epochs: Shortest training; None takes two reductions, and at least 1 epoch.

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


def ranking(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Order of trials from the best to the worst; equals in the order given.

    What broke a constraint stands behind what broke none, by how much it did. One objective
    is ranked by score, several by non-dominated front and, within a front, by crowding
    distance (Deb et al. 2002, NSGA-II; Schmucker et al. 2021, "Multi-objective Asynchronous
    Successive Halving", compare ways to do so).

    Args:
        scores: Shape ``[n, m]``, the larger the better.
        violations: Shape ``[n]``; infinite for trials that failed, whose scores do not count.

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
    """The trials that ended at one length of training, in the order of their ends."""

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
        """From the best to the worst; failed trials take the last places."""
        if self._order is None:
            # Ranked again after each end: a millisecond where the rung holds thousands.
            width = max((len(one.scores) for one in self.ended if one.scores), default=1)
            nothing = (math.nan,) * width
            scores = np.array([one.scores or nothing for one in self.ended]).reshape(-1, width)
            broken = [math.inf if one.scores is None else one.violation for one in self.ended]
            self._order = ranking(scores, np.array(broken)).tolist()
        return [self.ended[index] for index in self._order]


class Rungs:
    """Which trials ended at which length of training, and which is trained further next.

    Args:
        epochs: What `rung_epochs` returns.
        factor: A rung's best of so many are trained further, at least 2.
    """

    def __init__(self, epochs: Sequence[int], factor: int) -> None:
        self.epochs = tuple(epochs)
        self.factor = factor
        #: Trials that were started at the lowest rung: the configurations of the search.
        self.configurations = 0
        self._rungs = [_Rung() for _ in self.epochs]
        self._rung_of: dict[str, int] = {}
        self._ended: dict[str, Observation] = {}
        self._promoted: dict[str, str] = {}

    def start(self, trial_id: str, rung: int = 0, parent: str | None = None) -> None:
        """Note a trial that starts: a new configuration, or one that goes on with ``parent``."""
        self._rung_of[trial_id] = rung
        if parent is None:
            self.configurations += 1
        else:
            self._promoted[parent] = trial_id

    def end(self, observation: Observation) -> None:
        """Note a trial that ended, failed ones too: they count as their rung's worst."""
        self._ended[observation.trial_id] = observation
        self._rungs[self._rung_of[observation.trial_id]].add(observation)

    def promotable(self) -> tuple[str, int] | None:
        """A trial that earned more training, and the rung that it goes to; None without one.

        The best 1/factor of a rung's ended trials have, whoever else still runs; the highest
        rung comes first (algorithm 2, ``get_job``).
        """
        for number in reversed(range(len(self._rungs) - 1)):
            rung = self._rungs[number]
            places = len(rung) // self.factor
            for one in rung.ranked[:places] if places else ():
                if self._may_go_on(one):
                    return one.trial_id, number + 1
        return None

    def unfinished(self) -> tuple[str, int] | None:
        """The trial to train further when nothing else is left to do; None at the end.

        So that the best is trained in full: the best of the highest rung goes on until a
        trial without broken constraints has all epochs. Few trials, or failed ones, may leave
        too few for a promotion by rank.
        """
        top = self._rungs[-1].ended
        if any(_is_sound(one) for one in top):
            return None
        completed = any(one.scores is not None for one in top)
        for wanted in (_is_sound,) if completed else (_is_sound, lambda one: True):
            for number in reversed(range(len(self._rungs) - 1)):
                for one in self._rungs[number].ranked:
                    if self._may_go_on(one) and wanted(one):
                        return one.trial_id, number + 1
        return None

    def needed(self, trial_id: str) -> bool:
        """Whether another trial may have to go on from where this one stopped."""
        if trial_id not in self._ended:
            return True
        if trial_id in self._promoted:
            # Which may have to run again.
            return self._promoted[trial_id] not in self._ended
        top = self._rung_of[trial_id] == len(self._rungs) - 1
        return not top and self._ended[trial_id].scores is not None

    def without_hope(self, configurations: int) -> list[str]:
        """Trials that the lowest rung's latest end has put out of reach of promotion.

        A rank only ever gets worse, and the rung never has more trials than there are
        configurations. With several objectives ranks may get better again: none.

        Args:
            configurations: How many the search is going to start.
        """
        rung = self._rungs[0]
        places = max(1, configurations // self.factor)
        if len(rung) <= places or any(len(one.scores or ()) > 1 for one in rung.ranked[:1]):
            return []
        behind = rung.ranked[places:]
        # The latest, wherever it came in, or the one that it pushed out.
        found = [one for one in behind if one is rung.ended[-1]] or behind[:1]
        return [one.trial_id for one in found if self._may_go_on(one)]

    def _may_go_on(self, one: Observation) -> bool:
        return one.scores is not None and one.trial_id not in self._promoted


def _is_sound(one: Observation) -> bool:
    """Whether a trial may be the search's best."""
    return one.scores is not None and one.violation <= 0

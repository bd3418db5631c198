"""What every search strategy does: propose values, learn from scores."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.space.spec import SearchSpec, Tried, Values


@dataclasses.dataclass(frozen=True)
class Observation:
    """A trial that ended.

    Attributes:
        trial_id: Unique within the search.
        values: Its active values.
        scores: One number per objective, the larger the better; None when the trial
            failed. A strategy with one objective also gets None when a constraint was
            broken.
        violation: By how much constraints were broken, summed over them, each relative
            to its bound; 0 when none was.
    """

    trial_id: str
    values: Mapping[str, Any]
    scores: tuple[float, ...] | None
    violation: float = 0.0


class Strategy(abc.ABC):
    """A search algorithm as ask and tell, without KerasTuner and without Keras.

    A new strategy implements `ask` and `learn`. All randomness comes from the generator
    that `ask` receives, so that the same seed and scores give the same proposals, in
    another process too. What a strategy knows is either rebuilt from the observations
    (the default) or kept in its own state.
    """

    #: Whether it takes one score per objective, and the scores of trials that broke a
    #: constraint; else several objectives come as one score, and such trials have none.
    multi_objective = False

    def __init__(self) -> None:
        self._told: set[str] = set()
        #: Ids of the trials that the last proposal was bred from; none for one that was
        #: drawn at random or found by a model.
        self.parents: tuple[str, ...] = ()

    @abc.abstractmethod
    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """Propose the next configuration.

        Args:
            spec: The space; it may have grown since the last call.
            rng: The only source of randomness.
            tried: Tells whether a configuration was proposed before.
            pending: Trials that run now, by id, with their values.

        Returns:
            Active, valid, untried values; None when the space is exhausted.
        """

    @abc.abstractmethod
    def learn(self, observation: Observation) -> None:
        """Take in a trial that ended; called once for each, in the order of arrival."""

    def tell(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        scores: Sequence[float] | None,
        *,
        violation: float = 0.0,
    ) -> None:
        """Report a trial. Telling one twice changes nothing.

        Args:
            trial_id: Unique within the search.
            values: Its active values.
            scores: One number per objective, the larger the better, or None.
            violation: See `Observation`.
        """
        if trial_id in self._told:
            return
        if violation > 0 and not self.multi_objective:
            scores = None
        learned = None if scores is None else tuple(float(score) for score in scores)
        self.learn(Observation(trial_id, dict(values), learned, float(violation)))
        self._told.add(trial_id)

    def get_state(self) -> dict[str, Any]:
        """What cannot be rebuilt from the observations, JSON-able and small.

        It is written after each trial, so its size must not grow with their number. A
        strategy that keeps a state says in it how many observations it covers.
        """
        return {}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """Go back to a saved search.

        Args:
            state: What `get_state` returned.
            history: All observations so far, in the order of arrival; there may be more
                than ``state`` covers, when the process died before it was saved.
        """
        self._told.clear()
        for observation in history:
            self.tell(
                observation.trial_id,
                observation.values,
                observation.scores,
                violation=observation.violation,
            )

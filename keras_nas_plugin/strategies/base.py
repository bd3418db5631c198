"""The interface of a search strategy: propose configurations, learn from their scores."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from keras_nas_plugin.space.spec import SearchSpec, Tried, Values

#: See `Strategy.opening_trials`.
MOST_OPENING_TRIALS = 4


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A configuration to try next.

    Attributes:
        values: Active, valid, untried values.
        parents: Ids of the trials it was derived from, each once; empty for a configuration
            that was drawn at random or found by a model.
    """

    values: Values
    parents: tuple[str, ...] = ()

    @classmethod
    def from_parents(cls, values: Values, parents: Iterable[Observation]) -> Proposal:
        """A proposal derived from other trials by mutation or crossover.

        Args:
            values: The configuration.
            parents: Its parents; repetitions are dropped.

        >>> parent = Observation("07", {"x": 1}, (0.5,))
        >>> Proposal.from_parents({"x": 2}, [parent, parent])
        Proposal(values={'x': 2}, parents=('07',))
        """
        return cls(values, tuple(dict.fromkeys(parent.trial_id for parent in parents)))


def random_proposal(spec: SearchSpec, rng: np.random.Generator, tried: Tried) -> Proposal | None:
    """An untried configuration, drawn at random; None when the space is exhausted.

    Args:
        spec: The space.
        rng: Source of randomness.
        tried: Returns whether a configuration was proposed before.
    """
    values = spec.untried(rng, tried)
    return None if values is None else Proposal(values)


@dataclasses.dataclass(frozen=True)
class Observation:
    """The result of a trial.

    Attributes:
        trial_id: Unique within the search.
        values: Its active values.
        scores: One number per objective, the larger the better; None when the trial
            failed. A strategy with a single objective also gets None when a constraint was
            violated.
        violation: Sum of the violations of all constraints, each relative to its bound; 0
            when all hold.
    """

    trial_id: str
    values: Mapping[str, Any]
    scores: tuple[float, ...] | None
    violation: float = 0.0


class Strategy(abc.ABC):
    """A search algorithm with an ask-and-tell interface, independent of KerasTuner and Keras.

    A new strategy implements `ask` and `learn`. All randomness comes from the generator
    that `ask` receives, so that the same seed and scores give the same proposals, also in
    another process. What a strategy has learned is either rebuilt from the observations
    (the default) or part of its own state.
    """

    #: Whether the strategy takes one score per objective, and the scores of trials that
    #: violated a constraint. Otherwise several objectives are combined into one score, and
    #: trials that violated a constraint have none.
    multi_objective = False
    #: Arguments whose defaults follow the number of trials while a search runs: see
    #: `expect_trials`.
    adjustable: frozenset[str] = frozenset()
    #: How many of the first trials of a search by time are proposed by the opening of the oracle
    #: at most: none where the first trials of this strategy are better, or random on purpose.
    opening_trials = 0

    def __init__(self) -> None:
        self._reported: set[str] = set()
        # The arguments that the caller of `for_budget` set; None if that was not used.
        self._explicit: Mapping[str, Any] | None = None

    @classmethod
    def for_budget(cls, max_trials: int | None, **arguments: Any) -> Self:
        """Make a strategy whose defaults suit a number of trials.

        Args:
            max_trials: Trials that the search may run; None when there is no limit.
            **arguments: Arguments of the constructor; None means the default for the budget.
        """
        explicit = {name: value for name, value in arguments.items() if value is not None}
        strategy = cls(**{**cls.budget_defaults(max_trials, explicit), **explicit})
        strategy._explicit = explicit
        return strategy

    def expect_trials(self, trials: int) -> None:
        """Adjust defaults to the number of trials that a search is going to have.

        A search that ends by time does not know that number before its first trials have ended.
        Arguments that the caller set, and those that are not `adjustable`, stay as they are.

        Args:
            trials: The number, with the trials so far.
        """
        if self._explicit is None:
            return
        for name, value in self.budget_defaults(trials, self._explicit).items():
            if name in self.adjustable and name not in self._explicit:
                setattr(self, name, value)

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Defaults of the constructor's arguments that depend on the number of trials.

        Args:
            max_trials: See `for_budget`.
            explicit: Arguments that the caller set; other defaults may depend on them.
        """
        return {}

    @abc.abstractmethod
    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """Propose the next configuration.

        Args:
            spec: The space; it may have grown since the last call.
            rng: The only source of randomness.
            tried: Returns whether a configuration was proposed before.
            pending: Values of the trials that are running, by trial id.

        Returns:
            The configuration and its parents; None when the space is exhausted.
        """

    @abc.abstractmethod
    def learn(self, observation: Observation) -> None:
        """Learn from a trial that ended; called once per trial, in the order of arrival."""

    def tell(
        self,
        trial_id: str,
        values: Mapping[str, Any],
        scores: Sequence[float] | None,
        *,
        violation: float = 0.0,
    ) -> None:
        """Report the result of a trial. Reporting it a second time has no effect.

        Args:
            trial_id: Unique within the search.
            values: Its active values.
            scores: One number per objective, the larger the better, or None.
            violation: See `Observation`.
        """
        if trial_id in self._reported:
            return
        if violation > 0 and not self.multi_objective:
            scores = None
        learned = None if scores is None else tuple(float(score) for score in scores)
        self.learn(Observation(trial_id, dict(values), learned, float(violation)))
        self._reported.add(trial_id)

    def get_state(self) -> dict[str, Any]:
        """The state that cannot be rebuilt from the observations, as small JSON.

        It is written after each trial, so its size must not grow with the number of trials.
        A strategy with a state includes the number of observations that the state covers.
        """
        return {}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """Restore a saved search.

        Args:
            state: What `get_state` returned.
            history: All observations so far, in the order of arrival. There may be more than
                ``state`` covers, if the process died before the state was saved.
        """
        self._reported.clear()
        for observation in history:
            self.tell(
                observation.trial_id,
                observation.values,
                observation.scores,
                violation=observation.violation,
            )

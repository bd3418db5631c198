"""Validation and screening of the proposals of a strategy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError, StrategyError
from keras_nas_plugin.oracles.screening import Screen, Screening, screened
from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Proposal, Strategy


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A proposal with the verdict of the screen.

    Attributes:
        values: Its active values.
        parents: Ids of the trials from which it was derived by mutation or crossover.
        screening: The verdict.
    """

    values: Values
    parents: tuple[str, ...] = ()
    screening: Screening = dataclasses.field(default_factory=Screening)

    @property
    def feasible(self) -> bool:
        """Whether the candidate may become a trial."""
        return self.screening.feasible


class Proposer:
    """Asks a strategy for candidates, and checks and screens them.

    Args:
        strategy: Proposes configurations.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    def propose(
        self,
        space: SearchSpace,
        generator: np.random.Generator,
        *,
        initial: Values | None,
        tried: Tried,
        pending: Mapping[str, Values],
        screen: Screen | None,
    ) -> Candidate | None:
        """Propose the next candidate, which the screen may find infeasible.

        Args:
            space: The search space, to which hyperparameters are added that models discover.
            generator: Source of randomness.
            initial: A configuration to try before the strategy is asked; None asks the strategy.
            tried: Whether a configuration was tried before.
            pending: Configurations of the running trials, by trial id.
            screen: Judges candidates; None accepts all.

        Returns:
            The candidate; None when the space is exhausted.

        Raises:
            StrategyError: The strategy proposed inactive, invalid or repeated values.
        """
        if initial is not None:
            proposal: Proposal | None = Proposal(initial)
        else:
            proposal = self._ask(space, generator, tried, pending)
        if proposal is None:
            return None
        values, screening = screened(space, screen, proposal.values)
        return Candidate(values, proposal.parents, screening)

    def _ask(
        self,
        space: SearchSpace,
        generator: np.random.Generator,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        spec = space.spec
        proposal = self._strategy.ask(spec, generator, tried=tried, pending=pending)
        while space.spec is not spec:
            # The strategy built models, which discovered new hyperparameters: ask again.
            spec = space.spec
            proposal = self._strategy.ask(spec, generator, tried=tried, pending=pending)
        if proposal is not None:
            self._check(spec, proposal.values, tried)
        return proposal

    def _check(self, spec: SearchSpec, values: Values, tried: Tried) -> None:
        name = type(self._strategy).__name__
        try:
            spec.validate(values)
        except SearchSpaceError as error:
            raise StrategyError(f"{name} proposed invalid values: {error}") from error
        if tried(values):
            raise StrategyError(f"{name} proposed values that were tried before: {values}")

"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Proposal, Strategy, random_proposal


class RandomSearch(Strategy):
    """Draws each active decision from its own distribution, never a configuration twice.

    Source: Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization";
    Li & Talwalkar 2019, "Random Search and Reproducibility for Neural Architecture
    Search", on why architecture search needs it as its baseline.
    """

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        return random_proposal(spec, rng, tried)

    def learn(self, observation: Observation) -> None:
        """Do nothing: proposals do not depend on scores."""

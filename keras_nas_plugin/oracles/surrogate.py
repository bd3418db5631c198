"""Bayesian optimisation of architectures as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.strategies.surrogate import (
    DEFAULT_KAPPA,
    SurrogateSearch,
    default_initial,
)


class SurrogateOracle(NASOracle):
    """Bayesian optimisation made for architectures: see `SurrogateSearch`.

    The one to take when trials are expensive: it needs the fewest of them.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        initial_trials: Random trials before the model is asked; trials that are known
            from elsewhere count. None takes a fifth of ``max_trials``, between 4 and 10.
        kappa: Standard deviations in the upper confidence bound: the larger, the more it
            explores. None takes 2.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        initial_trials: int | None = None,
        kappa: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = SurrogateSearch(
            initial_trials=(
                default_initial(max_trials) if initial_trials is None else initial_trials
            ),
            kappa=DEFAULT_KAPPA if kappa is None else kappa,
        )
        super().__init__(strategy, objective, max_trials, **options)

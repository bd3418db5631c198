"""Local search as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.local_search import LocalSearch


class LocalSearchOracle(NASOracle):
    """Local search (White et al. 2021) without a stop at local optima: see `LocalSearch`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        initial_samples: Number of random configurations to start from. None takes ten, and
            at most a quarter of ``max_trials``.
        improvement: Whether to move to the ``"first"`` better neighbour, or to the
            ``"best"`` once all were tried. None takes the first.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        initial_samples: int | None = None,
        improvement: str | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = LocalSearch.for_budget(
            max_trials, initial_samples=initial_samples, improvement=improvement
        )
        super().__init__(strategy, objective, max_trials, **options)

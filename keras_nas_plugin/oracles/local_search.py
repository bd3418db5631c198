"""Local search as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.strategies.local_search import LocalSearch, default_initial_samples


class LocalSearchOracle(NASOracle):
    """Local search (White et al. 2021) without a stop at local optima: see `LocalSearch`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        initial_samples: Random configurations to start from. None takes ten, and at most
            a quarter of ``max_trials``.
        improvement: Whether to move at the ``"first"`` better neighbour or to the
            ``"best"`` when all were tried. None takes the first.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        initial_samples: int | None = None,
        improvement: str | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        if initial_samples is None:
            initial_samples = default_initial_samples(max_trials)
        strategy = LocalSearch(
            initial_samples=initial_samples,
            improvement="first" if improvement is None else improvement,
        )
        super().__init__(strategy, objective, max_trials, **options)

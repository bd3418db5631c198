"""REINFORCE as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.strategies.reinforce import Reinforce


class ReinforceOracle(NASOracle):
    """A policy over the space, trained by REINFORCE: see `Reinforce`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus: larger keeps exploring.
        window: How many of the latest trials are learned from.
        baseline_decay: Weight of earlier rewards in the moving baseline.
        reuse: Whether all trials of the window teach at each step, or just the newest.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        learning_rate: float = 1.0,
        entropy: float = 0.1,
        window: int = 24,
        baseline_decay: float = 0.9,
        reuse: bool = True,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = Reinforce(
            learning_rate=learning_rate,
            entropy=entropy,
            window=window,
            baseline_decay=baseline_decay,
            reuse=reuse,
        )
        super().__init__(strategy, objective, max_trials, **options)

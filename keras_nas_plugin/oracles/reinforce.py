"""REINFORCE as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.reinforce import Reinforce


class ReinforceOracle(NASOracle):
    """A policy over the space, trained by REINFORCE: see `Reinforce`.

    Settings that are None have the defaults of `Reinforce`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus: larger keeps exploring.
        window: Number of the latest trials that are learned from.
        baseline_decay: Weight of earlier rewards in the moving baseline.
        reuse: Whether each step uses all trials of the window, or only the newest.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        learning_rate: float | None = None,
        entropy: float | None = None,
        window: int | None = None,
        baseline_decay: float | None = None,
        reuse: bool | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = Reinforce.for_budget(
            max_trials,
            learning_rate=learning_rate,
            entropy=entropy,
            window=window,
            baseline_decay=baseline_decay,
            reuse=reuse,
        )
        super().__init__(strategy, objective, max_trials, **options)

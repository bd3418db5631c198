"""Proximal policy optimisation as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.strategies.ppo import PPO


class PPOOracle(NASOracle):
    """A policy over the space, trained by proximal policy optimisation: see `PPO`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus: larger keeps exploring.
        window: How many of the latest trials an update uses.
        batch_size: New trials for each update.
        epochs: Passes over the trials for each update.
        clip: How far an update may move the ratio of a choice's probabilities.
        gae_decay: Lambda of the generalised advantages.
        **options: The other arguments of `NASOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        learning_rate: float = 1.5,
        entropy: float = 0.05,
        window: int = 24,
        batch_size: int = 4,
        epochs: int = 4,
        clip: float = 0.3,
        gae_decay: float = 0.95,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = PPO(
            learning_rate=learning_rate,
            entropy=entropy,
            window=window,
            batch_size=batch_size,
            epochs=epochs,
            clip=clip,
            gae_decay=gae_decay,
        )
        super().__init__(strategy, objective, max_trials, **options)

"""Proximal policy optimisation as a KerasTuner oracle."""

from __future__ import annotations

from typing import Unpack

from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.strategies.ppo import PPO


class PPOOracle(NASOracle):
    """A policy over the space, trained by proximal policy optimisation: see `PPO`.

    Settings that are None have the defaults of `PPO`.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus: larger keeps exploring.
        window: Number of the latest trials that an update uses.
        batch_size: Number of new trials per update.
        epochs: Number of passes over the trials per update.
        clip: How far an update may move the ratio of a choice's probabilities.
        gae_decay: Lambda of the generalised advantages.
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
        batch_size: int | None = None,
        epochs: int | None = None,
        clip: float | None = None,
        gae_decay: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        strategy = PPO.for_budget(
            max_trials,
            learning_rate=learning_rate,
            entropy=entropy,
            window=window,
            batch_size=batch_size,
            epochs=epochs,
            clip=clip,
            gae_decay=gae_decay,
        )
        super().__init__(strategy, objective, max_trials, **options)

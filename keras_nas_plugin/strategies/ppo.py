"""Proximal policy optimisation: several clipped epochs on each batch of trials."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.strategies.policy_gradient import (
    Batch,
    clipped_objective,
    generalized_advantages,
    predicted_values,
    rank_rewards,
    value_loss,
)
from keras_nas_plugin.strategies.policy_search import PolicySearch, check_at_least


class PPO(PolicySearch):
    """Clipped surrogate objective, generalised advantages, several epochs per batch.

    Each choice is an action of an episode that is rewarded at its end. A value head predicts
    the reward from the choices so far, `generalized_advantages` assigns credit to single
    choices, and a choice stops contributing once an update has moved its probability ratio by
    ``clip`` (Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; for architectures,
    with batches of 20, Zoph et al. 2018, "Learning Transferable Architectures"). Some changes to
    these papers make a few dozen trials enough to learn from:

    - Rewards are normal scores of the ranks among the latest trials, as in `Reinforce`.
    - There is an update after every four trials, which uses the latest ``window`` trials, old
      ones with truncated importance weights (as in Queeney et al. 2021, "Generalized Proximal
      Policy Optimization with Sample Reuse"). Ratios are relative to the policy before the
      update, also for trials that arrived late or come from another search.
    - The policy is log-linear and starts at the space's own distribution: see `policy`.

    Args:
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus; larger values explore more.
        window: Number of latest trials that an update uses; at least ``batch_size``.
        batch_size: Number of new trials per update.
        epochs: Passes over the trials per update.
        clip: Largest change of a choice's probability ratio by an update.
        gae_decay: Lambda of the advantages, from 0 to 1.
        hidden: Units of the policy's fixed layer.

    Raises:
        StrategyError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 1.5,
        entropy: float = 0.05,
        window: int = 24,
        batch_size: int = 4,
        epochs: int = 4,
        clip: float = 0.3,
        gae_decay: float = 0.95,
        hidden: int = 16,
    ) -> None:
        check_at_least("batch_size", batch_size, 1)
        check_at_least("window", window, batch_size)
        check_at_least("epochs", epochs, 1)
        if not clip > 0.0:
            raise StrategyError(f"`clip` must be above 0; got {clip}")
        if not 0.0 <= gae_decay <= 1.0:
            raise StrategyError(f"`gae_decay` must be between 0 and 1; got {gae_decay}")
        super().__init__(
            learning_rate=learning_rate,
            entropy=entropy,
            window=window,
            hidden=hidden,
            step=batch_size,
        )
        self.batch_size = batch_size
        self.epochs = epochs
        self.clip = clip
        self.gae_decay = gae_decay

    def _update(self) -> None:
        batch = self._batch()
        rewards = rank_rewards([trial.score for trial in self._memory])
        before = self._log_probs(batch)
        values = predicted_values(self._weights, batch)
        advantages = generalized_advantages(values, batch.scored, rewards, self.gae_decay)
        returns = advantages + values
        weighted = advantages * self._importance(before)
        for _ in range(self.epochs):
            self._epoch(batch, weighted, before, returns)

    def _epoch(
        self, batch: Batch, advantages: np.ndarray, before: np.ndarray, returns: np.ndarray
    ) -> None:
        _, gradient = clipped_objective(
            self._weights, self._layout, batch, advantages, before, self.clip, self.entropy
        )
        _, slope = value_loss(self._weights, batch, returns)
        self._gradient_step(gradient)
        self._gradient_step(slope, sign=-1.0)

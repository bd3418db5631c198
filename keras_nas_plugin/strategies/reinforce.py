"""REINFORCE: a policy trained by the score-function gradient of its trials."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.strategies.policy_gradient import (
    moving_average,
    rank_rewards,
    reinforce_objective,
)
from keras_nas_plugin.strategies.policy_search import PolicySearch


class Reinforce(PolicySearch):
    """Policy gradient with a moving baseline and an entropy bonus.

    After each trial the policy moves along ``(R - b) grad log pi(x)``, where ``R`` is the
    trial's reward and ``b`` the moving average of the rewards (Williams 1992; as architecture
    search Zoph & Le 2017, "Neural Architecture Search with Reinforcement Learning"). Some
    changes to these papers make a few dozen trials enough to learn from:

    - Rewards are normal scores of the ranks among the latest trials, so that the scale of a
      metric and its outliers have no effect, and no argument depends on them.
    - With ``reuse``, each step follows the mean gradient over the latest trials, with
      truncated importance weights, rather than that of the newest trial alone.
    - The policy is log-linear and starts at the space's own distribution: see `policy`.

    Plain gradient ascent performs as well as Adam here, and keeps no moments in the state.

    Args:
        learning_rate: Step along the gradient.
        entropy: Weight of the entropy bonus; larger values explore more.
        window: Number of latest trials among which rewards are ranked.
        baseline_decay: Weight of earlier rewards in the baseline, from 0 to below 1.
        reuse: Whether each step uses all trials of the window, or only the newest.
        hidden: Units of the policy's fixed layer.

    Raises:
        StrategyError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 1.0,
        entropy: float = 0.1,
        window: int = 24,
        baseline_decay: float = 0.9,
        reuse: bool = True,
        hidden: int = 16,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate, entropy=entropy, window=window, hidden=hidden, step=1
        )
        if not 0.0 <= baseline_decay < 1.0:
            raise StrategyError(
                f"`baseline_decay` must be at least 0 and below 1; got {baseline_decay}"
            )
        self.baseline_decay = baseline_decay
        self.reuse = reuse

    def _update(self) -> None:
        rewards = rank_rewards([trial.score for trial in self._memory])
        advantages = rewards - moving_average(rewards, self.baseline_decay)
        batch = self._batch()
        if self.reuse:
            advantages = advantages * self._importance(self._log_probs(batch))
        else:
            # Scaled by the number of trials, so that the step is as large as one with `reuse`.
            newest = np.arange(len(advantages)) == len(advantages) - 1
            advantages = np.where(newest, advantages * len(advantages), 0.0)
        _, gradient = reinforce_objective(
            self._weights, self._layout, batch, advantages, self.entropy
        )
        self._gradient_step(gradient)

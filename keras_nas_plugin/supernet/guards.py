"""Guards against the collapse of a differentiable search, from the dynamics of its weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.supernet.layout import MaskLayout

# Growth of the weight of skips, relative to the largest possible, that is no noise of the start.
_GROWN = 0.1
# Mean entropy below which there is nothing left to decide, and above which nothing is decided.
_DECIDED, _UNDECIDED = 0.05, 0.95
# Share of the epochs without a change of any rank after which the ranks are stable.
_STABLE, _FEWEST_STABLE = 0.2, 3


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Why the training of a supernet ends.

    Attributes:
        sentence: The reason.
        discard: Whether the last epoch is discarded: the state before it is the last good one.
    """

    sentence: str
    discard: bool


@dataclasses.dataclass(frozen=True)
class Guards:
    """Ends the training of a relaxed supernet when its weights collapse, or stop to change.

    - The loss is not finite.
    - Skips: identity or `Zero` is the strongest option of more than ``skip_limit`` of the
      decisions between such an option and operations with weights, and their weights have grown.
      Options without weights learn faster than operations: the usual collapse of DARTS (Liang et
      al. 2019, "DARTS+", section 3.1).
    - The order of the operations with weights has not changed in any decision for a fifth of the
      epochs (Liang et al. 2019, criterion 2: ten of 50).
    - Nothing is left to decide: the mean entropy of the weights is below 0.05 of the largest.

    The largest eigenvalue of the Hessian of the validation loss (Zela et al. 2020, "Understanding
    and Robustifying Differentiable Architecture Search") also tells of collapse. It is not
    computed: each of its power iterations costs several gradients of second order.

    Args:
        layout: Layout of the weights.
        empty: Options that compute nothing, by decision, see `Supernet`.
        epochs: Epochs of the training.
        skip_limit: Largest share of such decisions that may prefer to compute nothing, 0 to 1.

    Raises:
        StrategyError: ``skip_limit`` is not between 0 and 1.
    """

    layout: MaskLayout
    empty: Mapping[str, Sequence[Any]]
    epochs: int
    skip_limit: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.skip_limit <= 1.0:
            raise StrategyError(f"`skip_limit` must be between 0 and 1; got {self.skip_limit}")

    @property
    def patience(self) -> int:
        """Epochs without a change of the ranks after which they are stable."""
        return max(_FEWEST_STABLE, math.ceil(_STABLE * self.epochs))

    def check(self, history: Sequence[np.ndarray], logs: Mapping[str, float]) -> Verdict | None:
        """Judge the epoch that has ended.

        Args:
            history: Weights after each epoch, the last one included, each ``[layout.size]``.
            logs: Losses and metrics of the epoch.

        Returns:
            Why the training ends, or None.
        """
        epoch, weights = len(history), history[-1]
        if not all(math.isfinite(logs.get(name, 0.0)) for name in ("loss", "val_loss")):
            return Verdict(f"the loss was not finite in epoch {epoch}", discard=True)
        if not np.isfinite(weights).all():
            return Verdict(f"the weights were not finite in epoch {epoch}", discard=True)
        share, grown = self.skips(weights)
        if share > self.skip_limit and grown > _GROWN:
            return Verdict(
                f"identity or zero is the strongest option of {share:.0%} of the decisions with "
                f"operations after epoch {epoch}, more than `skip_limit`={self.skip_limit:.0%}",
                discard=epoch > 1,
            )
        if self.entropy(weights) < _DECIDED:
            return Verdict(
                f"the weights are decided after epoch {epoch}: their entropy is "
                f"{self.entropy(weights):.2f} of the largest",
                discard=False,
            )
        recent = history[-1 - self.patience :]
        if len(recent) > self.patience and epoch < self.epochs:
            ranks = [self._ranks(weights) for weights in recent]
            if all(rank == ranks[0] for rank in ranks):
                return Verdict(
                    f"the order of the operations has not changed for {self.patience} epochs",
                    discard=False,
                )
        return None

    def undecided(self, weights: np.ndarray) -> str | None:
        """A sentence if the final weights hardly differ, so that they choose almost at random."""
        entropy = self.entropy(weights)
        if entropy <= _UNDECIDED:
            return None
        return (
            f"the weights of the options hardly differ (entropy {entropy:.2f} of the largest): "
            "the derived architecture is close to a random choice; use more `supernet_epochs`"
        )

    def entropy(self, weights: np.ndarray) -> float:
        """Mean entropy of the weights of a decision, relative to that of equal weights, 0 to 1."""
        entropies = []
        for name, options in self.layout.options.items():
            if len(options) > 1:
                part = np.clip(weights[self.layout.slice(name)].astype(float), 1e-12, 1.0)
                entropies.append(-float(part @ np.log(part)) / math.log(len(options)))
        return float(np.mean(entropies)) if entropies else 0.0

    def skips(self, weights: np.ndarray) -> tuple[float, float]:
        """How much the weights prefer to compute nothing.

        Args:
            weights: Shape ``[layout.size]``.

        Returns:
            The share of the decisions with operations whose strongest option computes nothing,
            and the growth of the weights of such options: 0 for equal weights, 1 for all.
        """
        chosen, mass, uniform = [], [], []
        for name, empty in self.empty.items():
            part = weights[self.layout.slice(name)]
            indices = [self.layout.index(name, option) for option in empty]
            chosen.append(int(np.argmax(part)) in indices)
            mass.append(float(part[indices].sum()))
            uniform.append(len(indices) / len(part))
        if not chosen or np.mean(uniform) >= 1.0:
            return 0.0, 0.0
        growth = (np.mean(mass) - np.mean(uniform)) / (1.0 - np.mean(uniform))
        return float(np.mean(chosen)), float(growth)

    def _ranks(self, weights: np.ndarray) -> list[list[int]]:
        """Order of the options with weights of each decision."""
        ranks = []
        for name, options in self.layout.options.items():
            empty = {self.layout.index(name, option) for option in self.empty.get(name, ())}
            part = weights[self.layout.slice(name)]
            order = np.argsort(-part, kind="stable").tolist()
            ranks.append([index for index in order if index not in empty and len(options) > 1])
        return ranks

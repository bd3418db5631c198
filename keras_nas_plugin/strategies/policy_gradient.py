"""Policy gradients: objectives of a `policy` with their exact gradients.

All functions are pure. In shapes, ``K`` is the number of decisions, ``B`` of trials, ``C`` of
cells and ``F`` of features (the largest of any decision), and ``H`` of hidden units.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np

from keras_nas_plugin.strategies.policy import Layout, Weights, hidden_units


@dataclasses.dataclass(frozen=True)
class Batch:
    """Encoded trials.

    Attributes:
        cells: Shape ``[K, B]``, integers; 0 for inactive decisions.
        active: Shape ``[K, B]``, whether the decision is active.
        scored: Shape ``[K, B]``, whether the value was chosen, and is not a default.
        hidden: Shape ``[K, B, H]``, hidden units for the choices before each decision.
    """

    cells: np.ndarray
    active: np.ndarray
    scored: np.ndarray
    hidden: np.ndarray


def make_batch(layout: Layout, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Stack trials, and compute the hidden units of each decision.

    Args:
        layout: The space.
        rows: Results of `Layout.encode`, at least one.
    """
    cells = np.array([row[0] for row in rows]).T
    active = cells >= 0
    cells = np.maximum(cells, 0)
    inputs = np.take_along_axis(layout.features, cells[:, :, None], 1) * active[:, :, None]
    embedded = inputs @ layout.projection
    before = np.cumsum(embedded, axis=0) - embedded
    scored = np.array([row[1] for row in rows]).T
    return Batch(cells, active, scored, hidden_units(before))


def log_policy(weights: Weights, layout: Layout, batch: Batch) -> np.ndarray:
    """Log-probability of each cell of each decision, given the choices before it.

    Returns:
        Shape ``[K, B, C]``; minus infinity for padding.
    """
    theta = weights["bias"][:, None] + batch.hidden @ weights["context"]
    logits = theta @ layout.features.transpose(0, 2, 1) + layout.log_mass[:, None]
    logits -= logits.max(axis=2, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))


def choice_log_probs(log_p: np.ndarray, batch: Batch) -> np.ndarray:
    """Log-probability of each choice, shape ``[K, B]``; 0 where no choice was made."""
    chosen = np.take_along_axis(log_p, batch.cells[:, :, None], 2)[:, :, 0]
    return np.where(batch.scored, chosen, 0.0)


def entropies(log_p: np.ndarray, layout: Layout, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each active decision, relative to the space's own distribution.

    ``-sum_c p_c log(p_c / mass_c)``: 0 for random search and negative otherwise, so that cells
    of unequal mass are not pushed towards equal probabilities.

    Returns:
        Entropies, shape ``[K, B]``, and their gradients with respect to the logits, ``[K, B,
        C]``.
    """
    p = np.exp(log_p)
    mass = np.where(np.isfinite(layout.log_mass), layout.log_mass, 0.0)[:, None]
    surprise = np.where(p > 0.0, log_p, 0.0) - mass * (p > 0.0)
    entropy = -np.sum(p * surprise, axis=2)
    gradient = -p * (surprise + entropy[:, :, None])
    return entropy * batch.active, gradient * batch.active[:, :, None]


def _choice_gradient(log_p: np.ndarray, batch: Batch, factors: np.ndarray) -> np.ndarray:
    """Gradient of ``sum(factors * log p)`` with respect to the logits, shape ``[K, B, C]``."""
    factors = np.where(batch.scored, factors, 0.0)
    gradient = -np.exp(log_p) * factors[:, :, None]
    at = batch.cells[:, :, None]
    own = np.take_along_axis(gradient, at, 2) + factors[:, :, None]
    np.put_along_axis(gradient, at, own, 2)
    return gradient


def _by_weights(by_logits: np.ndarray, layout: Layout, batch: Batch) -> Weights:
    """Chain rule from the logits to the weights, in which they are linear."""
    theta = by_logits @ layout.features
    return {"bias": theta.sum(axis=1), "context": batch.hidden.transpose(0, 2, 1) @ theta}


def reinforce_objective(
    weights: Weights, layout: Layout, batch: Batch, advantages: np.ndarray, entropy: float
) -> tuple[float, Weights]:
    """REINFORCE with an entropy bonus, to be maximised.

    ``1/B sum_i (A_i log pi(x_i) + entropy * H_i)``, whose gradient is the policy gradient's
    estimate (Williams 1992, "Simple Statistical Gradient-Following Algorithms for
    Connectionist Reinforcement Learning", equation 11; the bonus: Williams & Peng 1991).

    Args:
        weights: Weights of the policy.
        layout: The space.
        batch: Trials.
        advantages: Shape ``[B]``, including importance weights; treated as constants.
        entropy: Weight of the entropy bonus.

    Returns:
        The objective and its gradient.
    """
    log_p = log_policy(weights, layout, batch)
    bonus, by_logits = entropies(log_p, layout, batch)
    total = np.sum(choice_log_probs(log_p, batch) * advantages) + entropy * np.sum(bonus)
    factors = np.broadcast_to(advantages, batch.cells.shape)
    by_logits = _choice_gradient(log_p, batch, factors) + entropy * by_logits
    count = batch.cells.shape[1]
    return float(total) / count, _by_weights(by_logits / count, layout, batch)


def clipped_objective(
    weights: Weights,
    layout: Layout,
    batch: Batch,
    advantages: np.ndarray,
    old_log_probs: np.ndarray,
    clip: float,
    entropy: float,
) -> tuple[float, Weights]:
    """PPO's clipped surrogate with an entropy bonus, to be maximised.

    ``1/B sum_ik (min(r A, clip(r, 1 - e, 1 + e) A) + entropy * H)`` with the ratio
    ``r = pi(x_ik) / pi_old(x_ik)`` of each choice (Schulman et al. 2017, "Proximal Policy
    Optimization Algorithms", equations 7 and 9).

    Args:
        weights: Weights of the policy.
        layout: The space.
        batch: Trials.
        advantages: Shape ``[K, B]``, including importance weights; treated as constants.
        old_log_probs: Shape ``[K, B]``, result of `choice_log_probs` before the update.
        clip: Distance of a ratio from 1 beyond which it has no gradient.
        entropy: Weight of the entropy bonus.

    Returns:
        The objective and its gradient.
    """
    log_p = log_policy(weights, layout, batch)
    ratio = np.exp(choice_log_probs(log_p, batch) - old_log_probs)
    free, held = ratio * advantages, np.clip(ratio, 1.0 - clip, 1.0 + clip) * advantages
    bonus, by_logits = entropies(log_p, layout, batch)
    total = np.sum(np.minimum(free, held) * batch.scored) + entropy * np.sum(bonus)
    factors = np.where(free <= held, free, 0.0)
    by_logits = _choice_gradient(log_p, batch, factors) + entropy * by_logits
    count = batch.cells.shape[1]
    return float(total) / count, _by_weights(by_logits / count, layout, batch)


def predicted_values(weights: Weights, batch: Batch) -> np.ndarray:
    """Expected reward before each decision, given the choices so far, shape ``[K, B]``."""
    return weights["value_bias"][:, None] + np.einsum("kbh,kh->kb", batch.hidden, weights["value"])


def value_loss(weights: Weights, batch: Batch, returns: np.ndarray) -> tuple[float, Weights]:
    """Half the squared error of `predicted_values` at each choice, to be minimised.

    Args:
        weights: Weights of the policy.
        batch: Trials.
        returns: Shape ``[K, B]``; treated as constants.

    Returns:
        ``1/B sum_ik (V_ik - R_ik)^2 / 2`` and its gradient.
    """
    error = (predicted_values(weights, batch) - returns) * batch.scored
    count = batch.cells.shape[1]
    gradient = {
        "value_bias": error.sum(axis=1) / count,
        "value": np.einsum("kb,kbh->kh", error, batch.hidden) / count,
    }
    return float(np.sum(error**2)) / (2.0 * count), gradient


def generalized_advantages(
    values: np.ndarray, scored: np.ndarray, rewards: np.ndarray, decay: float
) -> np.ndarray:
    """Advantage of each choice, for trials with a single reward at the end.

    ``A_k = sum_l decay^l delta_k+l`` with ``delta_k = V_k+1 - V_k``, where the value after
    the last choice is the reward; there is no discount, because all trials end (Schulman et al.
    2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    equation 16 with gamma = 1).

    Args:
        values: Shape ``[K, B]``, the value before each choice.
        scored: Shape ``[K, B]``, which choices were made; the other decisions are skipped.
        rewards: Shape ``[B]``.
        decay: Lambda: 1 credits each choice with the whole reward, 0 with the next value.

    Returns:
        Shape ``[K, B]``; 0 where no choice was made.

    >>> values, made = np.array([[0.5], [0.8]]), np.ones((2, 1), bool)
    >>> generalized_advantages(values, made, np.array([1.0]), 1.0).round(2).tolist()
    [[0.5], [0.2]]
    >>> generalized_advantages(values, made, np.array([1.0]), 0.0).round(2).tolist()
    [[0.3], [0.2]]
    """
    advantages = np.zeros(values.shape)
    following, running = np.array(rewards, float), np.zeros(len(rewards))
    for k in reversed(range(len(values))):
        step = following - values[k] + decay * running
        running = np.where(scored[k], step, running)
        following = np.where(scored[k], values[k], following)
        advantages[k] = np.where(scored[k], running, 0.0)
    return advantages


def rank_rewards(scores: Sequence[float | None]) -> np.ndarray:
    """Rewards without a scale: ranks as quantiles of the normal distribution.

    The r-th of n becomes the ``(r - 1/2) / n`` quantile (Hazen 1914); ties share their
    mean rank, and failed trials are the worst.

    Args:
        scores: Score of each trial, the larger the better; None for a failed trial.

    Returns:
        Shape ``[n]``.

    >>> rank_rewards([0.1, None, 70.0]).round(2).tolist()
    [0.0, -0.97, 0.97]
    """
    ranked = np.array([-math.inf if score is None else score for score in scores])
    below = (ranked[:, None] > ranked).sum(axis=1)
    equal = (ranked[:, None] == ranked).sum(axis=1)
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf(float(q)) for q in (below + equal / 2.0) / len(ranked)])


def moving_average(rewards: Sequence[float] | np.ndarray, decay: float) -> float:
    """Exponential moving average after the last reward, corrected for its start at 0.

    Args:
        rewards: In the order of arrival, at least one.
        decay: Weight of the earlier rewards, from 0 to below 1.

    >>> moving_average([1.0, 1.0], 0.9), round(moving_average([0.0, 1.0], 0.5), 3)
    (1.0, 0.667)
    """
    weights = decay ** np.arange(len(rewards) - 1, -1, -1)
    return float(np.dot(weights, rewards) / weights.sum())

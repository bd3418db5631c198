"""`expressivity` and `progressivity`: the entropy of the features of a network."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.proxies.blocks import blocks_of
from keras_nas_plugin.proxies.context import Context, Proxy

# Added inside the logarithm, as in the paper's code.
_EPSILON = 1e-8


def entropy(features: np.ndarray) -> float:
    r"""Entropy of the spectrum of the features' covariance.

    .. math:: -\sum_i p_i \log p_i, \quad p_i = \lambda_i / \textstyle\sum_j \lambda_j

    Args:
        features: Shape ``[..., channels]``; all axes but the last are samples.

    Returns:
        A number from 0 (a single direction, or constant features) to the logarithm of the
        number of channels; NaN for features that are not finite.
    """
    if not np.isfinite(features).all():
        return float("nan")
    rows = features.reshape(-1, features.shape[-1]).astype(float)
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / len(rows)
    eigenvalues = np.clip(np.linalg.eigvalsh(covariance), 0.0, None)
    if eigenvalues.sum() == 0:
        return 0.0
    shares = eigenvalues / eigenvalues.sum()
    return -float(np.sum(shares * np.log(shares + _EPSILON)))


def _entropies(context: Context) -> np.ndarray:
    shared = context.shared
    if "entropies" not in shared:
        features = blocks_of(context).features
        shared["entropies"] = np.array([entropy(array) for array in features])
    return shared["entropies"]


def compute_expressivity(context: Context) -> float:
    """Sum of the `entropy` of the features at the end of every block.

    Larger is better. Source: Lee & Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network
    Architecture Search", equation 3. The input is standard normal noise; where blocks end is
    documented in `blocks.ends_of_blocks`.
    """
    return float(_entropies(context).sum())


def compute_progressivity(context: Context) -> float:
    """Smallest increase of the `entropy` from the end of one block to the end of the next.

    Larger is better. Source: Lee & Ham 2024, equation 4.
    """
    return float(np.diff(_entropies(context)).min())


expressivity = Proxy(compute_expressivity)
progressivity = Proxy(compute_progressivity)

"""`trainability`: whether gradients grow or vanish from block to block."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.proxies.base import WORST, ProxyError
from keras_nas_plugin.proxies.blocks import blocks_of
from keras_nas_plugin.proxies.context import Context, Proxy

# Added to the singular value, as in the paper's code.
_EPSILON = 1e-6


def block_score(into: np.ndarray, out: np.ndarray) -> float:
    r"""How close the largest singular value of a block's Jacobian is to 1.

    .. math:: -\sigma - \frac{1}{\sigma + 10^{-6}} + 2

    The Jacobian of the channels is estimated as the correlation of random signs at the end of
    the block with the gradient at its start that results from them. If the block has a stride,
    the input positions that belong to one output position count as channels.

    Args:
        into: Random signs, shape ``[batch, ..., channels]``.
        out: The resulting gradient, shape ``[batch, ..., channels]``.

    Returns:
        At most about 0, if the block preserves the size of gradients; -inf for a block that
        passes them unchanged.
    """
    if into.shape == out.shape and (into == out).all():
        return WORST
    out = _unshuffled(out, into.shape[1:-1])
    if not np.isfinite(out).all():
        return float("nan")
    rows = out.reshape(-1, out.shape[-1]).astype(float)
    matrix = rows.T @ into.reshape(-1, into.shape[-1]) / len(rows)
    largest = float(np.linalg.norm(matrix, ord=2))
    return -largest - 1 / (largest + _EPSILON) + 2


def _unshuffled(array: np.ndarray, positions: tuple[int, ...]) -> np.ndarray:
    """Move groups of positions into channels; incomplete groups at the border are dropped.

    Args:
        array: Shape ``[batch, H, W, ..., C]``.
        positions: Number of positions to keep along each axis, ``(h, w, ...)``.

    Returns:
        Shape ``[batch, h, w, ..., C * (H // h) * (W // w) * ...]``.

    Raises:
        ProxyError: The array has fewer positions than that.
    """
    have = array.shape[1:-1]
    steps = [own // target for own, target in zip(have, positions, strict=True)]
    if not all(steps):
        raise ProxyError(
            "`trainability` requires blocks that do not enlarge their feature maps; got one "
            f"from {have} to {positions}"
        )
    cut = tuple(slice(0, step * target) for step, target in zip(steps, positions, strict=True))
    split = [size for pair in zip(positions, steps, strict=True) for size in pair]
    array = array[(slice(None), *cut)].reshape(len(array), *split, array.shape[-1])
    outer = [1 + 2 * i for i in range(len(positions))]
    inner = [2 + 2 * i for i in range(len(positions))]
    array = array.transpose(0, *outer, *inner, array.ndim - 1)
    return array.reshape(len(array), *positions, -1)


def compute(context: Context) -> float:
    """Mean of `block_score` over the blocks.

    Larger is better. Source: Lee & Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network
    Architecture Search", equations 7 and 8. The input of the network is standard normal noise.
    """
    blocks = blocks_of(context)
    scores = [block_score(*pair) for pair in zip(blocks.into, blocks.out, strict=True)]
    return float(np.mean(scores))


trainability = Proxy(compute)

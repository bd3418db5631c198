"""`trainability`: whether gradients grow or vanish from block to block."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.proxies.base import WORST, Proxy, ProxyError
from keras_nas_plugin.proxies.blocks import blocks_of
from keras_nas_plugin.proxies.context import Context

# Added to the singular value in the paper's code.
_EPSILON = 1e-6


def block_score(into: np.ndarray, out: np.ndarray) -> float:
    r"""How near the largest singular value of a block's Jacobian is to 1.

    .. math:: -\sigma - \frac{1}{\sigma + 10^{-6}} + 2

    The Jacobian of the channels is estimated as the correlation of random signs that go in at
    the block's end with what comes out at its start. Where the block has a stride, the
    positions that one output stands for count as channels.

    Args:
        into: Random signs, shape ``[batch, ..., channels]``.
        out: Their gradient, shape ``[batch, ..., channels]``.

    Returns:
        At most about 0, where the block keeps the size of gradients; -inf for a block that
        hands them through as they are.
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
    """Fewer positions and more channels, without losing a number but at the border.

    Args:
        array: Shape ``[batch, H, W, ..., C]``.
        positions: The wanted ones, ``(h, w, ...)``.

    Returns:
        Shape ``[batch, h, w, ..., C * (H // h) * (W // w) * ...]``.

    Raises:
        ProxyError: It has fewer positions than wanted.
    """
    have = array.shape[1:-1]
    steps = [own // wanted for own, wanted in zip(have, positions, strict=True)]
    if not all(steps):
        raise ProxyError(
            f"`trainability` needs blocks that do not enlarge their feature maps; one goes from "
            f"{have} to {positions}"
        )
    cut = tuple(slice(0, step * wanted) for step, wanted in zip(steps, positions, strict=True))
    split = [size for pair in zip(positions, steps, strict=True) for size in pair]
    array = array[(slice(None), *cut)].reshape(len(array), *split, array.shape[-1])
    places = [1 + 2 * i for i in range(len(positions))]
    inner = [2 + 2 * i for i in range(len(positions))]
    array = array.transpose(0, *places, *inner, array.ndim - 1)
    return array.reshape(len(array), *positions, -1)


def compute(context: Context) -> float:
    """Mean of `block_score` over the blocks.

    Larger is better. Source: Lee & Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network
    Architecture Search", equations 7 and 8. Gradients are taken at standard normal noise.
    """
    blocks = blocks_of(context)
    scores = [block_score(*pair) for pair in zip(blocks.into, blocks.out, strict=True)]
    return float(np.mean(scores))


trainability = Proxy(compute)

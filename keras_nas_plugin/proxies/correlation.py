"""`meco`: how little the channels of the feature maps repeat each other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import Event, Proxy, ProxyError
from keras_nas_plugin.proxies.context import Context


def observe(event: Event) -> Any:
    """Channels by positions of the first sample's feature map, shape ``[C, P]``."""
    if event.kind != "output" or not event.leaf or len(event.tensor.shape) < 3:
        return None
    sample = event.tensor[0]
    if not layers.channels_first(event.operation):
        sample = keras.ops.moveaxis(sample, -1, 0)
    return keras.ops.reshape(sample, (sample.shape[0], -1))


def smallest_eigenvalue(features: np.ndarray) -> float:
    """Of the correlation matrix of the rows; correlations with a constant row count as 0.

    Args:
        features: Shape ``[channels, positions]``.

    Returns:
        0 (channels repeat each other) to 1 (they are uncorrelated).
    """
    centred = features.astype(float) - features.mean(axis=1, keepdims=True, dtype=float)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    rows = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return float(np.clip(np.linalg.eigvalsh(rows @ rows.T)[0], 0.0, None))


def compute(context: Context) -> float:
    r"""Sum of the smallest eigenvalues of the feature maps' channel correlations.

    .. math:: \sum_l \lambda_{\min}(P(F_l))

    Larger is better. Source: Jiang, Wang & Bie 2023, "MeCo: Zero-Shot NAS with One Data and
    Single Forward Pass via Minimum Eigenvalue of Correlation", equation 5. One sample, the
    first of the batch, at every layer that has positions and channels; a feature map with as
    many channels as positions adds zero.

    Raises:
        ProxyError: The network has no feature map with positions.
    """
    features = [keras.ops.convert_to_numpy(one) for _, one in context.observed("meco")]
    if not features:
        raise ProxyError(
            f"`meco` needs feature maps with positions; {context.model.name!r} has none"
        )
    if not all(np.isfinite(one).all() for one in features):
        return float("nan")
    return sum(smallest_eigenvalue(one) for one in features)


meco = Proxy(compute, observe)

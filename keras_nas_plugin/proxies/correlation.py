"""`meco`: how weakly the channels of the feature maps are correlated."""

from __future__ import annotations

import keras
import numpy as np

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import Event, ProxyError, Tensor
from keras_nas_plugin.proxies.context import Context, Proxy


def observe(event: Event) -> Tensor | None:
    """The first sample's feature map as a matrix, shape ``[channels, positions]``."""
    if event.kind != "output" or not event.leaf or len(event.tensor.shape) < 3:
        return None
    sample = event.tensor[0]
    if not layers.channels_first(event.operation):
        sample = keras.ops.moveaxis(sample, -1, 0)
    return keras.ops.reshape(sample, (sample.shape[0], -1))


def smallest_eigenvalue(features: np.ndarray) -> float:
    """Smallest eigenvalue of the rows' correlation matrix; 0 if a row is constant.

    Args:
        features: Shape ``[channels, positions]``.

    Returns:
        A number from 0 (the channels are linearly dependent) to 1 (they are uncorrelated).
    """
    centred = features.astype(float) - features.mean(axis=1, keepdims=True, dtype=float)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    rows = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    return float(np.clip(np.linalg.eigvalsh(rows @ rows.T)[0], 0.0, None))


def compute(context: Context) -> float:
    r"""Sum of the smallest eigenvalues of the feature maps' channel correlations.

    .. math:: \sum_l \lambda_{\min}(P(F_l))

    Larger is better. Source: Jiang, Wang & Bie 2023, "MeCo: Zero-Shot NAS with One Data and
    Single Forward Pass via Minimum Eigenvalue of Correlation", equation 5.

    Only the first sample of the batch is used, at every layer whose output has positions and
    channels. A feature map with at least as many channels as positions contributes zero, because
    its channels are linearly dependent.

    Raises:
        ProxyError: The network has no feature map with positions.
    """
    observed = [feature_map for _, feature_map in context.observed("meco")]
    features = [keras.ops.convert_to_numpy(feature_map) for feature_map in observed]
    if not features:
        raise ProxyError(
            f"`meco` requires feature maps with positions; {context.model.name!r} has none"
        )
    if not all(np.isfinite(feature_map).all() for feature_map in features):
        return float("nan")
    return sum(smallest_eigenvalue(feature_map) for feature_map in features)


meco = Proxy(compute, observe)

"""`grad_norm`: how large the gradient of the loss is."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies.base import Proxy
from keras_nas_plugin.proxies.context import Context


def compute(context: Context) -> float:
    r"""Sum of the Euclidean norms of the loss's gradient, one per kernel.

    .. math:: \sum_l \lVert \partial L / \partial W_l \rVert_2

    Larger is better: a network whose loss answers to its weights can be trained. Source:
    Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 3.2.
    """
    norms = [keras.ops.norm(keras.ops.ravel(one)) for one in context.loss_gradients]
    return float(sum(norms))


grad_norm = Proxy(compute, needs=frozenset({"labels"}))

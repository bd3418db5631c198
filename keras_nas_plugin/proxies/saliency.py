"""`snip`: how much the loss would change without each weight."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies.base import Proxy
from keras_nas_plugin.proxies.context import Context


def compute(context: Context) -> float:
    r"""Sum over all kernels of the weights' first-order effects on the loss.

    .. math:: \sum_w \lvert w \, \partial L / \partial w \rvert

    Larger is better. Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on
    Connection Sensitivity", equation 4; summed over a network by Abdelfattah et al. 2021.
    """
    pairs = zip(context.kernel_values(), context.loss_gradients, strict=True)
    return float(sum(keras.ops.sum(keras.ops.abs(weight * one)) for weight, one in pairs))


snip = Proxy(compute, needs=frozenset({"labels"}))

"""`snip`: the first-order effect of removing each weight on the loss."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies.context import Context, Proxy


def compute(context: Context) -> float:
    r"""Sum over all kernels of the weights' first-order effects on the loss.

    .. math:: \sum_w \lvert w \, \partial L / \partial w \rvert

    Larger is better. Source: Lee et al. 2019, "SNIP: Single-shot Network Pruning based on
    Connection Sensitivity", equation 4; summed over a network by Abdelfattah et al. 2021.
    """
    pairs = zip(context.kernel_values(), context.loss_gradients, strict=True)
    effects = [weight * gradient for weight, gradient in pairs]
    return float(sum(keras.ops.sum(keras.ops.abs(effect)) for effect in effects))


snip = Proxy(compute, needs=frozenset({"labels"}))

"""`grad_norm`: the norm of the gradient of the loss."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies.context import Context, Proxy


def compute(context: Context) -> float:
    r"""Sum of the Euclidean norms of the gradients of the loss with respect to the kernels.

    .. math:: \sum_l \lVert \partial L / \partial W_l \rVert_2

    Larger is better: a network whose loss is sensitive to its weights can be trained. Source:
    Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", section 3.2.
    """
    norms = [keras.ops.norm(keras.ops.ravel(gradient)) for gradient in context.loss_gradients]
    return float(sum(norms))


grad_norm = Proxy(compute, needs=frozenset({"labels"}))

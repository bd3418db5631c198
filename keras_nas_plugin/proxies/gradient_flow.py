"""`grasp`: how removing weights would change the gradient's norm."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies import gradients
from keras_nas_plugin.proxies.base import Proxy
from keras_nas_plugin.proxies.context import Context


def compute(context: Context) -> float:
    r"""Minus the weights times the Hessian times the gradient.

    .. math:: -\sum_w w \, (H g)_w, \quad g = \partial L / \partial w

    Larger is better: removing weights would add to the gradient's norm. Source: Wang, Zhang &
    Grosse 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow",
    equation 8; summed over a network by Abdelfattah et al. 2021. It differentiates twice, and
    is the dearest of the proxies.
    """

    def loss() -> object:
        return context.loss(context.run(context.x)[0])

    _, product = gradients.of_backend().hessian_product(loss, context.kernels)
    pairs = zip(context.kernel_values(), product, strict=True)
    return -float(sum(keras.ops.sum(weight * one) for weight, one in pairs))


grasp = Proxy(compute)

"""`grasp`: the effect of removing weights on the norm of the gradient."""

from __future__ import annotations

import keras

from keras_nas_plugin.proxies import gradients
from keras_nas_plugin.proxies.context import Context, Proxy


def compute(context: Context) -> float:
    r"""Minus the weights times the Hessian times the gradient.

    .. math:: -\sum_w w \, (H g)_w, \quad g = \partial L / \partial w

    Larger is better: removing weights would increase the norm of the gradient. Source: Wang,
    Zhang & Grosse 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow",
    equation 8; summed over a network by Abdelfattah et al. 2021. The loss is differentiated
    twice, which makes this the most expensive proxy.
    """

    def loss() -> object:
        return context.loss(context.run(context.x)[0])

    _, product = gradients.of_backend().hessian_product(loss, context.kernels)
    pairs = zip(context.kernel_values(), product, strict=True)
    return -float(sum(keras.ops.sum(weight * curvature) for weight, curvature in pairs))


grasp = Proxy(compute)

"""`synflow`: the sum over all paths through a network of the products of their weights."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_nas_plugin.proxies import gradients
from keras_nas_plugin.proxies.base import WORST, Structure, Tensor, Watch
from keras_nas_plugin.proxies.context import Context, Proxy, is_real
from keras_nas_plugin.proxies.flow import Flow, Untracked, positive


def compute(context: Context) -> float:
    r"""Logarithm of the synaptic flow of all kernels.

    .. math:: \log \sum_w \lvert w \, \partial R / \partial w \rvert, \quad
       R = \mathbf{1}^T \prod_l \lvert W_l \rvert \, \mathbf{1}

    R is the sum of the outputs for an input of ones, computed with the absolute values of all
    weights, with zero offsets, and without normalisations and activations (see `flow.Flow`):
    batch norm would cancel the flow. Larger is better; -inf if no path leads from the input to
    the output. No data are used, except that integer inputs are those of the batch's first
    sample.

    Source: Tanaka et al. 2020, "Pruning Neural Networks without Any Data by Iteratively
    Conserving Synaptic Flow", equation 2 and algorithm 1; summed over a network by Abdelfattah
    et al. 2021. The logarithm is not in these papers: it preserves the ranking, and without it
    the flow of a deep network would overflow.

    In a subclassed model, and if tensors change their dtype between layers (mixed precision),
    numbers are not rescaled. If they overflow, `score` warns.

    Raises:
        ProxyError: A layer is not linear apart from its activation, such as a recurrent one.
    """
    ones = keras.tree.map_structure(
        lambda tensor: keras.ops.ones_like(tensor[:1]) if is_real(tensor) else tensor[:1],
        context.x,
    )
    with positive(context.model):
        flow = Flow(context.model, context.operations)
        try:
            recording = _recorded(flow, ones, context)
        except Untracked:
            flow = Flow(context.model, context.operations, rescale=False)
            recording = _recorded(flow, ones, context)
        pairs = zip(context.kernel_values(), recording.pull("flow")[0], strict=True)
        flows = [weight * gradient for weight, gradient in pairs]
        total = float(sum(keras.ops.sum(keras.ops.abs(values)) for values in flows))
    if total == 0:
        return WORST
    return math.log(total) + flow.scale


def _recorded(flow: Flow, x: Structure, context: Context) -> Any:
    def run(watch: Watch) -> dict[str, Tensor]:
        return {"flow": flow(x)}

    return gradients.of_backend().Recording(run, context.kernels)


synflow = Proxy(compute)

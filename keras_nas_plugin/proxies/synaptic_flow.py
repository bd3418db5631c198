"""`synflow`: how much flows through a network, over all its paths."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_nas_plugin.proxies import gradients
from keras_nas_plugin.proxies.base import WORST, Proxy
from keras_nas_plugin.proxies.context import Context, is_real
from keras_nas_plugin.proxies.flow import Flow, Untracked, positive


def compute(context: Context) -> float:
    r"""Logarithm of the synaptic flow of all kernels.

    .. math:: \log \sum_w \lvert w \, \partial R / \partial w \rvert, \quad
       R = \mathbf{1}^T \prod_l \lvert W_l \rvert \, \mathbf{1}

    R is the sum of the outputs for an input of ones, when every weight has its absolute value,
    offsets are zero, and normalisations and activations are left out (`flow.Flow` says how):
    batch norm, that would divide the flow away again, has no say. Larger is better; -inf where
    no path leads from the input to the output. Needs no data: integer inputs take the first
    sample of the batch.

    Source: Tanaka et al. 2020, "Pruning Neural Networks without Any Data by Iteratively
    Conserving Synaptic Flow", equation 2 and algorithm 1; summed over a network by Abdelfattah
    et al. 2021. The logarithm is ours: it ranks alike, and the flow of deep networks exceeds any
    float.

    In a subclassed model, and where tensors change their type between layers (mixed precision),
    numbers are not rescaled and may overflow, which is told.

    Raises:
        ProxyError: A layer is not linear apart from its activation (recurrent ones are not).
    """
    ones = keras.tree.map_structure(
        lambda one: keras.ops.ones_like(one[:1]) if is_real(one) else one[:1], context.x
    )
    with positive(context.model):
        flow = Flow(context.model, context.operations)
        try:
            recording = _recorded(flow, ones, context)
        except Untracked:
            flow = Flow(context.model, context.operations, rescale=False)
            recording = _recorded(flow, ones, context)
        pairs = zip(context.kernel_values(), recording.pull("flow")[0], strict=True)
        total = float(sum(keras.ops.sum(keras.ops.abs(weight * one)) for weight, one in pairs))
    if total == 0:
        return WORST
    return math.log(total) + flow.scale


def _recorded(flow: Flow, x: Any, context: Context) -> Any:
    def run(watch: Any) -> dict[str, Any]:
        return {"flow": flow(x)}

    return gradients.of_backend().Recording(run, context.kernels)


synflow = Proxy(compute)

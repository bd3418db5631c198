"""`zico`: how little the gradient varies between batches."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_nas_plugin.proxies import gradients
from keras_nas_plugin.proxies.base import WORST, Tensor, Watch
from keras_nas_plugin.proxies.context import Context, Proxy

# Number of parts to split the batch into: the paper's experiments use two batches.
_PARTS = 2


def steadiness(samples: list[list[np.ndarray]]) -> float:
    r"""Mean absolute gradients relative to their standard deviation.

    .. math:: \sum_l \log \sum_{w \in l} \frac{E\lvert g_w\rvert}{\sqrt{\mathrm{Var}(g_w)}}

    Args:
        samples: Gradients of the kernels, once per batch; at least two batches.

    Returns:
        The sum. Weights whose gradient does not vary are ignored, and so are kernels that have no
        other weights. -inf if no kernel is left; NaN for gradients that are not finite.
    """
    if not all(np.isfinite(gradient).all() for parts in samples for gradient in parts):
        return float("nan")
    total, counted = 0.0, False
    for parts in zip(*samples, strict=True):
        stack = np.stack(parts).astype(float)
        spread = stack.std(axis=0)
        varies = spread > 0
        ratio = float(np.sum(np.abs(stack).mean(axis=0)[varies] / spread[varies]))
        if ratio > 0:
            total, counted = total + math.log(ratio), True
    return total if counted else WORST


def compute(context: Context) -> float:
    """`steadiness` of the gradients of the loss on the two halves of the batch.

    Larger is better: large gradients with little variation converge fast. Source: Li et al.
    2023, "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", equation 18.
    The paper uses two batches; here a single batch is halved.
    """
    context.require_samples(2 * _PARTS, "`zico`")
    half = context.batch_size // _PARTS
    return steadiness([_gradients(context, i * half, (i + 1) * half) for i in range(_PARTS)])


def _gradients(context: Context, first: int, end: int) -> list[np.ndarray]:
    x = keras.tree.map_structure(lambda tensor: tensor[first:end], context.x)
    y = context.y
    if y is not None:
        y = keras.tree.map_structure(lambda tensor: tensor[first:end], y)

    def compute_loss(watch: Watch) -> dict[str, Tensor]:
        return {"loss": context.loss(context.run(x)[0], x, y)}

    recording = gradients.of_backend().Recording(compute_loss, context.kernels)
    return [keras.ops.convert_to_numpy(gradient) for gradient in recording.pull("loss")[0]]


zico = Proxy(compute)

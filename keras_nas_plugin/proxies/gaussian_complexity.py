"""`zen`: how much the features change under a small change of the input."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_nas_plugin.proxies.base import WORST, Event, ProxyError, Structure, Tensor
from keras_nas_plugin.proxies.context import Context, Proxy
from keras_nas_plugin.proxies.layers import kernels
from keras_nas_plugin.proxies.state import fill_normal, untouched

# Size of the change of the input, as in the paper's code.
_STEP = 0.01


def compute(context: Context) -> float:
    r"""Zen-score: log of the features' change, corrected for the scaling by batch norm.

    .. math:: \log E \lVert f(x) - f(x + 0.01 \epsilon) \rVert_1 +
       \sum_i \log \sqrt{\textstyle\frac{1}{C_i} \sum_c \sigma_{ic}^2}

    where the kernels, x and epsilon are drawn from the standard normal distribution, sigma_ic^2
    is the variance of channel c at the input of the i-th batch norm, and f is the last feature
    map with positions (if there is none, the input of the last layer with a kernel). The norm is
    averaged over the batch. Larger is better. Source: Lin et al. 2021, "Zen-NAS: A Zero-Shot NAS
    for High-Performance Image Recognition", algorithm 1, with the norm of the paper's code. Only
    the shape of the batch matters, not its values.

    A network without normalisation may overflow: its kernels have variance 1, not 1 / fan-in.

    Raises:
        ProxyError: The network has no features, or only integer inputs.
    """
    rng = context.rng(1)
    start = context.noise(rng)
    moved = keras.tree.map_structure(
        lambda first, second: first + _STEP * second if first is not second else first,
        start,
        context.noise(rng),
    )
    with untouched(context.model):
        for kernel in context.kernels:
            fill_normal(kernel, rng)
        features, scaling = _features(context, start)
        changed, _ = _features(context, moved)
    if not (np.isfinite(features).all() and np.isfinite(changed).all()):
        return float("nan")
    change = float(np.abs(features - changed).reshape(len(features), -1).sum(axis=1).mean())
    if change == 0 or math.isinf(scaling):
        return WORST
    return math.log(change) + scaling


def _features(context: Context, x: Structure) -> tuple[np.ndarray, float]:
    """Features before pooling, and the sum of the logarithms of batch norm's divisors."""
    maps: list[Tensor] = []
    last_inputs: list[Tensor] = []
    scales: list[float] = []

    def look(event: Event) -> None:
        if event.kind != "output" or not event.leaf:
            return
        layer = event.operation
        if isinstance(layer, keras.layers.BatchNormalization):
            axes = [i for i in range(len(event.tensor.shape)) if i != layer.axis % _rank(event)]
            variances = keras.ops.var(event.inputs[0], axis=axes)
            scales.append(float(keras.ops.convert_to_numpy(variances).mean(dtype=float)))
        if isinstance(layer, keras.Layer) and kernels(layer) and event.inputs:
            last_inputs[:] = [event.inputs[0]]
        if _rank(event) > 2:
            maps[:] = [event.tensor]

    context.run(x, look)
    if not maps and not last_inputs:
        raise ProxyError(f"`zen` requires a layer with features; {context.model.name!r} has none")
    features = keras.ops.convert_to_numpy((maps or last_inputs)[0]).astype(float)
    logs = [math.log(scale) / 2 if scale > 0 else -math.inf for scale in scales]
    return features, sum(logs)


def _rank(event: Event) -> int:
    return len(event.tensor.shape)


zen = Proxy(compute)

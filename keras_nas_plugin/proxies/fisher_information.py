"""`fisher`: the effect of removing each channel on the loss."""

from __future__ import annotations

import keras
import numpy as np

from keras_nas_plugin.proxies import layers
from keras_nas_plugin.proxies.base import Event, Tensor
from keras_nas_plugin.proxies.context import Context, Proxy


def observe(event: Event) -> Tensor | None:
    """The output of a layer with a kernel, before its activation function."""
    if event.kind != "linear" or not isinstance(event.operation, keras.Layer):
        return None
    return event.tensor if layers.kernels(event.operation) else None


def compute(context: Context) -> float:
    r"""Sum of the Fisher information of the channels of all layers with a kernel.

    .. math:: \sum_c \frac{1}{2N} \sum_n \Bigl(\sum_{p} a_{npc}\, \partial L/\partial a_{npc}
       \Bigr)^2

    where N is the number of samples, and a the activation of sample n at position p and channel
    c. Larger is better. Source: Turner et al. 2020, "BlockSwap: Fisher-guided Block Substitution
    for Network Compression on a Budget", equation 3; summed over a network by Abdelfattah et al.
    2021. Layers inside recurrent layers and wrappers are not observed.
    """
    gradients = context.observed_gradients("fisher")
    total = 0.0
    for (layer, activation), gradient in zip(context.observed("fisher"), gradients, strict=True):
        rank = len(activation.shape)
        channel = 1 if layers.channels_first(layer) else rank - 1
        positions = [axis for axis in range(1, rank) if axis != channel]
        effect = keras.ops.sum(activation * gradient, axis=positions)  # [batch, channels]
        squares = np.square(keras.ops.convert_to_numpy(effect).astype(float))
        total += float(squares.mean(axis=0).sum()) / 2
    return total


fisher = Proxy(compute, observe, frozenset({"labels", "watch"}))

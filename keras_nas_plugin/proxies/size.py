"""`params`: the number of parameters, which every other proxy has to beat."""

from __future__ import annotations

import math

from keras_nas_plugin.proxies.base import Proxy
from keras_nas_plugin.proxies.context import Context


def compute(context: Context) -> float:
    """Number of trainable parameters. Larger is better, in spaces where nothing overfits."""
    return float(sum(math.prod(one.shape) for one in context.model.trainable_variables))


params = Proxy(compute)

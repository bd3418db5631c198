"""`params`: the number of parameters, the baseline for all other proxies."""

from __future__ import annotations

import math

from keras_nas_plugin.proxies.context import Context, Proxy


def compute(context: Context) -> float:
    """Number of trainable parameters. Larger is better in spaces without overfitting."""
    return float(sum(math.prod(variable.shape) for variable in context.model.trainable_variables))


params = Proxy(compute)

"""`naswot`: in how many different ways the activations of a batch are on and off."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies.base import WORST, Event, Proxy, ProxyError
from keras_nas_plugin.proxies.context import Context

# Activations that let pass what is positive and hold back the rest, exactly or smoothly.
_GATES = frozenset(
    "relu relu6 leaky_relu leakyrelu prelu elu selu celu gelu silu swish mish hard_silu hardsilu "
    "hard_swish squareplus softplus".split()
)


def observe(event: Event) -> Any:
    """Agreement of the samples' codes at one activation, shape ``[batch, batch]``.

    Of two samples it counts the units that are on in both or off in both.
    """
    if event.kind != "activation" or event.name not in _GATES:
        return None
    ops = keras.ops
    on = ops.cast(ops.reshape(event.tensor, (event.tensor.shape[0], -1)) > 0, "float32")
    signs = 2 * on - 1
    # Units that agree, less those that do not; with their sum, which is the number of units.
    return (on.shape[1] + ops.matmul(signs, ops.transpose(signs))) / 2


def log_determinant(kernel: np.ndarray) -> float:
    """Logarithm of the determinant of a symmetric matrix; -inf where it is not positive."""
    sign, value = np.linalg.slogdet(kernel.astype(float))
    return float(value) if sign > 0 else WORST


def compute(context: Context) -> float:
    r"""Log-determinant of the Hamming kernel of the activations' binary codes.

    .. math:: \log \lvert K \rvert, \quad K_{ij} = N_A - d_H(c_i, c_j)

    with the number of units N and the Hamming distance of the codes of two samples, added over
    all activations. Larger is better: samples with different codes lie in different linear
    regions. Source: Mellor et al. 2021, "Neural Architecture Search without Training", equation
    2. ReLU and its relatives count (a unit is on where its input is positive); squashing
    functions have no off side and do not.

    Raises:
        ProxyError: The network has no such activation.
    """
    context.require_samples(2, "`naswot`")
    kernels = [keras.ops.convert_to_numpy(one) for _, one in context.observed("naswot")]
    if not kernels:
        raise ProxyError(
            f"`naswot` needs an activation of the ReLU family; {context.model.name!r} has none "
            "in a layer that can be looked into"
        )
    return log_determinant(np.sum(kernels, axis=0, dtype=float))


naswot = Proxy(compute, observe)

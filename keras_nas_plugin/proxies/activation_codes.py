"""`naswot`: how different the binary activation patterns of the samples of a batch are."""

from __future__ import annotations

import keras
import numpy as np

from keras_nas_plugin.proxies.base import WORST, Event, ProxyError, Tensor
from keras_nas_plugin.proxies.context import Context, Proxy

# Activations that pass positive inputs and suppress negative ones, exactly or smoothly.
_GATES = frozenset(
    "relu relu6 leaky_relu leakyrelu prelu elu selu celu gelu silu swish mish hard_silu hardsilu "
    "hard_swish squareplus softplus".split()
)


def observe(event: Event) -> Tensor | None:
    """Agreement of the samples' codes at one activation, shape ``[batch, batch]``.

    For each pair of samples, it is the number of units that are on for both or off for both.
    """
    if event.kind != "activation" or event.name not in _GATES:
        return None
    ops = keras.ops
    on = ops.cast(ops.reshape(event.tensor, (event.tensor.shape[0], -1)) > 0, "float32")
    signs = 2 * on - 1
    # The product is the number of units that agree minus the number of those that differ.
    return (on.shape[1] + ops.matmul(signs, ops.transpose(signs))) / 2


def log_determinant(kernel: np.ndarray) -> float:
    """Logarithm of the determinant of a symmetric matrix; -inf if it is not positive."""
    sign, value = np.linalg.slogdet(kernel.astype(float))
    return float(value) if sign > 0 else WORST


def compute(context: Context) -> float:
    r"""Log-determinant of the Hamming kernel of the activations' binary codes.

    .. math:: \log \lvert K \rvert, \quad K_{ij} = N_A - d_H(c_i, c_j)

    where N_A is the number of units and d_H the Hamming distance between the codes of two
    samples; the kernels of all activations are added. Larger is better: samples with different
    codes are in different linear regions of the network. Source: Mellor et al. 2021, "Neural
    Architecture Search without Training", equation 2.

    Only ReLU and similar functions count, where a unit is on if its input is positive. Sigmoid
    and tanh are ignored: they have no off state.

    Raises:
        ProxyError: The network has no activation of the ReLU family.
    """
    context.require_samples(2, "`naswot`")
    observed = [agreement for _, agreement in context.observed("naswot")]
    kernels = [keras.ops.convert_to_numpy(agreement) for agreement in observed]
    if not kernels:
        raise ProxyError(
            "`naswot` requires an activation of the ReLU family; "
            f"{context.model.name!r} has none in a layer that can be inspected"
        )
    return log_determinant(np.sum(kernels, axis=0, dtype=float))


naswot = Proxy(compute, observe)

"""Architectures as differentiable parameters: from alphas to the mask of a supernet."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_nas_plugin.supernet.layout import MaskLayout

# Standard deviation of the first alphas.
_INITIAL = 1e-3
# Temperature of the Gumbel softmax in the first and in the last epoch.
_HOTTEST, _COLDEST = 10.0, 0.1
# Weight of the distance of the Dirichlet distribution from the uniform one.
_ANCHOR = 1e-3


class Relaxation(abc.ABC):
    """How alphas, one number for each option, become a mask.

    Args:
        layout: Layout of the mask, which is that of the alphas.

    Attributes:
        second_order: Whether alphas are updated by the gradient of second order.
        decay: Weight decay of the alphas.
    """

    second_order = False
    decay = 1e-3

    def __init__(self, layout: MaskLayout) -> None:
        self.layout = layout

    def initial(self, rng: np.random.Generator) -> np.ndarray:
        """Alphas to start from, shape ``[layout.size]``, float32: all options almost equal."""
        return (_INITIAL * rng.normal(size=self.layout.size)).astype("float32")

    def temperature(self, epoch: int, epochs: int) -> float:
        """Temperature of an epoch, for methods that have one."""
        return 1.0

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """What `sample` is random by; always of the same shape."""
        return np.zeros(0, "float32")

    @abc.abstractmethod
    def weights(self, alphas: Any) -> Any:
        """Weights of the options, which sum to 1 in each decision; their mean if they are random.

        Args:
            alphas: A tensor of shape ``[layout.size]``.

        Returns:
            Shape ``[layout.size]``.
        """

    @abc.abstractmethod
    def sample(self, alphas: Any, noise: Any, temperature: Any) -> Any:
        """The mask of a step, differentiable with respect to the alphas.

        Args:
            alphas: A tensor of shape ``[layout.size]``.
            noise: A result of `noise`, as a tensor.
            temperature: Temperature of the epoch, a scalar.

        Returns:
            Shape ``[layout.size]``.
        """

    def penalty(self, alphas: Any) -> Any:
        """What is added to the validation loss, a scalar."""
        return 0.0

    def by_decision(self, function: Callable[..., Any], *tensors: Any) -> Any:
        """Apply a function to the part of each decision, and join the results."""
        parts = [
            function(*(tensor[self.layout.slice(name)] for tensor in tensors))
            for name in self.layout.options
        ]
        return ops.concatenate(parts)


class FirstOrder(Relaxation):
    """DARTS of first order: the mask is the softmax of the alphas of each decision.

    Source: Liu et al. 2019, "DARTS: Differentiable Architecture Search", equation 2; with the
    step size of equation 6 set to 0.
    """

    def weights(self, alphas: Any) -> Any:
        """See `Relaxation.weights`."""
        return self.by_decision(ops.softmax, alphas)

    def sample(self, alphas: Any, noise: Any, temperature: Any) -> Any:
        """See `Relaxation.sample`; nothing is random."""
        return self.weights(alphas)


class SecondOrder(FirstOrder):
    """DARTS of second order: alphas anticipate a training step of the weights.

    Source: Liu et al. 2019, equations 6 to 8.
    """

    second_order = True


class GumbelSoftmax(FirstOrder):
    """GDAS: one option of each decision is drawn and computed; gradients are those of a softmax.

    The mask is one-hot: ``argmax`` of the log probabilities plus Gumbel noise. Its gradient is
    that of the softmax of the same sum, divided by a temperature that falls linearly from 10 to
    0.1 over the epochs. Only the option that was drawn has an output, so that a step takes the
    time and memory of a single network.

    Source: Dong & Yang 2019, "Searching for A Robust Neural Architecture in Four GPU Hours",
    equations 3 to 5.
    """

    def temperature(self, epoch: int, epochs: int) -> float:
        """See `Relaxation.temperature`."""
        return _HOTTEST + (_COLDEST - _HOTTEST) * epoch / max(epochs - 1, 1)

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """See `Relaxation.noise`."""
        return rng.gumbel(size=self.layout.size).astype("float32")

    def sample(self, alphas: Any, noise: Any, temperature: Any) -> Any:
        """See `Relaxation.sample`."""

        def drawn(part: Any, gumbel: Any) -> Any:
            perturbed = ops.log_softmax(part) + gumbel
            soft = ops.softmax(perturbed / temperature)
            hard = ops.one_hot(ops.argmax(perturbed), part.shape[0], dtype=soft.dtype)
            # In this order, the sum is exactly 0 or 1: other options are not computed.
            return hard + (soft - ops.stop_gradient(soft))

        return self.by_decision(drawn, alphas, noise)


class Dirichlet(Relaxation):
    """DrNAS: the mask of each decision is drawn from a Dirichlet distribution.

    Its concentrations are ``elu(alpha) + 1``. Gradients pass through the draws (Figurnov et al.
    2018, "Implicit Reparameterization Gradients"). The squared distance of the concentrations
    from 1, the uniform distribution, is added to the loss. The progressive scheme of the paper
    with partial channels is left out, because it changes the operations.

    Source: Chen et al. 2021, "DrNAS: Dirichlet Neural Architecture Search", section 3.1.
    """

    decay = 0.0

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """See `Relaxation.noise`: a seed."""
        return rng.integers(np.iinfo("int32").max, size=2, dtype="int32")

    def weights(self, alphas: Any) -> Any:
        """See `Relaxation.weights`: the mean of the distribution."""
        return self.by_decision(lambda part: part / ops.sum(part), _concentrations(alphas))

    def sample(self, alphas: Any, noise: Any, temperature: Any) -> Any:
        """See `Relaxation.sample`."""
        import tensorflow as tf

        concentrations = _concentrations(alphas)
        draws = tf.random.stateless_gamma((self.layout.size,), seed=noise, alpha=concentrations)
        # A decision all of whose draws vanish would have no weights.
        return self.by_decision(lambda part: part / ops.sum(part), draws + 1e-20)

    def penalty(self, alphas: Any) -> Any:
        """See `Relaxation.penalty`."""
        return _ANCHOR * ops.sum(ops.square(_concentrations(alphas) - 1.0))


def _concentrations(alphas: Any) -> Any:
    return ops.elu(alphas) + 1.0


#: Relaxations by the names that `DifferentiableOracle` takes.
METHODS: dict[str, type[Relaxation]] = {
    "darts": FirstOrder,
    "darts-second-order": SecondOrder,
    "gdas": GumbelSoftmax,
    "drnas": Dirichlet,
}

"""A small network that predicts scores from relaxed configurations, with its gradients.

Numpy is sufficient: fitting a few hundred rows takes a fraction of a second.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Adam (Kingma & Ba 2015, algorithm 1), full batches; weight decay as in AdamW.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_RATE, _DECAY, _STEPS = 0.01, 0.01, 200
_HIDDEN = 64


@dataclasses.dataclass(frozen=True)
class Network:
    """One hidden layer of tanh units: ``tanh(x W1 + b1) W2 + b2``.

    Attributes:
        weights1: Shape ``[width, hidden]``.
        bias1: Shape ``[hidden]``.
        weights2: Shape ``[hidden, outputs]``.
        bias2: Shape ``[outputs]``.
    """

    weights1: np.ndarray
    bias1: np.ndarray
    weights2: np.ndarray
    bias2: np.ndarray

    def parts(self) -> list[np.ndarray]:
        """The four arrays."""
        return [self.weights1, self.bias1, self.weights2, self.bias2]


def initial_network(width: int, outputs: int, rng: np.random.Generator) -> Network:
    """Weights drawn with variance 1 / fan-in (LeCun et al. 1998), no biases."""
    return Network(
        rng.normal(size=(width, _HIDDEN)) / np.sqrt(width),
        np.zeros(_HIDDEN),
        rng.normal(size=(_HIDDEN, outputs)) / np.sqrt(_HIDDEN),
        np.zeros(outputs),
    )


def predict(network: Network, features: np.ndarray) -> np.ndarray:
    """Outputs of shape ``[n, outputs]`` for features of shape ``[n, width]``."""
    hidden = np.tanh(features @ network.weights1 + network.bias1)
    return hidden @ network.weights2 + network.bias2


def loss_and_gradient(
    network: Network, features: np.ndarray, targets: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Mean squared error of each output over its available targets, summed over outputs.

    Args:
        network: The network.
        features: Shape ``[n, width]``.
        targets: Shape ``[n, outputs]``; NaN where there is no target.

    Returns:
        The loss, and its gradients with respect to `Network.parts`.
    """
    hidden = np.tanh(features @ network.weights1 + network.bias1)
    outputs = hidden @ network.weights2 + network.bias2
    has_target = ~np.isnan(targets)
    counts = np.maximum(has_target.sum(axis=0), 1)
    errors = np.where(has_target, outputs - np.where(has_target, targets, 0.0), 0.0)
    loss = float(((errors**2).sum(axis=0) / counts).sum())
    by_output = 2.0 * errors / counts
    by_hidden = (by_output @ network.weights2.T) * (1.0 - hidden**2)
    return loss, [
        features.T @ by_hidden,
        by_hidden.sum(axis=0),
        hidden.T @ by_output,
        by_output.sum(axis=0),
    ]


def input_gradient(network: Network, features: np.ndarray) -> np.ndarray:
    """How the first output changes with each feature, shape ``[n, width]``."""
    hidden = np.tanh(features @ network.weights1 + network.bias1)
    return ((1.0 - hidden**2) * network.weights2[:, 0]) @ network.weights1.T


def fit(features: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Network:
    """A network trained from scratch by Adam, with weight decay.

    Args:
        features: Shape ``[n, width]``, in [0, 1].
        targets: Shape ``[n, outputs]``, each of about unit variance; NaN where there is no
            target.
        rng: Draws the initial weights.
    """
    network = initial_network(features.shape[1], targets.shape[1], rng)
    first = [np.zeros_like(part) for part in network.parts()]
    second = [np.zeros_like(part) for part in network.parts()]
    for step in range(1, _STEPS + 1):
        _, gradients = loss_and_gradient(network, features, targets)
        parts = []
        for at, (part, gradient) in enumerate(zip(network.parts(), gradients, strict=True)):
            first[at] = _BETA1 * first[at] + (1.0 - _BETA1) * gradient
            second[at] = _BETA2 * second[at] + (1.0 - _BETA2) * gradient**2
            mean = first[at] / (1.0 - _BETA1**step)
            size = np.sqrt(second[at] / (1.0 - _BETA2**step)) + _EPSILON
            parts.append(part - _RATE * (mean / size + _DECAY * part))
        network = Network(*parts)
    return network

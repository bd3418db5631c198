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
    masked = _Targets.of(targets)
    gradients = [np.empty_like(part) for part in network.parts()]
    errors = _backpropagate(network, features, masked, gradients)
    return float(((errors**2).sum(axis=0) / masked.counts).sum()), gradients


@dataclasses.dataclass(frozen=True)
class _Targets:
    """Targets, of which some are not available.

    Attributes:
        values: Shape ``[n, outputs]``; 0 where there is no target.
        available: Shape ``[n, outputs]``.
        counts: Number of targets of each output, at least 1.
    """

    values: np.ndarray
    available: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray) -> _Targets:
        """From an array with NaN where there is no target."""
        available = ~np.isnan(targets)
        counts = np.maximum(available.sum(axis=0), 1)
        return cls(np.where(available, targets, 0.0), available, counts)


def _backpropagate(
    network: Network, features: np.ndarray, targets: _Targets, gradients: list[np.ndarray]
) -> np.ndarray:
    """Write the gradients of the loss into arrays; returns the errors of the outputs."""
    hidden = np.tanh(features @ network.weights1 + network.bias1)
    outputs = hidden @ network.weights2 + network.bias2
    errors = np.where(targets.available, outputs - targets.values, 0.0)
    by_output = 2.0 * errors / targets.counts
    by_hidden = (by_output @ network.weights2.T) * (1.0 - hidden**2)
    np.matmul(features.T, by_hidden, out=gradients[0])
    np.sum(by_hidden, axis=0, out=gradients[1])
    np.matmul(hidden.T, by_output, out=gradients[2])
    np.sum(by_output, axis=0, out=gradients[3])
    return errors


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
    initial = initial_network(features.shape[1], targets.shape[1], rng).parts()
    # The weights are views of one flat array, so that Adam updates all of them at once.
    values = np.concatenate([part.ravel() for part in initial])
    gradient = np.empty_like(values)
    network, gradients = Network(*_views(values, initial)), _views(gradient, initial)
    masked = _Targets.of(targets)
    first, second = np.zeros_like(values), np.zeros_like(values)
    for step in range(1, _STEPS + 1):
        _backpropagate(network, features, masked, gradients)
        first = _BETA1 * first + (1.0 - _BETA1) * gradient
        second = _BETA2 * second + (1.0 - _BETA2) * gradient**2
        mean = first / (1.0 - _BETA1**step)
        size = np.sqrt(second / (1.0 - _BETA2**step)) + _EPSILON
        values -= _RATE * (mean / size + _DECAY * values)
    return network


def _views(values: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray]:
    """Consecutive pieces of an array, with the shapes of ``parts``."""
    pieces = np.split(values, np.cumsum([part.size for part in parts])[:-1])
    return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]

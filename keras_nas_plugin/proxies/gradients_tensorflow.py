"""Gradients on TensorFlow; see `gradients`.

Everything runs eagerly: a new model is differentiated only a few times, and tracing a
`tf.function` takes longer than that (measured in `docs/proxies.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_nas_plugin.proxies.base import Tensor, Watch

if TYPE_CHECKING:
    import keras

_ZERO = tf.UnconnectedGradients.ZERO


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Watch], dict[str, Any]], variables: Sequence[keras.Variable] = ()
    ) -> None:
        self._values = [variable.value for variable in variables]
        self._watched: dict[Hashable, Tensor] = {}
        # Batch norm's scales and biases are not watched, so nothing is recorded for them.
        self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with self._tape:
            self._tape.watch(self._values)
            self.outputs = compute(self._watch)

    def _watch(self, key: Hashable, tensor: Tensor) -> Tensor:
        self._tape.watch(tensor)
        self._watched[key] = tensor
        return tensor

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Hashable] = ()
    ) -> tuple[list[Tensor], dict[Hashable, Tensor]]:
        """See `gradients`."""
        sources = (
            self._values if variables else [],
            {key: self._watched[key] for key in watched},
        )
        gradients = self._tape.gradient(self.outputs[target], sources, unconnected_gradients=_ZERO)
        return tf.nest.map_structure(_dense, gradients)


def hessian_product(
    compute: Callable[[], Tensor], variables: Sequence[keras.Variable]
) -> tuple[list[Tensor], list[Tensor]]:
    """See `gradients`."""
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(values)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(values)
            loss = compute()
        gradient = inner.gradient(loss, values, unconnected_gradients=_ZERO)
        gradient = [_dense(part) for part in gradient]
        product = tf.add_n([tf.reduce_sum(part * tf.stop_gradient(part)) for part in gradient])
    second = outer.gradient(product, values, unconnected_gradients=_ZERO)
    return gradient, [_dense(part) for part in second]


def _dense(gradient: Tensor) -> Tensor:
    """Convert the sparse gradients of embeddings to tensors."""
    return tf.convert_to_tensor(gradient)

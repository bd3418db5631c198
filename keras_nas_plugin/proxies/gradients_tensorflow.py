"""Gradients on TensorFlow; see `gradients`.

Eager: a fresh model is differentiated a few times, and tracing a `tf.function` takes longer than
that (measured in `docs/proxies.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

_ZERO = tf.UnconnectedGradients.ZERO


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Callable], dict[str, Any]], variables: Sequence[Any] = ()
    ) -> None:
        self._values = [variable.value for variable in variables]
        self._watched: dict[Any, Any] = {}
        # Batch norm's scales and biases are not watched, so nothing is kept for them.
        self._tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with self._tape:
            self._tape.watch(self._values)
            self.outputs = compute(self._watch)

    def _watch(self, key: Any, tensor: Any) -> Any:
        self._tape.watch(tensor)
        self._watched[key] = tensor
        return tensor

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Any] = ()
    ) -> tuple[list[Any], dict[Any, Any]]:
        """See `gradients`."""
        sources = (
            self._values if variables else [],
            {key: self._watched[key] for key in watched},
        )
        found = self._tape.gradient(self.outputs[target], sources, unconnected_gradients=_ZERO)
        return tf.nest.map_structure(_dense, found)


def hessian_product(
    compute: Callable[[], Any], variables: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """See `gradients`."""
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(values)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(values)
            loss = compute()
        gradient = inner.gradient(loss, values, unconnected_gradients=_ZERO)
        gradient = [_dense(one) for one in gradient]
        product = tf.add_n([tf.reduce_sum(one * tf.stop_gradient(one)) for one in gradient])
    second = outer.gradient(product, values, unconnected_gradients=_ZERO)
    return gradient, [_dense(one) for one in second]


def _dense(gradient: Any) -> Any:
    """Embeddings have sparse gradients."""
    return tf.convert_to_tensor(gradient)

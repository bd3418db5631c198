"""Gradients on JAX; see `gradients`.

JAX differentiates functions with respect to their arguments. `keras.StatelessScope` turns
variables into arguments, and discards the updates of batch norm. To each watched tensor an
argument of zeros is added, whose gradient is that of the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras

from keras_nas_plugin.proxies.base import Tensor, Watch


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Watch], dict[str, Any]], variables: Sequence[keras.Variable] = ()
    ) -> None:
        zeros: dict[Hashable, Tensor] = {}

        def look(key: Hashable, tensor: Tensor) -> Tensor:
            zeros[key] = jnp.zeros_like(tensor)
            return tensor

        with keras.StatelessScope():
            compute(look)  # finds the watched tensors and their shapes

        def run(values: list[Tensor], added: dict[Hashable, Tensor]) -> dict[str, Any]:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return compute(lambda key, tensor: tensor + added[key])

        values = [variable.value for variable in variables]
        self._keys = list(zeros)
        # A list, because JAX sorts the keys of dictionaries, and these may not be comparable.
        self.outputs, self._pullback = jax.vjp(
            lambda values, added: run(values, dict(zip(self._keys, added, strict=True))),
            values,
            list(zeros.values()),
        )

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Hashable] = ()
    ) -> tuple[list[Tensor], dict[Hashable, Tensor]]:
        """See `gradients`."""
        seeds = jax.tree_util.tree_map(jnp.zeros_like, self.outputs)
        seeds[target] = jax.tree_util.tree_map(jnp.ones_like, self.outputs[target])
        by_variable, by_tensor = self._pullback(seeds)
        by_key = dict(zip(self._keys, by_tensor, strict=True))
        return by_variable if variables else [], {key: by_key[key] for key in watched}


def hessian_product(
    compute: Callable[[], Tensor], variables: Sequence[keras.Variable]
) -> tuple[list[Tensor], list[Tensor]]:
    """See `gradients`."""

    def loss(values: list[Tensor]) -> Tensor:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return compute()

    values = [variable.value for variable in variables]
    gradient = jax.grad(loss)(values)
    return jax.jvp(jax.grad(loss), (values,), (gradient,))

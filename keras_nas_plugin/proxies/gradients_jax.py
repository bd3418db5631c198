"""Gradients on JAX; see `gradients`.

JAX differentiates functions: variables become arguments by `keras.StatelessScope`, which also
takes what batch norm would write, and watched tensors get zeros added that are arguments too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Callable], dict[str, Any]], variables: Sequence[Any] = ()
    ) -> None:
        zeros: dict[Any, Any] = {}

        def look(key: Any, tensor: Any) -> Any:
            zeros[key] = jnp.zeros_like(tensor)
            return tensor

        with keras.StatelessScope():
            compute(look)  # what is watched, and its shape

        def run(values: list[Any], added: dict[Any, Any]) -> dict[str, Any]:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return compute(lambda key, tensor: tensor + added[key])

        values = [variable.value for variable in variables]
        self._keys = list(zeros)
        # Keys need not be sortable for JAX: a list takes the place of the dictionary.
        self.outputs, self._pullback = jax.vjp(
            lambda values, added: run(values, dict(zip(self._keys, added, strict=True))),
            values,
            list(zeros.values()),
        )

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Any] = ()
    ) -> tuple[list[Any], dict[Any, Any]]:
        """See `gradients`."""
        seeds = jax.tree_util.tree_map(jnp.zeros_like, self.outputs)
        seeds[target] = jax.tree_util.tree_map(jnp.ones_like, self.outputs[target])
        by_variable, by_tensor = self._pullback(seeds)
        found = dict(zip(self._keys, by_tensor, strict=True))
        return by_variable if variables else [], {key: found[key] for key in watched}


def hessian_product(
    compute: Callable[[], Any], variables: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """See `gradients`."""

    def loss(values: list[Any]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return compute()

    values = [variable.value for variable in variables]
    gradient = jax.grad(loss)(values)
    return jax.jvp(jax.grad(loss), (values,), (gradient,))

"""Gradients on PyTorch; see `gradients`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from keras_nas_plugin.proxies.base import Structure, Tensor, Watch

if TYPE_CHECKING:
    import keras


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Watch], dict[str, Any]], variables: Sequence[keras.Variable] = ()
    ) -> None:
        self._values = [variable.value for variable in variables]
        self._watched: dict[Hashable, Tensor] = {}
        with torch.enable_grad():
            self.outputs = compute(self._watch)

    def _watch(self, key: Hashable, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_(True)
        self._watched[key] = tensor
        return tensor

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Hashable] = ()
    ) -> tuple[list[Tensor], dict[Hashable, Tensor]]:
        """See `gradients`."""
        keys = list(watched)
        values = self._values if variables else []
        gradients = _gradient(
            self.outputs[target], [*values, *(self._watched[key] for key in keys)], retain=True
        )
        count = len(values)
        return gradients[:count], dict(zip(keys, gradients[count:], strict=True))


def hessian_product(
    compute: Callable[[], Tensor], variables: Sequence[keras.Variable]
) -> tuple[list[Tensor], list[Tensor]]:
    """See `gradients`."""
    values = [variable.value for variable in variables]
    with torch.enable_grad():
        gradient = _gradient(compute(), values, create=True)
        product = sum((part * part.detach()).sum() for part in gradient)
    return [part.detach() for part in gradient], _gradient(product, values)


def _gradient(
    target: Structure, sources: list[Tensor], *, retain: bool = False, create: bool = False
) -> list[Tensor]:
    """Gradients of the sum of all targets; zeros for sources that it does not depend on."""
    targets = target if isinstance(target, list | tuple) else [target]
    total = sum(tensor.sum() for tensor in targets)
    if not total.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    gradients = torch.autograd.grad(
        total, sources, retain_graph=retain or create, create_graph=create, allow_unused=True
    )
    return [
        torch.zeros_like(source) if gradient is None else gradient
        for gradient, source in zip(gradients, sources, strict=True)
    ]

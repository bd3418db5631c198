"""Gradients on PyTorch; see `gradients`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch


class Recording:
    """See `gradients`."""

    def __init__(
        self, compute: Callable[[Callable], dict[str, Any]], variables: Sequence[Any] = ()
    ) -> None:
        self._values = [variable.value for variable in variables]
        self._watched: dict[Any, Any] = {}
        with torch.enable_grad():
            self.outputs = compute(self._watch)

    def _watch(self, key: Any, tensor: Any) -> Any:
        if not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_(True)
        self._watched[key] = tensor
        return tensor

    def pull(
        self, target: str, *, variables: bool = True, watched: Iterable[Any] = ()
    ) -> tuple[list[Any], dict[Any, Any]]:
        """See `gradients`."""
        keys = list(watched)
        values = self._values if variables else []
        found = _gradient(
            self.outputs[target], [*values, *(self._watched[key] for key in keys)], retain=True
        )
        count = len(values)
        return found[:count], dict(zip(keys, found[count:], strict=True))


def hessian_product(
    compute: Callable[[], Any], variables: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """See `gradients`."""
    values = [variable.value for variable in variables]
    with torch.enable_grad():
        gradient = _gradient(compute(), values, create=True)
        product = sum((one * one.detach()).sum() for one in gradient)
    return [one.detach() for one in gradient], _gradient(product, values)


def _gradient(
    target: Any, sources: list[Any], *, retain: bool = False, create: bool = False
) -> list[Any]:
    """Of the sum of all targets; zeros where it does not depend on a source."""
    targets = target if isinstance(target, list | tuple) else [target]
    total = sum(one.sum() for one in targets)
    if not total.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    found = torch.autograd.grad(
        total, sources, retain_graph=retain or create, create_graph=create, allow_unused=True
    )
    return [
        torch.zeros_like(source) if one is None else one
        for one, source in zip(found, sources, strict=True)
    ]

"""Starts nodes of Ray clusters on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Node = TypeVar("_Node")


def patiently(start: Callable[..., _Node], attempts: int = 3, **options: Any) -> _Node:
    """Start a node; Ray gives up after 30 seconds, which a busy machine may need.

    Args:
        start: Starts a node, or a cluster with one.
        attempts: How often to try.
        **options: Its keyword arguments.
    """
    try:
        return start(**options)
    except Exception:
        if attempts == 1:
            raise
        return patiently(start, attempts - 1, **options)

"""Figures for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

if TYPE_CHECKING:
    from keras_nas_plugin.reports.diagram import draw_architecture as draw_architecture

__all__ = ["draw_architecture"]


def __getattr__(name: str) -> Any:
    if name != "draw_architecture":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(f"{__name__}.diagram", name)

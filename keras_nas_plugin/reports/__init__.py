"""Figures for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

if TYPE_CHECKING:
    from keras_nas_plugin.reports.data import report_data as report_data
    from keras_nas_plugin.reports.diagram import draw_architecture as draw_architecture
    from keras_nas_plugin.reports.page import write_report as write_report

_MODULES = {"draw_architecture": "diagram", "report_data": "data", "write_report": "page"}

__all__ = ["draw_architecture", "report_data", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(f"{__name__}.{_MODULES[name]}", name)

"""Drawings of architectures, the report of a search, and comparisons of searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

if TYPE_CHECKING:
    from keras_nas_plugin.reports.comparison import comparison_data as comparison_data
    from keras_nas_plugin.reports.data import report_data as report_data
    from keras_nas_plugin.reports.diagram import draw_architecture as draw_architecture
    from keras_nas_plugin.reports.page import write_comparison as write_comparison
    from keras_nas_plugin.reports.page import write_report as write_report

_MODULES = {
    "comparison_data": "comparison",
    "draw_architecture": "diagram",
    "report_data": "data",
    "write_comparison": "page",
    "write_report": "page",
}

__all__ = [
    "comparison_data",
    "draw_architecture",
    "report_data",
    "write_comparison",
    "write_report",
]

__getattr__, __dir__ = attach(__name__, _MODULES)

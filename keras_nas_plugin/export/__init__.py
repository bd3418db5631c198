"""Converting models to other formats, and comparing what their runtimes predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

if TYPE_CHECKING:
    from keras_nas_plugin.errors import ExportError
    from keras_nas_plugin.export.base import Exporter, Runtime, Tolerance
    from keras_nas_plugin.export.exporting import ExportResult, export_model
    from keras_nas_plugin.export.latency_table import LatencyTable, write_operations
    from keras_nas_plugin.export.table import exporter_of

_LAZY = {
    "ExportError": "keras_nas_plugin.errors",
    "ExportResult": "keras_nas_plugin.export.exporting",
    "Exporter": "keras_nas_plugin.export.base",
    "LatencyTable": "keras_nas_plugin.export.latency_table",
    "Runtime": "keras_nas_plugin.export.base",
    "Tolerance": "keras_nas_plugin.export.base",
    "export_model": "keras_nas_plugin.export.exporting",
    "exporter_of": "keras_nas_plugin.export.table",
    "write_operations": "keras_nas_plugin.export.latency_table",
}

__all__ = [*_LAZY]

__getattr__, __dir__ = attach(__name__, _LAZY)

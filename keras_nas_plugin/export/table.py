"""Exporters by the name of their format."""

from __future__ import annotations

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.export.base import Exporter
from keras_nas_plugin.export.litert import LiteRTExporter
from keras_nas_plugin.export.onnx import ONNXExporter
from keras_nas_plugin.export.openvino import OpenVINOExporter
from keras_nas_plugin.export.savedmodel import SavedModelExporter

EXPORTERS: dict[str, type[Exporter]] = {
    exporter.name: exporter
    for exporter in (SavedModelExporter, LiteRTExporter, ONNXExporter, OpenVINOExporter)
}


def exporter_of(format_name: str, quantize: str | None = None) -> Exporter:
    """The exporter of a format.

    Args:
        format_name: ``"savedmodel"``, ``"litert"``, ``"onnx"`` or ``"openvino"``.
        quantize: The quantization that it is for, or None.

    Raises:
        ExportError: There is no such format, it does not have the quantization, or a library
            that it needs is not installed.
    """
    if format_name not in EXPORTERS:
        raise ExportError(f"`format` must be one of {', '.join(EXPORTERS)}; got {format_name!r}")
    exporter = EXPORTERS[format_name]()
    exporter.check(quantize)
    return exporter

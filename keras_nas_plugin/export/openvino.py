"""OpenVINO, for processors and accelerators of Intel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import ExportError, brief
from keras_nas_plugin.export.base import Exporter, Outputs, Tolerance
from keras_nas_plugin.export.inference import InferenceGraph
from keras_nas_plugin.export.obstacles import check_layers, obstacle

_MODEL = "model.xml"


class OpenVINOExporter(Exporter):
    """Writes ``model.xml`` and ``model.bin``; any number of rows.

    Without quantization, weights are stored in float32, unlike in OpenVINO's own default.
    """

    name = "openvino"
    file = "openvino"
    runtime = "openvino"
    modules = ("openvino",)
    extra = "export-openvino"
    tolerances = {None: Tolerance(largest=1e-3), "float16": Tolerance(largest=2e-2)}

    def convert(
        self,
        graph: InferenceGraph,
        path: Path,
        quantize: str | None,
        calibration: Sequence[Mapping[str, np.ndarray]],
    ) -> None:
        """See `Exporter.convert`."""
        check_layers(graph, self.name)
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            try:
                graph.write_saved_model(folder)
                # Unlike `openvino.convert_model`, this sends no usage data.
                model = openvino.Core().read_model(folder)
            except Exception as error:  # OpenVINO raises its own
                raise obstacle(graph, self.name, (), brief(error)) from error
        os.makedirs(path)
        openvino.save_model(model, path / _MODEL, compress_to_fp16=quantize == "float16")

    def load(self, path: Path, *, threads: int | None = None) -> OpenVINORuntime:
        """See `Exporter.load`."""
        import openvino

        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = openvino.Core().compile_model(path / _MODEL, "CPU", settings)
        except RuntimeError as error:
            raise ExportError(f"OpenVINO refuses the exported model: {brief(error)}") from error
        return OpenVINORuntime(compiled)


class OpenVINORuntime:
    """A model that OpenVINO has compiled for the CPU.

    Args:
        compiled: An `openvino.CompiledModel`.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._inputs = [sorted(port.names) for port in compiled.inputs]
        self._outputs = [min(port.names, key=len) for port in compiled.outputs]

    def predict(self, rows: Mapping[str, np.ndarray]) -> Outputs:
        """See `Runtime.predict`."""
        arrays = [next(rows[name] for name in names if name in rows) for names in self._inputs]
        results = self._compiled(arrays)
        return {
            name: np.array(results[port])
            for name, port in zip(self._outputs, self._compiled.outputs, strict=True)
        }

"""ONNX, run by onnxruntime."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import ExportError, brief
from keras_nas_plugin.export.base import Exporter, Outputs, Tolerance
from keras_nas_plugin.export.inference import InferenceGraph
from keras_nas_plugin.export.obstacles import check_layers, obstacle

_OPSET = 17
# Domains whose operations onnxruntime has.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


class ONNXExporter(Exporter):
    """Converts with tf2onnx; any number of rows.

    ``"int8"`` quantizes weights and activations with the ranges of the calibration rows,
    ``"dynamic"`` weights only, and ``"float16"`` stores and computes in half precision.
    """

    name = "onnx"
    file = "model.onnx"
    runtime = "onnxruntime"
    modules = ("tf2onnx", "onnx", "onnxruntime")
    extra = "export-onnx"
    tolerances = {
        None: Tolerance(largest=1e-3),
        "float16": Tolerance(largest=2e-2),
        "dynamic": Tolerance(mean=0.05, metric_drop=0.02),
        "int8": Tolerance(mean=0.05, metric_drop=0.02),
    }

    def convert(
        self,
        graph: InferenceGraph,
        path: Path,
        quantize: str | None,
        calibration: Sequence[Mapping[str, np.ndarray]],
    ) -> None:
        """See `Exporter.convert`."""
        check_layers(graph, self.name)
        try:
            model = _converted(graph)
        except Exception as error:  # tf2onnx raises its own
            raise obstacle(graph, self.name, (), brief(error)) from error
        missing = _missing_operations(model)
        if missing:
            raise obstacle(graph, self.name, missing, "")
        path.write_bytes(model.SerializeToString())
        if quantize is not None:
            try:
                _quantize(path, quantize, calibration)
            except Exception as error:  # onnxruntime raises its own
                raise ExportError(
                    f"`quantize` must be one that onnxruntime can apply to this model; got "
                    f"{quantize!r}, which raised {brief(error)}"
                ) from error

    def load(self, path: Path, *, threads: int | None = None) -> ONNXRuntime:
        """See `Exporter.load`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's classes derive from nothing but Exception
            raise ExportError(f"onnxruntime refuses the exported model: {brief(error)}") from error
        return ONNXRuntime(session)


class ONNXRuntime:
    """A session of onnxruntime.

    Args:
        session: An `onnxruntime.InferenceSession`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def predict(self, rows: Mapping[str, np.ndarray]) -> Outputs:
        """See `Runtime.predict`."""
        predicted = self._session.run(None, dict(rows))
        return dict(zip(self._outputs, predicted, strict=True))


def _converted(graph: InferenceGraph) -> Any:
    import tf2onnx

    function = graph.function()
    with _quiet():
        model, _ = tf2onnx.convert.from_function(
            function, graph.signature(), opset=_OPSET, custom_op_handlers=_handlers()
        )
    _embed_constants(model, function.get_concrete_function())
    return model


def _embed_constants(model: Any, function: Any) -> None:
    """Store the tensors that a model refers to, such as the mean of `Normalization`, with it.

    tf2onnx (1.17) makes inputs of those that TensorFlow does not store in the graph.

    Args:
        model: The ONNX model, which is changed.
        function: The concrete function that it was converted from.
    """
    import onnx

    constants = {placeholder.name: value for value, placeholder in function.graph.captures}
    for declared in list(model.graph.input):
        if declared.name in constants:
            value = np.asarray(constants[declared.name])
            tensor = onnx.numpy_helper.from_array(value, declared.name)
            model.graph.initializer.append(tensor)
            model.graph.input.remove(declared)


def _handlers() -> dict[str, Any]:
    """Operations that tf2onnx (1.17) lacks although ONNX can express them.

    Exact GELU calls ``Erfc``; ``erfc(x) = 1 - erf(x)``. The absolute error is that of float32
    arithmetic, since GELU multiplies it by its argument.
    """

    def erfc(context: Any, node: Any, name: str, args: Any) -> Any:
        node_type = context.get_dtype(node.output[0])
        dtype = np.float64 if node_type == 11 else np.float32
        shapes, dtypes = node.output_shapes, node.output_dtypes
        source, output = node.input[0], node.output[0]
        context.remove_node(node.name)
        error_function = context.make_node("Erf", [source])
        one = context.make_const(f"{name}_one", np.array(1.0, dtype))
        return context.make_node(
            "Sub",
            [one.output[0], error_function.output[0]],
            name=name,
            outputs=[output],
            shapes=shapes,
            dtypes=dtypes,
        )

    return {"Erfc": (erfc, [])}


def _missing_operations(model: Any) -> list[str]:
    """Operations of a converted model that ONNX does not have."""
    import onnx

    def visit(nodes: Any) -> Iterator[str]:
        for node in nodes:
            domain = "" if node.domain == "ai.onnx" else node.domain
            if domain not in _DOMAINS or (
                domain == "" and not onnx.defs.has(node.op_type, max_inclusive_version=_OPSET)
            ):
                yield node.op_type
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield from visit(attribute.g.node)

    return list(visit(model.graph.node))


class _Calibration:
    """The rows that onnxruntime calibrates with."""

    def __init__(self, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next row, or None; named by onnxruntime."""
        row = next(self._rows, None)
        return None if row is None else dict(row)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Rows are never read in ranges; named by onnxruntime."""


def _quantize(path: Path, quantize: str, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = os.path.join(folder, "float.onnx"), os.path.join(folder, "small.onnx")
        shutil.move(path, source)
        if quantize == "float16":
            import onnx
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
        elif quantize == "dynamic":
            from onnxruntime.quantization import quantize_dynamic

            quantize_dynamic(source, target)
        else:
            from onnxruntime.quantization import QuantFormat, quantize_static
            from onnxruntime.quantization.shape_inference import quant_pre_process

            prepared = os.path.join(folder, "prepared.onnx")
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(prepared, target, _Calibration(rows), quant_format=QuantFormat.QDQ)
        shutil.move(target, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters; their errors hold what they log."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", None)]  # None: the root
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

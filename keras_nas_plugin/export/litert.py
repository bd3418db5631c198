"""LiteRT (formerly TensorFlow Lite), for phones, boards and browsers."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import ExportError, brief
from keras_nas_plugin.export.base import Exporter, Outputs, Tolerance
from keras_nas_plugin.export.inference import InferenceGraph
from keras_nas_plugin.export.obstacles import check_layers, check_loops, obstacle

_SIGNATURE = "serving_default"
# How the converter and the interpreter name operations that LiteRT does not have.
_MISSING = re.compile(
    r"failed to legalize operation 'tf\.(\w+)'"
    r"|'tf\.(\w+)' op is neither a custom op nor a flex op"
    r"|(Flex\w+)"
    r"|\n\s*tf\.(\w+)\("
)


class LiteRTExporter(Exporter):
    """Writes a model with LiteRT's own operations, which predicts a single row at a time.

    A batch of one makes recurrent layers convertible, and is what devices run. ``"int8"``
    quantizes weights and activations with the ranges of the calibration rows; inputs and outputs
    stay real numbers. ``"dynamic"`` quantizes weights only.
    """

    name = "litert"
    file = "model.tflite"
    runtime = "ai-edge-litert"
    modules = ("ai_edge_litert",)
    extra = "export-litert"
    single_rows = True
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
        _check_shapes(graph)
        if quantize == "int8":  # the converter (TensorFlow 2.21) ends the process at a loop
            check_loops(graph, "LiteRT in int8")
        with tempfile.TemporaryDirectory() as folder:
            try:
                graph.write_saved_model(folder, batch_size=1)
                content = _converted(folder, quantize, calibration)
            except ExportError:
                raise
            except Exception as error:  # the converter raises its own
                text = str(error)
                missing = [next(filter(None, names)) for names in _MISSING.findall(text)]
                raise obstacle(graph, self.name, missing, brief(error)) from error
        path.write_bytes(content)

    def load(self, path: Path, *, threads: int | None = None) -> LiteRTRuntime:
        """See `Exporter.load`."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            with _without_native_stderr():  # where it names its delegates
                interpreter = Interpreter(model_path=str(path), num_threads=threads)
                return LiteRTRuntime(interpreter)
        except (RuntimeError, ValueError) as error:
            raise ExportError(f"LiteRT refuses the exported model: {brief(error)}") from error


class LiteRTRuntime:
    """An interpreter of LiteRT; rows are predicted one by one.

    Args:
        interpreter: An `ai_edge_litert.interpreter.Interpreter`.
    """

    def __init__(self, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._run = interpreter.get_signature_runner(_SIGNATURE)

    def predict(self, rows: Mapping[str, np.ndarray]) -> Outputs:
        """See `Runtime.predict`."""
        count = len(next(iter(rows.values())))
        if count == 1:
            return dict(self._run(**rows))
        steps = [
            self._run(**{name: values[i : i + 1] for name, values in rows.items()})
            for i in range(count)
        ]
        return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}


def _check_shapes(graph: InferenceGraph) -> None:
    for spec in graph.inputs:
        if None in spec.shape:
            raise ExportError(
                f"the input {spec.name!r} must have a fixed shape for LiteRT; got {spec.shape}. "
                "Name every size in its `keras.Input`."
            )


def _converted(
    folder: str, quantize: str | None, calibration: Sequence[Mapping[str, np.ndarray]]
) -> bytes:
    import tensorflow as tf

    with _quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[_SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = lambda: ((_SIGNATURE, dict(r)) for r in calibration)
        return bytes(converter.convert())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the converter prints; its errors hold the same text."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            _without_native_stderr(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # the converter's own use of an older interpreter
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Discard the standard error of native code."""
    try:
        saved = os.dup(2)
    except OSError:  # closed
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(sink)
        os.close(saved)

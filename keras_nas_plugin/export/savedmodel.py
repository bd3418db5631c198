"""TensorFlow's SavedModel, as TensorFlow Serving loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_nas_plugin.errors import ExportError, brief
from keras_nas_plugin.export.base import Exporter, Outputs, Tolerance
from keras_nas_plugin.export.inference import InferenceGraph
from keras_nas_plugin.export.obstacles import obstacle

SIGNATURE = "serving_default"


class SavedModelExporter(Exporter):
    """Writes the signature ``serving_default``, with any number of rows."""

    name = "savedmodel"
    file = "saved_model"
    runtime = "tensorflow"
    takes_strings = True
    tolerances = {None: Tolerance(largest=1e-5)}

    def convert(
        self,
        graph: InferenceGraph,
        path: Path,
        quantize: str | None,
        calibration: Sequence[Mapping[str, np.ndarray]],
    ) -> None:
        """See `Exporter.convert`."""
        try:
            graph.write_saved_model(str(path))
        except Exception as error:  # Keras and the layers of a user raise their own
            raise obstacle(graph, self.name, (), brief(error)) from error

    def load(self, path: Path, *, threads: int | None = None) -> SavedModelRuntime:
        """See `Exporter.load`; TensorFlow sets its threads once per process."""
        import tensorflow as tf

        try:
            return SavedModelRuntime(tf.saved_model.load(str(path)))
        except Exception as error:  # TensorFlow raises its own
            raise ExportError(f"TensorFlow cannot load {path.name!r}: {brief(error)}") from error


class SavedModelRuntime:
    """A SavedModel that is called by its signature.

    Args:
        loaded: What `tf.saved_model.load` returned: its variables live as long as it does.
    """

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded
        self._call = loaded.signatures[SIGNATURE]

    def predict(self, rows: Mapping[str, np.ndarray]) -> Outputs:
        """See `Runtime.predict`."""
        import tensorflow as tf

        tensors = {name: tf.constant(values) for name, values in rows.items()}
        return {name: tensor.numpy() for name, tensor in self._call(**tensors).items()}

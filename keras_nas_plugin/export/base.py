"""The interface of an exporter: a format, its runtime, and how far predictions may differ."""

from __future__ import annotations

import abc
import dataclasses
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.evaluation.names import EXPORT_FORMATS
from keras_nas_plugin.export.inference import InferenceGraph

#: Predictions by the name of the output.
Outputs = dict[str, np.ndarray]


class Runtime(Protocol):
    """An exported model, loaded by the library that runs it where it is deployed."""

    def predict(self, rows: Mapping[str, np.ndarray]) -> Outputs:
        """Predict rows.

        Args:
            rows: Arrays by the name of the input, each of shape ``[rows, ...]``.

        Returns:
            Arrays by the name of the output, each of shape ``[rows, ...]``.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """By how much an exported model may differ from the Keras model.

    Differences of outputs are absolute where the outputs are at most 1 (probabilities), otherwise
    relative to the largest output.

    Attributes:
        largest: Largest allowed difference of any output; None for no limit.
        mean: Largest allowed mean difference of the outputs; None for no limit.
        metric_drop: By how much the metric may be worse: absolute for accuracy, relative for
            errors; None for no limit.
    """

    largest: float | None = None
    mean: float | None = None
    metric_drop: float | None = None


class Exporter(abc.ABC):
    """Converts models to one format, and loads them in the runtime of that format.

    A subclass is one file of `keras_nas_plugin.export`, and a line in its `table.py`.
    """

    #: Name of the format, a key of `EXPORT_FORMATS`.
    name: ClassVar[str]
    #: File or folder that it writes.
    file: ClassVar[str]
    #: Distribution whose version is that of the runtime.
    runtime: ClassVar[str]
    #: Modules that it imports, and the extra of this package that installs them.
    modules: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    #: Whether the format holds layers that take strings.
    takes_strings: ClassVar[bool] = False
    #: Whether the exported model predicts a single row at a time.
    single_rows: ClassVar[bool] = False
    #: Tolerance by quantization.
    tolerances: ClassVar[Mapping[str | None, Tolerance]]

    @property
    def quantizations(self) -> tuple[str | None, ...]:
        """Quantizations that it has; None for none."""
        return EXPORT_FORMATS[self.name]

    def check(self, quantize: str | None) -> None:
        """Check that it can be used.

        Args:
            quantize: The requested quantization, or None.

        Raises:
            ExportError: It does not have this quantization, or a library is not installed.
        """
        if quantize not in self.quantizations:
            names = [name for name in self.quantizations if name] or ["no quantization"]
            raise ExportError(
                f"`quantize` must be one of {', '.join(names)} for the format {self.name!r}; "
                f"got {quantize!r}"
            )
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ExportError(
                f"the format {self.name!r} needs the module {missing[0]}, which is not installed: "
                f"`pip install 'keras-nas-plugin[{self.extra}]'`"
            )

    def runtime_version(self) -> str:
        """The runtime with its version, such as ``"onnxruntime 1.32.0"``."""
        for distribution in (self.runtime, f"{self.runtime}-cpu", f"{self.runtime}-gpu"):
            try:
                return f"{self.runtime} {importlib.metadata.version(distribution)}"
            except importlib.metadata.PackageNotFoundError:
                continue
        return self.runtime

    @abc.abstractmethod
    def convert(
        self,
        graph: InferenceGraph,
        path: Path,
        quantize: str | None,
        calibration: Sequence[Mapping[str, np.ndarray]],
    ) -> None:
        """Write a model in this format.

        Args:
            graph: The model.
            path: The file or folder to create.
            quantize: The quantization, or None.
            calibration: Single rows of each input by name, for ``"int8"``.

        Raises:
            ExportError: The model cannot be converted; the message names the layer that stands
                in the way, and what to write instead.
        """

    @abc.abstractmethod
    def load(self, path: Path, *, threads: int | None = None) -> Runtime:
        """Load an exported model in the runtime of the format.

        Args:
            path: What `convert` wrote.
            threads: Number of threads of an inference; None for the runtime's default.

        Raises:
            ExportError: The runtime refuses the file.
        """

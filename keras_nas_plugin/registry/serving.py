"""How a registered model is served over HTTP, and a request that its server answers."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.registry.versions import StoredVersion
from keras_nas_plugin.tracking.mlflow.client import absolute_uri

_EXAMPLE = "serving_input_example.json"
_ZEROS = {"string": "text", "boolean": False, "double": 0.0, "float": 0.0}


@dataclasses.dataclass(frozen=True)
class Serving:
    """A server of a version, and a request.

    Attributes:
        model_uri: The version, by its alias if it was asked for by one.
        tracking_uri: Where the server finds it.
        host: Address that the server listens on.
        port: Its port.
        request: A request with one row, as JSON types.
    """

    model_uri: str
    tracking_uri: str
    host: str
    port: int
    request: Mapping[str, Any]

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``mlflow``."""
        address = ["--host", self.host, "--port", str(self.port)]
        return ["models", "serve", "--model-uri", self.model_uri, "--env-manager", "local"] + (
            address
        )

    @property
    def command(self) -> str:
        """The command that starts the server."""
        uri = shlex.quote(self.tracking_uri)
        return f"MLFLOW_TRACKING_URI={uri} {shlex.join(['mlflow', *self.arguments])}"

    @property
    def program(self) -> list[str]:
        """The command line of this Python that starts the server."""
        return [sys.executable, "-m", "mlflow", *self.arguments]

    def curl(self, file: str | None = None) -> str:
        """The request as a command.

        Args:
            file: A file that holds the request; None puts it into the command.
        """
        body = f"@{file}" if file else json.dumps(self.request)
        words = ["curl", f"http://{self.host}:{self.port}/invocations"]
        return shlex.join([*words, "-H", "Content-Type: application/json", "-d", body])


def serving_of(version: StoredVersion, host: str = "127.0.0.1", port: int = 5001) -> Serving:
    """How a version is served.

    Args:
        version: The version.
        host: Address to listen on.
        port: Port to listen on.
    """
    uri = absolute_uri(version.tracking_uri)
    return Serving(version.model_uri, uri, host, port, request_of(version))


def request_of(version: StoredVersion) -> dict[str, Any]:
    """A request with one row that the server of a version answers.

    It is the first row of the input example that is stored with the version; zeros and texts in
    the types of the signature if there is none.

    Args:
        version: The version.
    """
    path = Path(version.folder, _EXAMPLE)
    if path.exists():
        content = path.read_text(encoding="utf-8")
        # Missing values; NaN is no JSON.
        return _first_row(json.loads(content, parse_constant=lambda name: None))
    from mlflow.models import Model

    schema = Model.load(str(version.folder)).get_input_schema()
    if schema is None:
        return {"inputs": [0.0]}
    if schema.is_tensor_spec():
        arrays = {spec.name: _filled(spec) for spec in schema.inputs}
        return {"inputs": arrays.get(None, arrays)}
    row = {spec.name or "text": _ZEROS.get(_kind(spec), 0) for spec in schema.inputs}
    return {"dataframe_records": [row]}


def _kind(spec: Any) -> str:
    return str(getattr(spec.type, "name", ""))


def _filled(spec: Any) -> Any:
    import numpy as np

    sizes = [1, *(max(size, 1) for size in spec.shape[1:])]
    return np.zeros(sizes, spec.type).tolist()


def _first_row(request: dict[str, Any]) -> dict[str, Any]:
    """The request with its first row only.

    >>> _first_row({"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}})
    {'dataframe_split': {'columns': ['a'], 'data': [[1]]}}
    """
    (form, content), *_ = request.items()
    if form == "dataframe_split":
        return {form: {"columns": content["columns"], "data": content["data"][:1]}}
    if isinstance(content, Mapping):
        return {form: {name: values[:1] for name, values in content.items()}}
    return {form: _rounded(content[:1])}


def _rounded(value: object) -> Any:
    """Numbers in as few digits as float32 needs, so that a request can be read."""
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value

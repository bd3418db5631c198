"""The architecture of a model, for a file beside it and for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.tracking.records import ARCHITECTURE

_LAYERS = 40  # lines for people


def architecture_of(
    model: Any, values: Mapping[str, Any], folder: str | os.PathLike
) -> tuple[str, str]:
    """The architecture of a trial's model as JSON and in words.

    Where the space is written in this package's language, that is the graph of the trial;
    elsewhere the hyperparameters, and the configuration that Keras gives of the model.

    Args:
        model: The Keras model.
        values: Active hyperparameters.
        folder: Of the trial.
    """
    path = Path(folder) / ARCHITECTURE
    if path.exists():
        from keras_nas_plugin.space.architecture import Architecture

        text = path.read_text(encoding="utf-8")
        try:
            return text, str(Architecture.from_json(text))
        except SearchSpaceError:
            return text, _layers(model)
    data = {"values": dict(values), "keras": _config(model)}
    return json.dumps(data, indent=2, default=str), _layers(model)


def _config(model: Any) -> Any:
    try:
        return json.loads(model.to_json())
    except Exception as error:  # a subclassed model raises what its author wrote, or nothing helps
        return {"unknown": f"{type(error).__name__}: {error}"}


def _layers(model: Any) -> str:
    """One line for each layer: name, kind, output, parameters."""
    lines = []
    for layer in model.layers:
        shape = getattr(getattr(layer, "output", None), "shape", None) if layer.built else None
        shown = f" {tuple(shape)}" if shape is not None else ""
        lines.append(
            f"{layer.name}: {type(layer).__name__}{shown}, {layer.count_params():,} parameters"
        )
    more = len(lines) - _LAYERS
    return "\n".join(lines[:_LAYERS] + ([f"... and {more} more layers"] if more > 0 else []))

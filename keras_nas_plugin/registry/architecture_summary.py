"""Summary of a model's architecture: as JSON for a file beside it, and as text for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.project import TrialLayout

if TYPE_CHECKING:
    import keras

_MAX_LAYERS = 40  # lines of text


def summarize_architecture(
    model: keras.Model, values: Mapping[str, object], folder: str | os.PathLike
) -> tuple[str, str]:
    """Summarize the architecture of a trial's model.

    For a space in this package's language, the summary is the graph of the trial; otherwise the
    hyperparameters and the model's Keras configuration.

    Args:
        model: The Keras model.
        values: Active hyperparameters.
        folder: Folder of the trial.

    Returns:
        JSON, and text with one line per layer.
    """
    path = TrialLayout(Path(folder)).architecture
    if path.exists():
        from keras_nas_plugin.space.language.architecture import Architecture

        text = path.read_text(encoding="utf-8")
        try:
            return text, str(Architecture.from_json(text))
        except SearchSpaceError:
            return text, _layers(model)
    data = {"values": dict(values), "keras": _config(model)}
    return json.dumps(data, indent=2, default=str), _layers(model)


def _config(model: keras.Model) -> object:
    try:
        return json.loads(model.to_json())
    except Exception as error:  # a subclassed model may raise anything
        return {"unknown": f"{type(error).__name__}: {error}"}


def _layers(model: keras.Model) -> str:
    """One line per layer: name, class, output shape, parameters."""
    lines = []
    for layer in model.layers:
        shape = getattr(getattr(layer, "output", None), "shape", None) if layer.built else None
        shown = f" {tuple(shape)}" if shape is not None else ""
        lines.append(
            f"{layer.name}: {type(layer).__name__}{shown}, {layer.count_params():,} parameters"
        )
    more = len(lines) - _MAX_LAYERS
    return "\n".join(lines[:_MAX_LAYERS] + ([f"... and {more} more layers"] if more > 0 else []))

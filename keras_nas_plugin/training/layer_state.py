"""State of layers that Keras leaves out of a ``.weights.h5`` file, as further groups of that file.

Keras 3.15 writes the variables of a model only. Missing are

- the vocabularies of preprocessing layers and other assets (a layer's `save_assets`), and the bin
  boundaries of `keras.layers.Discretization`, which are lost if the layer was adapted after the
  model was built, for example in `HyperModel.fit`;
- plain attributes of a user's own layers, such as a threshold that `HyperModel.fit` set;
- how the layers of a subclassed model were built (`Layer.get_build_config`). Its own build
  configuration is not enough for a model with string inputs, or one whose ``call`` is never used.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_nas_plugin.evaluation.graph import all_layers, is_functional
from keras_nas_plugin.files import json_value

logger = logging.getLogger("keras_nas_plugin")

_GROUP = "nas_layers"
_BUILD, _ASSETS, _BOUNDARIES = "build", "assets", "bin_boundaries"
_ATTRIBUTES = "attributes"

_LARGEST_ARRAY = 1000  # elements of an attribute that is stored
_SIMPLE = (bool, int, float, str)


def layer_state_of(model: keras.Model) -> dict[str, bytes]:
    """The state of a model's layers, by name in the file; empty for most models.

    Args:
        model: A model that was trained.
    """
    layers = all_layers(model)
    state: dict[str, bytes] = {}
    if not is_functional(model):
        state[_BUILD] = _json([_build_config(layer) for layer in layers])
    for number, layer in _with_assets(layers):
        try:
            state[f"{_ASSETS}/{number}"] = _assets(layer)
        except OSError:  # a full disk
            raise
        except Exception as error:  # whatever a user's `save_assets` raises
            logger.warning(
                "The assets of layer %r (%s) cannot be saved: %r. The trained model cannot be "
                "loaded completely; check `save_assets`.",
                layer.name,
                type(layer).__name__,
                error,
            )
    for number, layer in enumerate(layers):
        if isinstance(layer, keras.layers.Discretization) and layer.bin_boundaries is not None:
            state[f"{_BOUNDARIES}/{number}"] = _json(list(layer.bin_boundaries))
    attributes = {
        str(number): values
        for number, layer in enumerate(layers)
        if (values := _own_attributes(layer))
    }
    if attributes:
        state[_ATTRIBUTES] = json.dumps(attributes).encode()
    return state


def write_layer_state(state: Mapping[str, bytes], file: h5py.File) -> None:
    """Add the state of a model's layers to the file of its weights.

    Args:
        state: What `layer_state_of` returned.
        file: The file, open for writing.
    """
    for name, content in state.items():
        file[f"{_GROUP}/{name}"] = np.frombuffer(content, np.uint8)


def build_layers(model: keras.Model, file: h5py.File) -> None:
    """Build each layer of a new model as that of the trained model was built.

    A layer that cannot be built is left to Keras, which reports the variables that it lacks.

    Args:
        model: A new model of the same architecture.
        file: An open file that `write_layer_state` added to; others change nothing.
    """
    content = _read(file, _BUILD)
    if content is None:
        return
    for number, (kind, config) in enumerate(json.loads(content)):
        layers = all_layers(model)  # building a layer may create layers inside it
        if number >= len(layers) or type(layers[number]).__name__ != kind:
            logger.debug("Layer %d of %r is not a %s", number, model.name, kind)
            return
        layer = layers[number]
        if config is None or layer.built:
            continue
        with warnings.catch_warnings():
            # Keras warns about a model whose parts are built one by one here.
            warnings.simplefilter("ignore")
            try:
                layer.build_from_config(config)
            except Exception as error:  # whatever a user's `build` raises
                logger.debug("Layer %r cannot be built from %s: %r", layer.name, config, error)


def load_layer_state(model: keras.Model, file: h5py.File) -> None:
    """Give the layers of a model their assets and attributes.

    Args:
        model: A model of the same architecture, with its weights.
        file: An open file that `write_layer_state` added to; others change nothing.
    """
    if _GROUP not in file:
        return
    layers = all_layers(model)
    for number in file[_GROUP].get(_ASSETS, ()):
        _load_assets(layers[int(number)], _read(file, f"{_ASSETS}/{number}") or b"")
    for number in file[_GROUP].get(_BOUNDARIES, ()):
        content = _read(file, f"{_BOUNDARIES}/{number}") or b"null"
        layers[int(number)].bin_boundaries = json.loads(content)
    for number, values in json.loads(_read(file, _ATTRIBUTES) or b"{}").items():
        _set_attributes(layers[int(number)], values)


def has_weights(model: keras.Model) -> bool:
    """Whether the variables of a trained model exist, although it may not count as built."""
    return bool(model.built or model.weights)


def _with_assets(layers: list[keras.Layer]) -> Iterator[tuple[int, keras.Layer]]:
    """Layers that have assets, with their numbers; a layer also saves those of its own parts."""
    covered: set[int] = set()
    for number, layer in enumerate(layers):
        if not hasattr(layer, "save_assets") or id(layer) in covered:
            continue
        covered.update(map(id, all_layers(layer)[1:]))
        yield number, layer


def _own_attributes(layer: keras.Layer) -> dict[str, Any]:
    """Plain attributes of a layer whose class is not Keras', as values of JSON."""
    if type(layer).__module__.partition(".")[0] == "keras":
        return {}
    common = _common_attributes()
    plain = {name: _plain(value) for name, value in vars(layer).items() if name not in common}
    return {name: value for name, value in plain.items() if value is not None}


@functools.cache
def _common_attributes() -> frozenset[str]:
    """Names of the attributes that Keras itself sets on layers and models."""
    model = keras.Model()
    model.compile("sgd", "mse")
    return frozenset({*vars(keras.layers.Layer()), *vars(model)})


def _plain(value: object) -> Any:
    """A number, a string, or nested lists and dictionaries of these; None for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        numbers = value.dtype.kind in "biuf" and value.size <= _LARGEST_ARRAY
        return value.tolist() if numbers else None
    if isinstance(value, _SIMPLE):
        return value
    if isinstance(value, list | tuple):
        values = [_plain(item) for item in value]
        return None if None in values else values
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        items = {key: _plain(item) for key, item in value.items()}
        return None if None in items.values() else items
    return None


def _set_attributes(layer: keras.Layer, values: Mapping[str, Any]) -> None:
    """Set attributes that training changed; those that the new layer lacks are left out."""
    for name, value in values.items():
        current = vars(layer).get(name)
        if name not in vars(layer) or _plain(current) == value:
            continue
        if isinstance(current, np.ndarray):
            setattr(layer, name, np.array(value, current.dtype))
        elif isinstance(current, tuple):
            setattr(layer, name, tuple(value))
        else:
            setattr(layer, name, value)


def _build_config(layer: keras.Layer) -> tuple[str, Any]:
    config = layer.get_build_config() if layer.built else None
    try:
        json.dumps(config)
    except (TypeError, ValueError):  # a user's own configuration may hold anything
        config = None
    return type(layer).__name__, config


def _assets(layer: keras.Layer) -> bytes:
    """The files that a layer saves, in one archive."""
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w") as files:
        layer.save_assets(folder)
        for path in sorted(Path(folder).rglob("*")):
            files.write(path, path.relative_to(folder))
    return archive.getvalue()


def _load_assets(layer: keras.Layer, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(content)) as files:
        if files.namelist():
            files.extractall(folder)
            layer.load_assets(folder)


def _json(data: object) -> bytes:
    return json.dumps(json_value(data)).encode()


def _read(file: h5py.File, name: str) -> bytes | None:
    path = f"{_GROUP}/{name}"
    return file[path][()].tobytes() if path in file else None

"""Whether the files of a model hold the model that was trained: they are loaded and compared."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import TrackingError, brief
from keras_nas_plugin.evaluation.graph import all_layers, layer_label
from keras_nas_plugin.registry.custom_objects import (
    find_custom_objects,
    is_importable,
    no_registered_objects,
)
from keras_nas_plugin.registry.interface import Interface, predict
from keras_nas_plugin.registry.served_model import probabilities

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("keras_nas_plugin")

#: Tolerance of predictions by bytes per number: another graph may round differently.
TOLERANCE = {2: 2e-2, 4: 1e-3, 8: 1e-3}

_NOT_BUILT = (
    "has weights in the trained model and is not built after loading: begin it with "
    "`keras.Input`, or let the model build it in `build_from_config` from what its "
    "`get_build_config` returns"
)
_MAX_VALUE = 60  # characters of a value in a message
_SIMPLE = (bool, int, float, str, bytes, type(None))


class DifferentModelError(TrackingError):
    """A model cannot be loaded from its files, or what is loaded is a different model."""


def check_loaded_back(model: keras.Model, folder: str, interface: Interface | None) -> None:
    """Load the files of a model as a server does, and compare the result with the model.

    Args:
        model: The model in memory.
        folder: Its files, in MLflow's format.
        interface: Its interface; None if it cannot predict rows that are known here: then only
            its weights are compared.

    Raises:
        DifferentModelError: Loading fails, or predictions or weights differ; the message names
            the layer and what to write.
    """
    import mlflow.pyfunc

    with no_registered_objects(), _own_import_path():
        try:
            served = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
            loaded = served.get_raw_model()
        except Exception as error:  # Keras, pickle and MLflow raise their own
            raise DifferentModelError(
                "the model must be loadable from its files to be registered; "
                f"{_unloadable_layer(model) or brief(error)}"
            ) from error
        if interface is None:
            _compare_weights(model, loaded)
            return
        if _predicts_at_random(model, interface):
            logger.info("The model predicts at random: its weights are compared instead.")
            _compare_weights(model, loaded)
            return
        _compare_predictions(model, loaded, interface)
        _compare_served(served, interface)


@contextlib.contextmanager
def _own_import_path() -> Iterator[None]:
    """Undo what MLflow adds to `sys.path` for a model with code."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path


def _predicts_at_random(model: keras.Model, interface: Interface) -> bool:
    """Whether the same rows get other predictions each time."""
    again = predict(model, interface.packed)
    return _largest_difference(again, interface.outputs) is not None


def _compare_predictions(model: keras.Model, loaded: keras.Model, interface: Interface) -> None:
    inputs = interface.packed
    try:
        difference = _largest_difference(predict(loaded, inputs), interface.outputs)
    except Exception as error:  # Keras and its backends raise their own
        raise DifferentModelError(
            f"the model that is loaded from its files must predict the sample rows; "
            f"{_different_layer(model, loaded, inputs) or brief(error)}"
        ) from error
    if difference is None:
        return
    reason = _different_layer(model, loaded, inputs) or (
        "no layer with other weights or attributes was found: a `call` that uses state which is "
        "no weight must return it in `get_config`, or keep it in `self.add_weight`"
    )
    raise DifferentModelError(
        "the model that is loaded from its files must predict as the trained one; its predictions "
        f"for the sample rows differ by {difference:.3g}: {reason}"
    )


def _compare_served(served: Any, interface: Interface) -> None:
    """Compare what a server answers to the example."""
    if served.metadata.signature is None:
        return
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # MLflow lets Keras show its progress
            answer = served.predict(interface.example())
    except Exception as error:  # MLflow raises its own, and Keras
        raise DifferentModelError(
            "the registered model must predict the sample rows by `mlflow.pyfunc`; it raised "
            f"{brief(error)}"
        ) from error
    expected: Any = interface.outputs
    if interface.classes is not None:
        classes = interface.classes
        expected = probabilities(expected, classes.kind, classes.logits)
        answer = np.array(
            [[row[name] for name in classes.names] for row in answer["probabilities"]]
        )
    difference = _largest_difference(answer, expected)
    if difference is not None:
        raise DifferentModelError(
            "the registered model must predict the sample rows by `mlflow.pyfunc` as in memory; "
            f"its predictions differ by {difference:.3g}"
        )


def _compare_weights(model: keras.Model, loaded: keras.Model) -> None:
    reason = _different_weights(model, loaded)
    if reason is not None:
        raise DifferentModelError(
            f"the model that is loaded from its files must have the weights of the trained one; "
            f"{reason}"
        )


def _largest_difference(actual: object, expected: object) -> float | None:
    """The largest difference between predictions; None if they are equal within tolerance."""
    worst: float | None = None
    actual, expected = _arrays(actual), _arrays(expected)
    if len(actual) != len(expected):
        return float("nan")
    for output, reference in zip(actual, expected, strict=True):
        if output.shape != reference.shape:
            return float("nan")
        if output.dtype.kind not in "biufV" or reference.dtype.kind not in "biufV":
            if not np.array_equal(output, reference):
                return float("nan")
            continue
        tolerance = TOLERANCE.get(reference.dtype.itemsize, 1e-3)
        output, reference = output.astype("float64"), reference.astype("float64")
        if not np.allclose(
            output, reference, rtol=tolerance, atol=tolerance * 1e-2, equal_nan=True
        ):
            worst = max(worst or 0.0, float(np.nanmax(np.abs(output - reference), initial=0.0)))
    return worst


def _arrays(outputs: object) -> list[np.ndarray]:
    if isinstance(outputs, Mapping):
        return [array for value in outputs.values() for array in _arrays(value)]
    if isinstance(outputs, list | tuple):
        return [array for value in outputs for array in _arrays(value)]
    return [np.asarray(outputs)]


# ---------------------------------------------------------------- which layer it is


def _unloadable_layer(model: keras.Model) -> str | None:
    """Which layer cannot be created from its configuration, and what to write; None for none."""
    import keras

    for layer in all_layers(model)[1:] + [model]:
        if isinstance(layer, keras.layers.Lambda) and _is_lambda(layer.function):
            return (
                f"{layer_label(layer)} holds a Python lambda, which Keras does not load: use a "
                "named function, or a layer of your own"
            )
        if is_importable(type(layer)):
            continue
        try:
            config = layer.get_config()
            type(layer).from_config(dict(config))
        except Exception as error:  # whatever a user's methods raise
            missing = [name for name in _required(type(layer)) if name not in config]
            if missing:
                return f"{layer_label(layer)}: {_return_it(missing)}"
            if not _accepts(type(layer), "name"):
                return (
                    f"{layer_label(layer)}: its `__init__` must accept `**kwargs` and pass them "
                    "on, `super().__init__(**kwargs)`, because Keras passes the layer's name "
                    "and dtype"
                )
            return (
                f"{layer_label(layer)} cannot be created by `from_config(get_config())`, which "
                f"raised {brief(error)}"
            )
    return _unbuilt_layer(model)


def _unbuilt_layer(model: keras.Model) -> str | None:
    """Which layer has weights in a model, and none when Keras creates the model again."""
    import keras

    try:
        config = keras.saving.serialize_keras_object(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fresh = keras.saving.deserialize_keras_object(
                config, custom_objects=find_custom_objects(model)
            )
    except Exception as error:  # whatever a user's methods raise
        logger.debug("The model cannot be created from its configuration: %r", error)
        return None
    for layer, stored in zip(all_layers(model), all_layers(fresh), strict=False):
        # A model without weights of its own is built by its layers.
        if layer.weights and not stored.weights and (layer is not model or not model.layers):
            return f"{layer_label(layer)} {_NOT_BUILT}"
    return None


def _different_layer(model: keras.Model, loaded: keras.Model, inputs: object) -> str | None:
    """Which layer differs, and what to write; None if none is found."""
    pairs = list(zip(all_layers(model), all_layers(loaded), strict=False))
    for layer, stored in pairs:
        if type(layer).__name__ != type(stored).__name__:
            return f"{layer_label(layer)} is a {type(stored).__name__} after loading"
    own = [(layer, stored) for layer, stored in pairs if not is_importable(type(layer))]
    for layer, stored in own:
        reason = _other_attributes(layer, stored)
        if reason is not None:
            return reason
    return _different_weights(model, loaded) or _other_outputs(model, loaded, inputs)


def _different_weights(model: keras.Model, loaded: keras.Model) -> str | None:
    """The first layer with other weights, and what to write; None if all are equal."""
    pairs = list(zip(all_layers(model), all_layers(loaded), strict=False))
    for layer, stored in pairs[1:]:
        if layer.weights and not stored.weights and not stored.built:
            return f"{layer_label(layer)} {_NOT_BUILT}"
    # A layer has the weights of the layers in it, so these come first.
    for layer, stored in sorted(pairs, key=lambda pair: len(all_layers(pair[0]))):
        reason = _other_weights(layer, stored)
        if reason is not None:
            return reason
    return None


def _other_attributes(layer: keras.Layer, stored: keras.Layer) -> str | None:
    """Attributes with simple values that differ, which `get_config` should return."""
    import keras

    common = vars(keras.layers.Layer())
    different = [
        name
        for name, value in vars(layer).items()
        if name not in common and _is_simple(value) and not _equal(value, vars(stored).get(name))
    ]
    if not different:
        return None
    name = different[0]
    values = f"{_short(vars(layer)[name])} in the trained model and " + (
        f"{_short(vars(stored)[name])} after loading"
        if name in vars(stored)
        else "lost on loading"
    )
    config = _config(layer)
    argument = name.lstrip("_")
    if argument in _arguments(type(layer)) and argument not in config:
        return f"`{name}` of {layer_label(layer)} is {values}: {_return_it([argument])}"
    return (
        f"`{name}` of {layer_label(layer)} is {values}: it must be an argument of `__init__` that "
        "`get_config` returns, or a weight (`self.add_weight`)"
    )


def _other_weights(layer: keras.Layer, stored: keras.Layer) -> str | None:
    weights, loaded = ([np.asarray(weight) for weight in item.weights] for item in (layer, stored))
    if len(weights) != len(loaded):
        return (
            f"{layer_label(layer)} has {len(weights)} weights in the trained model and "
            f"{len(loaded)} after loading: create all of them in `build`"
        )
    for weight, value in zip(weights, loaded, strict=True):
        if weight.shape != value.shape or not np.array_equal(weight, value, equal_nan=True):
            return (
                f"the weights of {layer_label(layer)} are others after loading: check its "
                "`save_own_variables` and `load_own_variables`, and that no layer is hidden in an "
                "attribute that Keras does not track"
            )
    return None


def _other_outputs(model: keras.Model, loaded: keras.Model, inputs: object) -> str | None:
    """The first layer of a functional model whose output differs."""
    import keras

    try:
        names = [
            layer.name
            for layer in model.layers
            if not isinstance(layer, keras.layers.InputLayer)
            and isinstance(layer.output, keras.KerasTensor)
        ]
        both = [
            predict(
                keras.Model(item.inputs, [item.get_layer(name).output for name in names]), inputs
            )
            for item in (model, loaded)
        ]
    except Exception as error:  # not functional, or a layer with several outputs
        logger.debug("Layers cannot be compared one by one: %r", error)
        return None
    for name, expected, actual in zip(names, *map(_as_list, both), strict=True):
        if _largest_difference(actual, expected) is not None:
            return (
                f"{layer_label(model.get_layer(name))} is the first layer whose output differs: "
                "what its `call` uses must be returned by `get_config`, or be a weight"
            )
    return None


def _as_list(outputs: object) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _return_it(names: list[str]) -> str:
    values = ", ".join(f'"{name}": self.{name}' for name in names)
    return (
        "its `get_config` must return every argument of `__init__`: "
        f"`return {{**super().get_config(), {values}}}`"
    )


def _arguments(cls: type) -> list[str]:
    return list(inspect.signature(cls).parameters)


def _required(cls: type) -> list[str]:
    parameters = list(inspect.signature(cls).parameters.values())
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def _accepts(cls: type, argument: str) -> bool:
    parameters = inspect.signature(cls).parameters
    return argument in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _config(layer: keras.Layer) -> Mapping[str, Any]:
    try:
        config: Mapping[str, Any] = layer.get_config()
    except Exception:  # whatever a user's method raises
        return {}
    return config


def _is_lambda(function: object) -> bool:
    return getattr(function, "__name__", "") == "<lambda>"


def _is_simple(value: object) -> bool:
    if isinstance(value, list | tuple | set):
        return all(map(_is_simple, value))
    if isinstance(value, Mapping):
        return all(map(_is_simple, value.values()))
    return isinstance(value, (*_SIMPLE, np.ndarray, np.generic))


def _equal(value: Any, reference: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(reference, np.ndarray):
        return np.array_equal(value, reference)
    if isinstance(value, list | tuple) and isinstance(reference, list | tuple):
        # Configurations are JSON, which has no tuples.
        return len(value) == len(reference) and all(map(_equal, value, reference))
    return bool(value == reference) or (value != value and reference != reference)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."

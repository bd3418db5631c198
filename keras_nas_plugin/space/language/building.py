"""Builds Keras layers from a description."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Builder, LayerKind, label_of, layer_class

if TYPE_CHECKING:
    import keras


class KerasBuilder(Builder["keras.KerasTensor"]):
    """Creates Keras layers and calls them on symbolic tensors."""

    def layer(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[keras.KerasTensor],
    ) -> keras.KerasTensor:
        """See `Builder.layer`; several inputs are passed as a list, as to Keras' merge layers."""
        return self.create(kind, arguments, path, inputs)[1]

    def create(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[keras.KerasTensor],
    ) -> tuple[Any, keras.KerasTensor]:
        """Create a layer and call it on symbolic tensors.

        Args:
            kind: See `Builder.layer`.
            arguments: Arguments of the layer.
            path: Path of the node, for error messages.
            inputs: Symbolic tensors.

        Returns:
            The layer, or what the function ``kind`` returned, and its output.

        Raises:
            SearchSpaceError: The layer does not fit its inputs or arguments.
        """
        try:
            layer = layer_class(kind, path)(**arguments)
            # The role of the layer, by which models of the space share weights.
            with contextlib.suppress(AttributeError):  # of a function
                layer.architecture_path = path
            return layer, layer(inputs[0] if len(inputs) == 1 else list(inputs))
        except (TypeError, ValueError) as error:
            shapes = [tuple(getattr(value, "shape", ())) for value in inputs]
            raise SearchSpaceError(
                f"{label_of(kind)} at {path!r} does not fit its inputs or arguments; got "
                f"{dict(arguments)} on shapes {shapes}: {error}"
            ) from error

    def merge(
        self, merge: str, inputs: Sequence[keras.KerasTensor], path: str
    ) -> keras.KerasTensor:
        """See `Builder.merge`."""
        if len(inputs) == 1:
            return inputs[0]
        return self.layer(merge.capitalize(), {}, path, inputs)

    def zero(self, value: keras.KerasTensor, path: str) -> keras.KerasTensor:
        """See `Builder.zero`."""
        return self.layer("Rescaling", {"scale": 0.0}, path, [value])

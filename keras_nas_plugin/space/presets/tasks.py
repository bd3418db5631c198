"""Ends of networks, and how they are compiled when nobody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.nodes import Layer, Node

#: For labels that are whole numbers.
CLASSIFICATION: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ("accuracy",),
    }
)


def classifier(classes: int) -> Node:
    """A softmax over classes, in single precision whatever the policy.

    Args:
        classes: How many, at least 2.

    Raises:
        SearchSpaceError: There are fewer.
    """
    positive("classes", classes, least=2)
    return Layer("Dense", units=classes, activation="softmax", dtype="float32")


def positive(argument: str, value: Any, *, least: int = 1) -> int:
    """A whole number that is large enough.

    Raises:
        SearchSpaceError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SearchSpaceError(
            f"`{argument}` needs a whole number of at least {least}; received {value!r}"
        )
    return value

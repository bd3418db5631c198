"""Search spaces: what may vary, under which conditions, and a language to describe it.

A space is described with nodes, from layers to cells, and becomes an ordinary
`keras_tuner.HyperModel`: see `SpaceHyperModel`.

`SearchSpec` is what strategies see of any space, described here or by a ``build(hp)``.
Importing this package loads neither Keras nor KerasTuner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load
from keras_nas_plugin.space.architecture import Architecture, Vertex
from keras_nas_plugin.space.cell import Cell, Stack
from keras_nas_plugin.space.choices import InputChoice, LayerChoice, Optional, Repeat, When
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.nodes import Branches, Identity, Layer, Node, Sequential, Zero
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec
from keras_nas_plugin.space.values import Derived, Value, ValueChoice

if TYPE_CHECKING:
    from keras_nas_plugin.space.hypermodel import SpaceHyperModel as SpaceHyperModel

__all__ = [
    "Architecture",
    "Branches",
    "Categorical",
    "Cell",
    "Condition",
    "Decision",
    "Derived",
    "Domain",
    "Identity",
    "InputChoice",
    "Integer",
    "Layer",
    "LayerChoice",
    "Node",
    "Optional",
    "Real",
    "Repeat",
    "SearchSpec",
    "Sequential",
    "SpaceHyperModel",
    "Stack",
    "Value",
    "ValueChoice",
    "Vertex",
    "When",
    "Zero",
]


def __getattr__(name: str) -> Any:
    if name != "SpaceHyperModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(f"{__name__}.hypermodel", name)

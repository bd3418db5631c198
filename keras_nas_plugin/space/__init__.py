"""Search spaces: decisions, their conditions, and a language for describing architectures.

A description is a tree of nodes, from single layers to cells. `SpaceHyperModel` turns it into
an ordinary `keras_tuner.HyperModel`.

Search strategies work on a `SearchSpec`. It is derived from any hypermodel, whether that is a
description or a hand-written ``build(hp)``. Importing this package loads neither Keras nor
KerasTuner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.language.architecture import Architecture, Vertex
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.cell import Cell, Stack
from keras_nas_plugin.space.language.choices import (
    InputChoice,
    LayerChoice,
    Optional,
    Repeat,
    When,
)
from keras_nas_plugin.space.language.nodes import Branches, Identity, Layer, Sequential, Zero
from keras_nas_plugin.space.language.values import Derived, Value, ValueChoice
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec

if TYPE_CHECKING:
    from keras_nas_plugin.space.language.hypermodel import SpaceHyperModel as SpaceHyperModel

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

__getattr__, __dir__ = attach(__name__, {"SpaceHyperModel": "language.hypermodel"})

"""Tables: multilayer perceptrons and residual networks, with embedded categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import KerasTensor, layers, ops

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.choices import LayerChoice
from keras_nas_plugin.space.language.hypermodel import Compile, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.values import ValueChoice
from keras_nas_plugin.space.presets.scaling import Step, at_most, replaced, scaled, up_to
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    between,
    compiled_for,
    counted,
    decided,
    ending,
    numbers,
    positive,
)

_DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)
_SMALLER: Sequence[Step] = (
    ("widths", at_most(256)),
    ("depths", up_to(4)),
    ("widths", at_most(128)),
    ("embeddings", at_most(16)),
    ("depths", up_to(3)),
    ("widths", at_most(64)),
    ("embeddings", at_most(8)),
    ("depths", up_to(2)),
    ("widths", replaced((16, 32))),
    ("embeddings", at_most(4)),
    ("widths", replaced((8, 16))),
)


def tabular(
    features: int,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    categories: Mapping[int, int] | None = None,
    depths: tuple[int, int] | None = None,
    widths: Sequence[int] | None = None,
    embeddings: Sequence[int] | None = None,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile | None = None,
) -> SpaceHyperModel:
    """Multilayer perceptrons and residual networks for tables.

    Source: Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data",
    sections 3.1 and 3.2, with spaces as in its supplement. Numeric columns should be
    standardised, as in the paper.

    Trainable parameters for 8 columns, two of them with 4 and 9 categories, and 2 classes:
    598 to 13 M (first: 20 k); see ``rows`` and ``budget``.

    Args:
        features: Number of columns of the table.
        classes: Number of classes.
        outputs: Number of values to predict, or their shape, instead of ``classes``.
        categories: A dictionary from the index of each categorical column to its number of
            categories. Categories are integers from 0.
        depths: Minimum and maximum number of layers or blocks. Defaults to 1 and 6.
        widths: Options for the units of each layer. Defaults to 32, 64, 128, 256 and 512.
        embeddings: Options for the size of the embedding vector of a category. Defaults to 4, 8,
            16 and 32.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`. Defaults to Adam with the loss of the task.

    Raises:
        SearchSpaceError: An argument is invalid.
    """

    def build(**arguments: Any) -> SpaceHyperModel:
        space = tabular_space(features, classes, outputs, categories=categories, **arguments)
        return SpaceHyperModel(
            space,
            inputs=(features,),
            compile=compiled_for(classes) if compile is None else compile,
            name="tabular",
            check=False,
        )

    return scaled(
        build,
        {"depths": (1, 6), "widths": (32, 64, 128, 256, 512), "embeddings": (4, 8, 16, 32)},
        {"depths": depths, "widths": widths, "embeddings": embeddings},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def tabular_space(
    features: int,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    categories: Mapping[int, int] | None = None,
    depths: tuple[int, int] = (1, 6),
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    embeddings: Sequence[int] = (4, 8, 16, 32),
) -> Node:
    """Only the description, to be part of a larger space; see `tabular`.

    Decisions are named ``embedding/width`` (if there are categories), ``network``,
    ``network/mlp/depth``, ``network/mlp/units``, ``network/mlp/dropout``, and for ``resnet``
    ``depth``, ``units``, ``factor``, ``hidden_dropout`` and ``residual_dropout``.
    """
    head = ending(classes, outputs)
    positive("features", features)
    fewest, most = between("depths", depths)
    widths = numbers("widths", widths)
    shared = {
        "depth": counted(fewest, most, 2),
        "units": decided(widths, 128),
    }
    parts: dict[str, Any] = {}
    if columns := _checked(categories, features):
        width = decided(numbers("embeddings", embeddings), 8)
        parts["embedding"] = Layer(
            embedded_columns, features=features, categories=columns, width=width
        )
    networks = {
        "mlp": Layer(perceptron, dropout=ValueChoice(_DROPOUTS, default=0.1), **shared),
        "resnet": Layer(
            residual_perceptron,
            factor=ValueChoice([1, 2, 3, 4], default=2),
            hidden_dropout=ValueChoice(_DROPOUTS, default=0.1),
            residual_dropout=ValueChoice(_DROPOUTS),
            **shared,
        ),
    }
    return Sequential(**parts, network=LayerChoice(networks), head=head)


def _checked(categories: object, features: int) -> dict[int, int]:
    """Categorical columns in ascending order, with their numbers of categories.

    Raises:
        SearchSpaceError: There is no such column, or it has no categories.
    """
    if categories is None:
        return {}
    if not isinstance(categories, Mapping) or not all(
        isinstance(column, int) and not isinstance(column, bool) and 0 <= column < features
        for column in categories
    ):
        raise SearchSpaceError(
            f"`categories` must be a dictionary from columns below {features} to their numbers "
            f"of categories; got {categories!r}"
        )
    return {
        column: positive(f"categories[{column}]", categories[column])
        for column in sorted(categories)
    }


def embedded_columns(
    features: int, categories: Mapping[int, int], width: int
) -> Callable[[KerasTensor], KerasTensor]:
    """Concatenates the numeric columns with embedding vectors of the categorical columns.

    Args:
        features: Number of columns of the table.
        categories: Categorical columns, and their numbers of categories.
        width: Size of the embedding vector of a category.
    """

    def call(table: KerasTensor) -> KerasTensor:
        numeric = [column for column in range(features) if column not in categories]
        vectors = [layers.Embedding(n, width)(table[:, c]) for c, n in categories.items()]
        if numeric:
            vectors.insert(0, ops.take(table, numeric, axis=1))
        return layers.Concatenate()(vectors) if len(vectors) > 1 else vectors[0]

    return call


def perceptron(depth: int, units: int, dropout: float) -> Callable[[KerasTensor], KerasTensor]:
    """Dense layers with ReLU and Dropout (Gorishniy et al. 2021, section 3.1)."""

    def call(x: KerasTensor) -> KerasTensor:
        for _ in range(depth):
            x = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(x))
        return x

    return call


def residual_perceptron(
    depth: int, units: int, factor: int, hidden_dropout: float, residual_dropout: float
) -> Callable[[KerasTensor], KerasTensor]:
    """Residual blocks of two dense layers (Gorishniy et al. 2021, section 3.2).

    Args:
        depth: Number of blocks.
        units: Channels between the blocks.
        factor: Channels within a block, as a multiple of ``units``.
        hidden_dropout: Dropout rate after the first dense layer of a block.
        residual_dropout: Dropout rate after the second.
    """

    def call(x: KerasTensor) -> KerasTensor:
        x = layers.Dense(units)(x)
        for _ in range(depth):
            y = layers.BatchNormalization(**BATCH_NORM)(x)
            y = layers.Dense(units * factor, activation="relu")(y)
            y = layers.Dense(units)(layers.Dropout(hidden_dropout)(y))
            x = layers.Add()([x, layers.Dropout(residual_dropout)(y)])
        return layers.Activation("relu")(layers.BatchNormalization(**BATCH_NORM)(x))

    return call

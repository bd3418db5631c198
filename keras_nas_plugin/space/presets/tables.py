"""Tables: multilayer perceptrons and residual networks, with embedded categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import layers, ops

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.choices import LayerChoice
from keras_nas_plugin.space.hypermodel import SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
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
from keras_nas_plugin.space.values import ValueChoice

_DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)


def tabular(
    features: int,
    classes: int | None = None,
    outputs: int | Sequence[int] | None = None,
    *,
    categories: Mapping[int, int] | None = None,
    depths: tuple[int, int] = (1, 6),
    widths: Sequence[int] = (32, 64, 128, 256, 512),
    embeddings: Sequence[int] = (4, 8, 16, 32),
    compile: Mapping[str, Any] | Callable[[Any, Any], None] | None = None,
) -> SpaceHyperModel:
    """Multilayer perceptrons and residual networks for tables.

    Source: Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data",
    sections 3.1 and 3.2, with spaces as in its supplement. Columns of numbers should be
    standardised, as there.

    Args:
        features: Columns of the table.
        classes: How many there are to tell apart.
        outputs: Numbers to predict, instead of ``classes``.
        categories: Columns of categories, counted from 0, and how many each has: whole
            numbers from 0 on.
        depths: Fewest and most layers or blocks.
        widths: Units of each layer.
        embeddings: Numbers that stand for a category.
        compile: See `SpaceHyperModel`; what suits the task without it.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    space = tabular_space(
        features,
        classes,
        outputs,
        categories=categories,
        depths=depths,
        widths=widths,
        embeddings=embeddings,
    )
    return SpaceHyperModel(
        space,
        inputs=(features,),
        compile=compiled_for(classes) if compile is None else compile,
        name="tabular",
        check=False,
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
    """The description alone; see `tabular`.

    Decisions are called ``embedding/width`` (if there are categories), ``network``,
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
    parts: dict[str, Node] = {}
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


def _checked(categories: Any, features: int) -> dict[int, int]:
    """Columns of categories in order.

    Raises:
        SearchSpaceError: There is no such column, or too few categories in it.
    """
    if categories is None:
        return {}
    fine = isinstance(categories, Mapping) and all(
        isinstance(column, int) and not isinstance(column, bool) and 0 <= column < features
        for column in categories
    )
    if not fine:
        raise SearchSpaceError(
            f"`categories` needs a dictionary from columns below {features} to their numbers of "
            f"categories; received {categories!r}"
        )
    return {
        column: positive(f"categories[{column}]", categories[column])
        for column in sorted(categories)
    }


def embedded_columns(
    features: int, categories: Mapping[int, int], width: int
) -> Callable[[Any], Any]:
    """Columns of numbers as they are, and vectors for those of categories.

    Args:
        features: Columns of the table.
        categories: Columns of categories, and how many each has.
        width: Numbers that stand for a category.
    """

    def call(table: Any) -> Any:
        numeric = [column for column in range(features) if column not in categories]
        vectors = [layers.Embedding(n, width)(table[:, c]) for c, n in categories.items()]
        if numeric:
            vectors.insert(0, ops.take(table, numeric, axis=1))
        return layers.Concatenate()(vectors) if len(vectors) > 1 else vectors[0]

    return call


def perceptron(depth: int, units: int, dropout: float) -> Callable[[Any], Any]:
    """Dense layers with ReLU and Dropout (Gorishniy et al. 2021, section 3.1)."""

    def call(x: Any) -> Any:
        for _ in range(depth):
            x = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(x))
        return x

    return call


def residual_perceptron(
    depth: int, units: int, factor: int, hidden_dropout: float, residual_dropout: float
) -> Callable[[Any], Any]:
    """Residual blocks of two dense layers (Gorishniy et al. 2021, section 3.2).

    Args:
        depth: How many blocks.
        units: Channels between the blocks.
        factor: Channels within a block, as a multiple of these.
        hidden_dropout: After the first dense layer of a block.
        residual_dropout: After the second.
    """

    def call(x: Any) -> Any:
        x = layers.Dense(units)(x)
        for _ in range(depth):
            y = layers.BatchNormalization(**BATCH_NORM)(x)
            y = layers.Dense(units * factor, activation="relu")(y)
            y = layers.Dense(units)(layers.Dropout(hidden_dropout)(y))
            x = layers.Add()([x, layers.Dropout(residual_dropout)(y)])
        return layers.Activation("relu")(layers.BatchNormalization(**BATCH_NORM)(x))

    return call

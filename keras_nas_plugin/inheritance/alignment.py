"""Which layer of a model corresponds to which layer of another model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

import keras
import numpy as np

Shapes = list[tuple[int, ...]]


def align(child: Sequence[keras.Layer], parent: Sequence[keras.Layer]) -> dict[int, int]:
    """Match the layers of a model with those of another model.

    Layers with a role match those with the same role: the path of a layer in a space of
    `keras_nas_plugin.space`, or a name that the user has given. All others match in their order:
    among layers of the same class, an alignment of the two sequences that matches as many weights
    of equal shape as possible (Needleman & Wunsch 1970, without a penalty for gaps).

    Args:
        child: The layers with weights of a model, in the order in which they are called.
        parent: Those of the other model.

    Returns:
        Indices in ``parent`` by indices in ``child``. Layers without a counterpart are left out.
    """
    roles, parent_roles = _roles(child), _roles(parent)
    by_role = {role: index for index, role in enumerate(parent_roles) if role is not None}
    matches = {
        index: by_role[role]
        for index, role in enumerate(roles)
        if role in by_role and _match(child[index], parent[by_role[role]])
    }
    rest = [index for index, role in enumerate(roles) if role is None]
    parent_rest = [index for index, role in enumerate(parent_roles) if role is None]
    scores = np.array(
        [[_match(child[i], parent[j]) for j in parent_rest] for i in rest], dtype=int
    ).reshape(len(rest), len(parent_rest))
    return matches | {rest[i]: parent_rest[j] for i, j in _best_alignment(scores)}


def added(matches: dict[int, int], layers: int, parent_layers: int) -> set[int]:
    """The layers that were added between two neighbours, rather than put in place of others.

    Args:
        matches: What `align` returned.
        layers: Number of layers of the model.
        parent_layers: Number of layers of the other model.

    Returns:
        Indices of layers without a counterpart, between whose neighbours the other model has no
        layer either.
    """
    result: set[int] = set()
    pending: list[int] = []
    before = -1
    for index in range(layers + 1):
        counterpart = matches.get(index, parent_layers if index == layers else None)
        if counterpart is None:
            pending.append(index)
            continue
        if counterpart == before + 1:
            result.update(pending)
        pending, before = [], counterpart
    return result


def _roles(layers: Sequence[keras.Layer]) -> list[Hashable | None]:
    """What identifies a layer apart from its position, or None."""
    counts: Counter[Hashable] = Counter()
    roles: list[Hashable | None] = []
    for layer in layers:
        name = getattr(layer, "architecture_path", None) or _given_name(layer)
        if name is None:
            roles.append(None)
            continue
        key = type(layer).__name__, name
        roles.append((*key, counts[key]))
        counts[key] += 1
    return roles


def _given_name(layer: keras.Layer) -> str | None:
    """The name of a layer, unless it is the one that Keras makes of the class and a number."""
    automatic = re.sub(r"\W+", "", type(layer).__name__)
    automatic = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", automatic)
    automatic = re.sub(r"([a-z])([A-Z])", r"\1_\2", automatic).lower()
    return None if re.fullmatch(rf"{re.escape(automatic)}(_\d+)?", layer.name) else layer.name


def _match(layer: keras.Layer, parent: keras.Layer) -> int:
    """How well two layers match: 0 not at all, 3 if all weights have equal shapes."""
    if type(layer) is not type(parent):
        return 0
    shapes, parent_shapes = _shapes(layer), _shapes(parent)
    if shapes == parent_shapes:
        return 3
    if [len(shape) for shape in shapes] != [len(shape) for shape in parent_shapes]:
        return 0
    # Convolutions with equal kernels have more in common than those with others.
    kernels = zip(shapes, parent_shapes, strict=True)
    return 2 if all(shape[:-2] == other[:-2] for shape, other in kernels) else 1


def _shapes(layer: keras.Layer) -> Shapes:
    return [tuple(weight.shape) for weight in layer.weights]


def _best_alignment(scores: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of rows and columns, both increasing, with the largest sum of scores."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1), dtype=int)
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            matched = best[i + 1, j + 1] + scores[i, j] if scores[i, j] else 0
            best[i, j] = max(matched, best[i + 1, j], best[i, j + 1])
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        if scores[i, j] and best[i, j] == best[i + 1, j + 1] + scores[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs

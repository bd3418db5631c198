"""DARTS: a normal and a reduction cell of separable convolutions and pooling."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical
from keras_nas_plugin.space.language.base import Builder, Declaration, Node, T, join
from keras_nas_plugin.space.language.cell import Stack
from keras_nas_plugin.space.language.choices import InputChoice
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Branches, Identity, Layer, Sequential
from keras_nas_plugin.space.language.parts import Fork, Pick
from keras_nas_plugin.space.language.values import Decide
from keras_nas_plugin.space.presets.scaling import Step, at_most, scaled
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    CLASSIFICATION,
    classifier,
    positive,
    shape_of,
)

OPERATIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
)
_OPERATION_DOMAIN = Categorical(OPERATIONS)
_PAIRS = InputChoice(2)
# Two pairs (operation, source) per node; the sources 0 and 1 are the two preceding cells.
Genotype = Sequence[tuple[str, int]]
#: The cells that second-order DARTS found (section 3.1), called DARTS_V2 in the authors' code.
DARTS_V2: Mapping[str, Genotype] = {
    "normal": (
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("dil_conv_3x3", 2),
    ),
    "reduction": (
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("max_pool_3x3", 1), ("skip_connect", 2),
        ("max_pool_3x3", 0), ("skip_connect", 2),
        ("max_pool_3x3", 1), ("skip_connect", 2),
    ),
}  # fmt: skip
_SMALLER: Sequence[Step] = (
    ("channels", at_most(12)),
    ("channels", at_most(8)),
    ("cells", at_most(6)),
    ("channels", at_most(6)),
    ("cells", at_most(4)),
    ("channels", at_most(4)),
    ("cells", at_most(3)),
    ("channels", at_most(2)),
)


def darts(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    channels: int | None = None,
    cells: int | None = None,
    nodes: int = 4,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile = CLASSIFICATION,
) -> SpaceHyperModel:
    """The cells of DARTS: every node sums two inputs, each through one of seven operations.

    Source: Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", sections
    2.1 and 3.1. The first architecture is the one that second-order DARTS found on CIFAR-10.
    For the networks of the paper's tables, use ``channels=36, cells=20``.

    Trainable parameters for images of 32 x 32 x 3:
    101 k to 493 k (first: 246 k); see ``rows`` and ``budget``.

    Args:
        inputs: Height, width and channels of the images.
        classes: Number of classes.
        channels: Channels of a node in the first cell; doubled in each of the two reduction
            cells. Defaults to 16.
        cells: Number of cells, at least 3; those at a third and at two thirds of the depth
            are reduction cells. Defaults to 8.
        nodes: Number of computed nodes of a cell; 4 in the paper.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: A number is too small.
    """
    shape_of("inputs", inputs, ("height", "width", "channels"))

    def build(**arguments: Any) -> SpaceHyperModel:
        space = darts_space(classes, nodes=nodes, **arguments)
        return SpaceHyperModel(space, inputs=inputs, compile=compile, name="darts", check=False)

    return scaled(
        build,
        {"channels": 16, "cells": 8},
        {"channels": channels, "cells": cells},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def darts_space(classes: int, *, channels: int = 16, cells: int = 8, nodes: int = 4) -> Node:
    """Only the description, to be part of a larger space; see `darts`.

    A node's decisions are named ``normal/3/from`` (which two of the earlier nodes),
    ``normal/3/op0`` and ``normal/3/op1``; nodes 0 and 1 are the two preceding cells, and node
    2 always takes both. Those of the reduction cell begin with ``reduction``.
    """
    positive("channels", channels)
    positive("cells", cells, least=3)
    positive("nodes", nodes)
    return Sequential(
        stem=Sequential(_convolution(3 * channels, 3), Layer("BatchNormalization", **BATCH_NORM)),
        cells=Stack(*_cells(channels, cells, nodes)),
        pool="GlobalAveragePooling2D",
        head=classifier(classes),
    )


def darts_values(normal: Genotype, reduction: Genotype) -> dict[str, str]:
    """The values of a published genotype, for the first trials of a search.

    Args:
        normal: Two pairs of operation and source per node, as in the authors' code.
        reduction: The same for the reduction cell.

    Raises:
        SearchSpaceError: An operation is unknown, or a node's two sources are not two
            different earlier nodes.
    """
    values = {}
    for cell, genotype in (("normal", normal), ("reduction", reduction)):
        pairs = list(genotype)
        for node in range(2, 2 + len(pairs) // 2):
            edges = sorted(pairs[2 * node - 4 : 2 * node - 2], key=lambda pair: pair[1])
            sources = [source for _, source in edges]
            valid = all(operation in OPERATIONS for operation, _ in edges)
            if len(pairs) % 2 or not valid or not 0 <= sources[0] < sources[1] < node:
                raise SearchSpaceError(
                    f"`{cell}` must have two pairs for node {node}, each of an operation of "
                    f"{OPERATIONS} and a different earlier node; got {edges}"
                )
            if node > 2:
                values[f"{cell}/{node}/from"] = f"{sources[0]}+{sources[1]}"
            values |= {f"{cell}/{node}/op{slot}": edges[slot][0] for slot in range(2)}
    return values


def _cells(channels: int, cells: int, nodes: int) -> list[Node]:
    """The cells; each projects the outputs of the two cells before it to its own shape."""
    reductions = (cells // 3, 2 * cells // 3)
    nodes_of_stack: list[Node] = []
    width = channels
    for index in range(cells):
        reducing = index in reductions
        width = 2 * width if reducing else width
        after_reduction = index - 1 in reductions
        before = factorized_reduction(width) if after_reduction else _projection(width)
        nodes_of_stack.append(
            Fork(
                DartsCell(width, nodes, reducing=reducing),
                before=Pick(0, before),
                last=Pick(1, _projection(width)),
            )
        )
    return nodes_of_stack


class DartsCell(Node):
    """One cell. All normal cells share their decisions, and so do all reduction cells.

    In a reduction cell, only operations on the cell's two inputs have strides.

    Args:
        width: Channels of each node.
        nodes: Number of computed nodes.
        reducing: Whether it is a reduction cell.
    """

    def __init__(self, width: int, nodes: int, *, reducing: bool) -> None:
        kind = "reduction" if reducing else "normal"
        super().__init__(name=kind)
        self.nodes = nodes
        self.published = DARTS_V2[kind]
        self.plain = operations(width, 1)
        self.first = operations(width, 2) if reducing else self.plain

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for node in range(2, 2 + self.nodes):
            published = self.published[2 * node - 4 : 2 * node - 2]
            pairs = published or (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
            if node > 2:
                default = "+".join(str(source) for _, source in pairs)
                declaration.choose(join(path, f"{node}/from"), _source_domain(node), default)
            for slot, (operation, _) in enumerate(pairs):
                declaration.choose(join(path, f"{node}/op{slot}"), _OPERATION_DOMAIN, operation)

    def wiring(self, decide: Decide, path: str) -> list[list[tuple[str, int]]]:
        """Operations and their sources, node by node.

        Args:
            decide: Returns the value of a decision, given its name and domain.
            path: Path of the cell.
        """
        wiring = []
        for node in range(2, 2 + self.nodes):
            sources: tuple[int, ...] = (0, 1)
            if node > 2:
                sources = _sources(node)[decide(join(path, f"{node}/from"), _source_domain(node))]
            names = [decide(join(path, f"{node}/op{slot}"), _OPERATION_DOMAIN) for slot in (0, 1)]
            wiring.append(list(zip(names, sources, strict=True)))
        return wiring

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        states = list(inputs)
        for node in range(2, 2 + self.nodes):
            states.append(self._node(builder, path, node, tuple(states)))
        # Every order is correct (see `canonical_order`), so that a builder that makes no
        # decisions may return any values here.
        order = canonical_order(self.wiring(builder.value, path))
        return builder.merge("concatenate", [states[node] for node in order], join(path, "output"))

    def _node(self, builder: Builder[T], path: str, node: int, states: Sequence[T]) -> T:
        @functools.cache  # pairs of sources share the operations on common sources
        def result(slot: int, source: int) -> T:
            operations = self.first if source < 2 else self.plain
            decision = join(path, f"{node}/op{slot}")
            options = {
                name: functools.partial(builder.part, operation, decision, [states[source]])
                for name, operation in operations.items()
            }
            return builder.choose(decision, options, [states[source]])

        def combine(sources: tuple[int, ...]) -> T:
            results = [result(slot, source) for slot, source in enumerate(sources)]
            return builder.merge("add", results, join(path, node))

        return _PAIRS.select(builder, join(path, f"{node}/from"), states, combine)


def canonical_order(wiring: Sequence[Sequence[tuple[str, int]]]) -> list[int]:
    """The computed nodes of a cell in an order that does not depend on their numbers.

    The output of a cell concatenates its nodes, and the layers after it have weights for each
    channel: the order of the nodes is arbitrary. With this order, cells that differ only in the
    numbering of their nodes become equal graphs.

    Args:
        wiring: Operations and sources of each node, starting at node 2.

    >>> canonical_order([[("skip", 0), ("pool", 1)], [("conv", 0), ("pool", 1)]])
    [3, 2]
    """
    upstream = ["0", "1"]
    for pairs in wiring:
        upstream.append(str(sorted((name, upstream[source]) for name, source in pairs)))
    consumers: list[list[tuple[str, str, str]]] = [[] for _ in upstream]
    downstream = [""] * len(upstream)
    for node in range(len(upstream) - 1, 1, -1):
        downstream[node] = str(sorted(consumers[node]))
        for name, source in wiring[node - 2]:
            consumers[source].append((name, upstream[node], downstream[node]))
    return sorted(range(2, len(upstream)), key=lambda node: (upstream[node], downstream[node]))


def _sources(node: int) -> dict[str, tuple[int, ...]]:
    """Pairs of earlier nodes by the name of the pair."""
    return _PAIRS.options(node, "from")


def _source_domain(node: int) -> Categorical:
    return Categorical(tuple(_sources(node)))


def operations(width: int, strides: int) -> dict[str, Node]:
    """The seven operations; all halve the resolution if ``strides`` is 2."""
    return {
        "sep_conv_3x3": _separable(width, 3, strides),
        "sep_conv_5x5": _separable(width, 5, strides),
        "dil_conv_3x3": _dilated(width, 3, strides),
        "dil_conv_5x5": _dilated(width, 5, strides),
        "max_pool_3x3": Layer("MaxPooling2D", pool_size=3, strides=strides, padding="same"),
        "avg_pool_3x3": Layer("AveragePooling2D", pool_size=3, strides=strides, padding="same"),
        "skip_connect": Identity() if strides == 1 else factorized_reduction(width),
    }


def _separable(width: int, kernel_size: int, strides: int) -> Node:
    """Two separable convolutions, as in NASNet (Zoph et al. 2018); the first has the strides."""
    parts: list[Any] = []
    for step in (strides, 1):
        convolution = Layer(
            "SeparableConv2D",
            filters=width,
            kernel_size=kernel_size,
            strides=step,
            padding="same",
            use_bias=False,
        )
        parts += ["ReLU", convolution, Layer("BatchNormalization", **BATCH_NORM)]
    return Sequential(*parts)


def _dilated(width: int, kernel_size: int, strides: int) -> Node:
    """A dilated depthwise convolution and a pointwise one, which has the strides.

    Keras does not support strides and dilation in one convolution. Strides in the pointwise
    convolution give the same result, because it selects the same positions.
    """
    depthwise = Layer(
        "DepthwiseConv2D",
        kernel_size=kernel_size,
        dilation_rate=2,
        padding="same",
        use_bias=False,
    )
    return Sequential(
        "ReLU",
        depthwise,
        _convolution(width, 1, strides),
        Layer("BatchNormalization", **BATCH_NORM),
    )


def factorized_reduction(width: int) -> Node:
    """Halves the resolution without losing pixels: pointwise convolutions on two shifted grids.

    Odd sizes are rounded up, as in pooling.
    """
    if width < 2:
        raise SearchSpaceError(f"`channels` must be at least 2 for a reduction; got {width}")
    shifted = Sequential(
        Layer("ZeroPadding2D", padding=((0, 1), (0, 1))),
        Layer("Cropping2D", cropping=((1, 0), (1, 0))),
        _convolution(width - width // 2, 1, strides=2),
    )
    return Sequential(
        "ReLU",
        Branches(_convolution(width // 2, 1, strides=2), shifted, merge="concatenate"),
        Layer("BatchNormalization", **BATCH_NORM),
    )


def _projection(width: int) -> Node:
    return Sequential("ReLU", _convolution(width, 1), Layer("BatchNormalization", **BATCH_NORM))


def _convolution(width: int, kernel_size: int, strides: int = 1) -> Node:
    return Layer(
        "Conv2D",
        filters=width,
        kernel_size=kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
    )

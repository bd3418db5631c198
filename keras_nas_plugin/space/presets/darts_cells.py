"""DARTS: a normal and a reduction cell of separable convolutions and pooling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.cell import Stack
from keras_nas_plugin.space.domains import Categorical
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Branches, Identity, Layer, Node, Sequential, join
from keras_nas_plugin.space.presets.parts import Fork, Pick
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    CLASSIFICATION,
    classifier,
    positive,
    shape_of,
)

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration

OPERATIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
)
# Two (operation, source) per node; the sources 0 and 1 are the two cells before.
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


def darts(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    channels: int = 16,
    cells: int = 8,
    nodes: int = 4,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] = CLASSIFICATION,
) -> SpaceHyperModel:
    """The cells of DARTS: two inputs and one of seven operations each for every node.

    Source: Liu, Simonyan & Yang 2019, "DARTS: Differentiable Architecture Search", sections
    2.1 and 3.1. The first architecture is the one that second-order DARTS found on CIFAR-10.
    For the networks of the paper's tables, take ``channels=36, cells=20``.

    Args:
        inputs: Height, width and channels of the images.
        classes: How many there are to tell apart.
        channels: Of a node in the first cell; doubled in each of the two reduction cells.
        cells: How many in all, at least 3; those at a third and at two thirds reduce.
        nodes: Computed nodes of a cell; 4 in the paper.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: A number is too small.
    """
    shape_of("inputs", inputs, ("height", "width", "channels"))
    space = darts_space(classes, channels=channels, cells=cells, nodes=nodes)
    return SpaceHyperModel(space, inputs=inputs, compile=compile, name="darts", check=False)


def darts_space(classes: int, *, channels: int = 16, cells: int = 8, nodes: int = 4) -> Node:
    """The description alone; see `darts`.

    A node's decisions are called ``normal/3/from`` (which two of the earlier nodes),
    ``normal/3/op0`` and ``normal/3/op1``; nodes 0 and 1 are the two cells before, and node 2
    has no other choice than both. Those of the reduction cell begin with ``reduction``.
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
    """The values of a published genotype, for the trials that a search begins with.

    Args:
        normal: Two pairs of operation and source per node, as in the authors' code.
        reduction: The same of the reduction cell.

    Raises:
        SearchSpaceError: An operation is unknown, or a node takes a source twice or from ahead.
    """
    values = {}
    for cell, genotype in (("normal", normal), ("reduction", reduction)):
        pairs = list(genotype)
        for node in range(2, 2 + len(pairs) // 2):
            two = sorted(pairs[2 * node - 4 : 2 * node - 2], key=lambda pair: pair[1])
            sources = [source for _, source in two]
            known = all(operation in OPERATIONS for operation, _ in two)
            if len(pairs) % 2 or not known or not 0 <= sources[0] < sources[1] < node:
                raise SearchSpaceError(
                    f"`{cell}` needs two pairs of an operation of {OPERATIONS} and another "
                    f"earlier node for node {node}; received {two}"
                )
            if node > 2:
                values[f"{cell}/{node}/from"] = f"{sources[0]}+{sources[1]}"
            values |= {f"{cell}/{node}/op{slot}": two[slot][0] for slot in range(2)}
    return values


def _cells(channels: int, cells: int, nodes: int) -> list[Node]:
    """Each cell brings the outputs of the two before it to its own width and resolution."""
    reductions = (cells // 3, 2 * cells // 3)
    made: list[Node] = []
    width = channels
    for index in range(cells):
        reducing = index in reductions
        width = 2 * width if reducing else width
        shrinks = index - 1 in reductions
        made.append(
            Fork(
                DartsCell(width, nodes, reducing=reducing),
                before=Pick(0, factorized_reduction(width) if shrinks else _projection(width)),
                last=Pick(1, _projection(width)),
            )
        )
    return made


class DartsCell(Node):
    """One cell; all normal cells make their choices once, and so do all reduction cells.

    In a reduction cell, only operations on the cell's two inputs have strides.

    Args:
        width: Channels of each node.
        nodes: How many are computed.
        reducing: Whether it is a reduction cell.
    """

    def __init__(self, width: int, nodes: int, *, reducing: bool) -> None:
        kind = "reduction" if reducing else "normal"
        super().__init__(name=kind)
        self.nodes = nodes
        self.found = DARTS_V2[kind]
        self.plain = operations(width, 1)
        self.first = operations(width, 2) if reducing else self.plain

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for node in range(2, 2 + self.nodes):
            published = self.found[2 * node - 4 : 2 * node - 2]
            pairs = published or (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
            if node > 2:
                default = "+".join(str(source) for _, source in pairs)
                place = join(path, f"{node}/from")
                declaration.choose(place, Categorical(tuple(_sources(node))), default)
            for slot, (operation, _) in enumerate(pairs):
                place = join(path, f"{node}/op{slot}")
                declaration.choose(place, Categorical(OPERATIONS), operation)

    def wiring(self, values: Mapping[str, Any], path: str) -> list[list[tuple[str, int]]]:
        """Operations and their sources, node by node."""
        wired = []
        for node in range(2, 2 + self.nodes):
            sources = _sources(node)[values[join(path, f"{node}/from")]] if node > 2 else (0, 1)
            names = [values[join(path, f"{node}/op{slot}")] for slot in range(2)]
            wired.append(list(zip(names, sources, strict=True)))
        return wired

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        wired = self.wiring(builder.values, path)
        states = list(inputs)
        for node, pairs in enumerate(wired, start=2):
            results = []
            for slot, (name, source) in enumerate(pairs):
                operation = (self.first if source < 2 else self.plain)[name]
                place = join(path, f"{node}/op{slot}")
                results.append(builder.part(operation, place, [states[source]]))
            states.append(builder.merge("add", results, join(path, node)))
        computed = [states[node] for node in canonical_order(wired)]
        return builder.merge("concatenate", computed, join(path, "output"))


def canonical_order(wired: Sequence[Sequence[tuple[str, int]]]) -> list[int]:
    """The computed nodes of a cell in an order that does not depend on their numbers.

    The output of a cell concatenates its nodes, and what follows weighs each channel by
    itself: their order means nothing. In this one, cells that differ only in the numbering of
    their nodes become equal graphs.

    Args:
        wired: Operations and sources of each node, from node 2 on.

    >>> canonical_order([[("skip", 0), ("pool", 1)], [("conv", 0), ("pool", 1)]])
    [3, 2]
    """
    ahead = ["0", "1"]
    for pairs in wired:
        ahead.append(str(sorted((name, ahead[source]) for name, source in pairs)))
    fed: list[list[tuple[str, str, str]]] = [[] for _ in ahead]
    behind = [""] * len(ahead)
    for node in range(len(ahead) - 1, 1, -1):
        behind[node] = str(sorted(fed[node]))
        for name, source in wired[node - 2]:
            fed[source].append((name, ahead[node], behind[node]))
    return sorted(range(2, len(ahead)), key=lambda node: (ahead[node], behind[node]))


def _sources(node: int) -> dict[str, tuple[int, int]]:
    return {f"{a}+{b}": (a, b) for a, b in itertools.combinations(range(node), 2)}


def operations(width: int, strides: int) -> dict[str, Node]:
    """The seven operations; all halve the resolution where ``strides`` is 2."""
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
    """Applied twice, as in NASNet (Zoph et al. 2018); the first time with strides."""
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

    The result is that of strides in the first: both see the same positions. Keras has no
    convolution with strides and dilation.
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
    """Half the resolution without losing pixels: two pointwise convolutions on shifted grids.

    Odd sizes are rounded up, as by pooling.
    """
    if width < 2:
        raise SearchSpaceError(f"`channels` needs at least 2 for a reduction; received {width}")
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

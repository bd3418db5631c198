"""NAS-Bench-201: one cell of four nodes and five operations, stacked in three stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.cell import Cell
from keras_nas_plugin.space.language.choices import Repeat
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Branches, Identity, Layer, Sequential, Zero
from keras_nas_plugin.space.presets.scaling import Step, at_most, scaled
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    CLASSIFICATION,
    classifier,
    positive,
    shape_of,
)

_SMALLER: Sequence[Step] = (
    ("cells_per_stage", at_most(3)),
    ("channels", at_most(8)),
    ("cells_per_stage", at_most(2)),
    ("cells_per_stage", at_most(1)),
    ("channels", at_most(4)),
)


def nas_bench_201(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    channels: int | None = None,
    cells_per_stage: int | None = None,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile = CLASSIFICATION,
) -> SpaceHyperModel:
    """The 15,625 networks of NAS-Bench-201, the topology space of NATS-Bench.

    Source: Dong & Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural
    Architecture Search", section 2.1.

    Trainable parameters for images of 32 x 32 x 3:
    73 k to 1.5 M (first: 1.5 M); see ``rows`` and ``budget``.

    Args:
        inputs: Height, width and channels of the images.
        classes: Number of classes.
        channels: Channels of the first stage; doubled in each of the two stages after it.
            Defaults to 16, as in the paper.
        cells_per_stage: Cells in each of the three stages. Defaults to 5, as in the paper.
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
        space = nas_bench_201_space(classes, **arguments)
        return SpaceHyperModel(
            space, inputs=inputs, compile=compile, name="nas_bench_201", check=False
        )

    return scaled(
        build,
        {"channels": 16, "cells_per_stage": 5},
        {"channels": channels, "cells_per_stage": cells_per_stage},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def nas_bench_201_space(classes: int, *, channels: int = 16, cells_per_stage: int = 5) -> Node:
    """Only the description, to be part of a larger space; see `nas_bench_201`.

    Its six decisions are named ``cell/0to1``, ``cell/0to2``, ``cell/1to2``, ``cell/0to3``,
    ``cell/1to3`` and ``cell/2to3``; their values are the operations of the benchmark's tables.
    """
    positive("channels", channels)
    positive("cells_per_stage", cells_per_stage)
    widths = [channels, channels * 2, channels * 4]
    stages = [Repeat(_cell(width), cells_per_stage) for width in widths]
    return Sequential(
        stem=Sequential(_convolution(channels, 3), Layer("BatchNormalization", **BATCH_NORM)),
        stage1=stages[0],
        reduction1=_reduction(widths[1]),
        stage2=stages[1],
        reduction2=_reduction(widths[2]),
        stage3=stages[2],
        norm=Layer("BatchNormalization", **BATCH_NORM),
        activation="ReLU",
        pool="GlobalAveragePooling2D",
        head=classifier(classes),
    )


def _cell(width: int) -> Cell:
    """A cell of a stage; all cells have one name, so that they share their decisions."""
    operations = {
        "none": Zero(),
        "skip_connect": Identity(),
        "nor_conv_1x1": _operation(width, 1),
        "nor_conv_3x3": _operation(width, 3),
        "avg_pool_3x3": Layer("AveragePooling2D", pool_size=3, strides=1, padding="same"),
    }
    return Cell(operations, nodes=3, default="nor_conv_3x3", name="cell")


def _reduction(width: int) -> Node:
    """The residual block between two stages: half the resolution, twice the width."""
    shortcut = Sequential(
        Layer("AveragePooling2D", pool_size=2, padding="same"), _convolution(width, 1)
    )
    return Branches(
        residual=Sequential(_operation(width, 3, strides=2), _operation(width, 3)),
        shortcut=shortcut,
    )


def _operation(width: int, kernel_size: int, strides: int = 1) -> Node:
    return Sequential(
        "ReLU",
        _convolution(width, kernel_size, strides),
        Layer("BatchNormalization", **BATCH_NORM),
    )


def _convolution(width: int, kernel_size: int, strides: int = 1) -> Node:
    return Layer(
        "Conv2D",
        filters=width,
        kernel_size=kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
    )

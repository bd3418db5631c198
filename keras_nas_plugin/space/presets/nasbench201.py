"""NAS-Bench-201: one cell of four nodes and five operations, stacked in three stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_nas_plugin.space.cell import Cell
from keras_nas_plugin.space.choices import Repeat
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Branches, Identity, Layer, Node, Sequential, Zero
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    CLASSIFICATION,
    classifier,
    positive,
    shape_of,
)


def nas_bench_201(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    channels: int = 16,
    cells_per_stage: int = 5,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] = CLASSIFICATION,
) -> SpaceHyperModel:
    """The 15,625 networks of NAS-Bench-201, the topology space of NATS-Bench.

    Source: Dong & Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural
    Architecture Search", section 2.1.

    Args:
        inputs: Height, width and channels of the images.
        classes: How many there are to tell apart.
        channels: Of the first stage; each of the two following has twice as many.
        cells_per_stage: Cells in each of the three stages; 5 in the paper.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: A number is too small.
    """
    shape_of("inputs", inputs, ("height", "width", "channels"))
    space = nas_bench_201_space(classes, channels=channels, cells_per_stage=cells_per_stage)
    return SpaceHyperModel(
        space, inputs=inputs, compile=compile, name="nas_bench_201", check=False
    )


def nas_bench_201_space(classes: int, *, channels: int = 16, cells_per_stage: int = 5) -> Node:
    """The description alone; see `nas_bench_201`.

    Its six decisions are called ``cell/0to1``, ``cell/0to2``, ``cell/1to2``, ``cell/0to3``,
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
    """One name: the same operations in all cells, each with its stage's width."""
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

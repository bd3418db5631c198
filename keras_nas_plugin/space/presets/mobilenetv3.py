"""MobileNetV3: inverted residuals of elastic depth, width, kernel and expansion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
from keras_nas_plugin.space.presets.images import convolution_block, inverted_residual, rounded
from keras_nas_plugin.space.presets.parts import Stage
from keras_nas_plugin.space.presets.tasks import (
    CLASSIFICATION,
    between,
    classifier,
    decided,
    fractions,
    numbers,
    positive,
    rate,
    shape_of,
)
from keras_nas_plugin.space.values import ValueChoice

# Once-for-All's stages: channels, strides, activation, squeeze-excitation in MobileNetV3.
_STAGES = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hard_swish", False),
    (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)


def mobilenet_v3(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    width: float = 1.0,
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    depths: tuple[int, int] = (2, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 4, 6),
    stages: int = 5,
    stem_strides: int = 1,
    dropout: float = 0.1,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] = CLASSIFICATION,
) -> SpaceHyperModel:
    """Networks like MobileNetV3, with the choices of Once-for-All in each block.

    Sources: Howard et al. 2019, "Searching for MobileNetV3"; Cai et al. 2020, "Once-for-All:
    Train One Network and Specialize it for Efficient Deployment", section 3. Squeeze and
    excitation, and the width of each stage, are decided as well.

    Args:
        inputs: Height, width and channels of the images.
        classes: How many there are to tell apart.
        width: Multiplies the channels of all layers.
        widths: What the channels of each stage may be multiplied with.
        depths: Fewest and most blocks of a stage.
        kernels: Sizes of depthwise convolutions.
        expansions: Channels within a block, as multiples of those that come in.
        stages: The first of the five stages, for small images.
        stem_strides: 1 for small images; 2 as in the paper, from about 96 pixels on.
        dropout: Before the classifier.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    shape_of("inputs", inputs, ("height", "width", "channels"))
    space = mobilenet_v3_space(
        classes,
        width=width,
        widths=widths,
        depths=depths,
        kernels=kernels,
        expansions=expansions,
        stages=stages,
        stem_strides=stem_strides,
        dropout=dropout,
    )
    return SpaceHyperModel(space, inputs=inputs, compile=compile, name="mobilenet_v3", check=False)


def mobilenet_v3_space(
    classes: int,
    *,
    width: float = 1.0,
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    depths: tuple[int, int] = (2, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 4, 6),
    stages: int = 5,
    stem_strides: int = 1,
    dropout: float = 0.1,
) -> Node:
    """The description alone; see `mobilenet_v3`.

    Decisions are called ``stage1/depth``, ``stage1/0/filters`` (the channels of the whole
    stage), ``stage1/0/kernel_size``, ``stage1/0/expansion`` and ``stage1/0/squeeze_excite``;
    blocks count from 0, those beyond the depth are not decided.
    """
    (width,) = fractions("width", [width])
    widths = fractions("widths", widths)
    fewest, most = between("depths", depths)
    kernels, expansions = numbers("kernels", kernels), numbers("expansions", expansions)
    positive("stem_strides", stem_strides)
    if positive("stages", stages) > len(_STAGES):
        raise SearchSpaceError(f"`stages` needs at most {len(_STAGES)}; received {stages}")
    parts: dict[str, Node] = {
        "stem": _convolution(16 * width, 3, strides=stem_strides),
        "first": Layer(
            inverted_residual,
            filters=rounded(16 * width),
            kernel_size=3,
            expansion=1,
            squeeze_excite=False,
        ),
    }
    for number, (channels, strides, activation, squeeze) in enumerate(_STAGES[:stages], start=1):
        options = {
            "kernel_size": decided(kernels, 3),
            "expansion": decided(expansions, 4),
            "squeeze_excite": ValueChoice([False, True], default=squeeze),
            "activation": activation,
        }
        filters = list(dict.fromkeys(rounded(channels * width * one) for one in widths))
        first = Layer(
            inverted_residual,
            filters=decided(filters, rounded(channels * width)),
            strides=strides,
            **options,
        )
        block = Layer(inverted_residual, filters=None, **options)
        parts[f"stage{number}"] = Stage(block, fewest, most, first=first)
    return Sequential(
        **parts,
        last=_convolution(960 * width, 1),
        pool=Layer("GlobalAveragePooling2D"),
        features=Layer("Dense", units=rounded(1280 * width), activation="hard_swish"),
        dropout=Layer("Dropout", rate=rate("dropout", dropout)),
        head=classifier(classes),
    )


def _convolution(filters: float, kernel_size: int, strides: int = 1) -> Node:
    return Layer(
        convolution_block,
        filters=rounded(filters),
        kernel_size=kernel_size,
        strides=strides,
        activation="hard_swish",
    )

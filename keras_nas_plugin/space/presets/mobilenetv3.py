"""MobileNetV3: inverted residuals of elastic depth, width, kernel and expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.choices import Repeat
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.values import ValueChoice
from keras_nas_plugin.space.presets.images import convolution_block, inverted_residual, rounded
from keras_nas_plugin.space.presets.scaling import Step, at_most, halvings, scaled, up_to
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

# The stages of Once-for-All: channels, strides, activation, and whether MobileNetV3 has squeeze
# and excitation there.
_STAGES = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hard_swish", False),
    (112, 1, "hard_swish", True),
    (160, 2, "hard_swish", True),
)
_SMALLER: Sequence[Step] = (
    ("depths", up_to(3)),
    ("width", at_most(0.75)),
    ("width", at_most(0.5)),
    ("depths", up_to(2)),
    ("stages", at_most(4)),
    ("expansions", at_most(4)),
    ("stages", at_most(3)),
    ("width", at_most(0.25)),
    ("depths", lambda depths: (1, min(2, depths[1]))),
    ("stages", at_most(2)),
    ("width", at_most(0.125)),
)


def mobilenet_v3(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    width: float | None = None,
    widths: Sequence[float] = (0.75, 1.0, 1.25),
    depths: tuple[int, int] | None = None,
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] | None = None,
    stages: int | None = None,
    stem_strides: int = 1,
    dropout: float = 0.1,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile = CLASSIFICATION,
) -> SpaceHyperModel:
    """Networks like MobileNetV3, with the choices of Once-for-All in each block.

    Sources: Howard et al. 2019, "Searching for MobileNetV3"; Cai et al. 2020, "Once-for-All:
    Train One Network and Specialize it for Efficient Deployment", section 3. The use of squeeze
    and excitation and the width of each stage are searched as well.

    Trainable parameters for images of 32 x 32 x 3:
    1.7 M to 10 M (first: 2.5 M); see ``rows`` and ``budget``.

    Args:
        inputs: Height, width and channels of the images.
        classes: Number of classes.
        width: Multiplies the channels of all layers. Defaults to 1.
        widths: Options for the factor that multiplies the channels of a stage.
        depths: Minimum and maximum number of blocks of a stage. Defaults to 2 and 4.
        kernels: Options for the kernel size of depthwise convolutions.
        expansions: Options for the channels within a block, as multiples of its input channels.
            Defaults to 3, 4 and 6.
        stages: Number of stages, at most 5; all but the fourth halve the resolution. Defaults to
            5, or as many as keep 2 pixels.
        stem_strides: Strides of the stem: 1 for small images; 2, as in the paper, for images of
            about 96 pixels or more.
        dropout: Dropout rate before the classifier.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument is invalid.
    """
    image = shape_of("inputs", inputs, ("height", "width", "channels"))[:2]
    positive("stem_strides", stem_strides)

    def build(**arguments: Any) -> SpaceHyperModel:
        space = mobilenet_v3_space(
            classes,
            widths=widths,
            kernels=kernels,
            stem_strides=stem_strides,
            dropout=dropout,
            **arguments,
        )
        return SpaceHyperModel(
            space, inputs=inputs, compile=compile, name="mobilenet_v3", check=False
        )

    halved = halvings([None if size is None else -(-size // stem_strides) for size in image], 2)
    # The fourth stage keeps the resolution.
    most = len(_STAGES) if halved is None or halved > 3 else halved + (halved == 3)
    return scaled(
        build,
        {"width": 1.0, "depths": (2, 4), "expansions": (3, 4, 6), "stages": max(1, most)},
        {"width": width, "depths": depths, "expansions": expansions, "stages": stages},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


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
    """Only the description, to be part of a larger space; see `mobilenet_v3`.

    Decisions are named ``stage1/depth``, ``stage1/0/filters`` (the channels of the
    stage), ``stage1/0/kernel_size``, ``stage1/0/expansion`` and ``stage1/0/squeeze_excite``;
    blocks are numbered from 0, and those beyond the depth are inactive.
    """
    (width,) = fractions("width", [width])
    widths = fractions("widths", widths)
    fewest, most = between("depths", depths)
    kernels, expansions = numbers("kernels", kernels), numbers("expansions", expansions)
    positive("stem_strides", stem_strides)
    if positive("stages", stages) > len(_STAGES):
        raise SearchSpaceError(f"`stages` must be at most {len(_STAGES)}; got {stages}")
    parts: dict[str, Any] = {
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
        filters = list(dict.fromkeys(rounded(channels * width * factor) for factor in widths))
        first = Layer(
            inverted_residual,
            filters=decided(filters, rounded(channels * width)),
            strides=strides,
            **options,
        )
        block = Layer(inverted_residual, filters=None, **options)
        parts[f"stage{number}"] = Repeat(block, fewest, most, first=first, counter="depth")
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

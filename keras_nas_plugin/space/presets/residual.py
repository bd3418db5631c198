"""Residual networks, scaled in depth, width and resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
from keras_nas_plugin.space.presets.images import (
    convolution_block,
    residual_stage,
    resized,
    rounded,
)
from keras_nas_plugin.space.presets.tasks import (
    CLASSIFICATION,
    classifier,
    decided,
    fractions,
    numbers,
    positive,
    shape_of,
)
from keras_nas_plugin.space.values import Value

BLOCKS = ("basic", "bottleneck")


def residual_cnn(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    blocks: Sequence[int] = (2, 2, 2, 2),
    channels: int = 32,
    kinds: Sequence[str] = BLOCKS,
    depths: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    widths: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 2.0),
    resolutions: Sequence[float] = (0.5, 0.75, 1.0),
    stem_strides: int = 1,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] = CLASSIFICATION,
) -> SpaceHyperModel:
    """Residual networks with the coefficients of EfficientNet's compound scaling.

    Sources: He et al. 2016, "Deep Residual Learning for Image Recognition"; Tan & Le 2019,
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", section 3:
    what a budget buys is a deeper, a wider network or a larger image, and the best share is
    searched under a limit on operations.

    Args:
        inputs: Height, width and channels of the images.
        classes: How many there are to tell apart.
        blocks: Blocks in each stage at depth 1; each stage but the first halves the image.
        channels: Of the first stage at width 1; doubled from stage to stage.
        kinds: ``"basic"``, ``"bottleneck"`` or both.
        depths: Coefficients of the numbers of blocks, which are rounded up.
        widths: Coefficients of the channels, which become multiples of 8.
        resolutions: Coefficients of height and width. Coefficients that make the same network
            as another one, after rounding, are left out.
        stem_strides: 1 for small images; 4 gives the resolution of the paper's stem.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    sizes = shape_of("inputs", inputs, ("height", "width", "channels"))
    space = residual_cnn_space(
        classes,
        image=sizes[:2],
        blocks=blocks,
        channels=channels,
        kinds=kinds,
        depths=depths,
        widths=widths,
        resolutions=resolutions,
        stem_strides=stem_strides,
    )
    return SpaceHyperModel(space, inputs=inputs, compile=compile, name="residual_cnn", check=False)


def residual_cnn_space(
    classes: int,
    *,
    image: Sequence[int | None],
    blocks: Sequence[int] = (2, 2, 2, 2),
    channels: int = 32,
    kinds: Sequence[str] = BLOCKS,
    depths: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    widths: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 2.0),
    resolutions: Sequence[float] = (0.5, 0.75, 1.0),
    stem_strides: int = 1,
) -> Node:
    """The description alone, for images of height and width ``image``; see `residual_cnn`.

    Its decisions are called ``depth``, ``width``, ``resolution`` and ``block``.
    """
    blocks = numbers("blocks", blocks, distinct=False)
    positive("channels", channels)
    positive("stem_strides", stem_strides)
    if not kinds or isinstance(kinds, str) or not set(kinds) <= set(BLOCKS):
        raise SearchSpaceError(f"`kinds` needs some of {BLOCKS}; received {kinds!r}")
    stages = range(len(blocks))
    depth = _coefficient("depth", depths, lambda c: tuple(_deep(n, c) for n in blocks))
    width = _coefficient("width", widths, lambda c: tuple(_wide(channels, s, c) for s in stages))
    kind = decided(tuple(dict.fromkeys(kinds)), "basic", name="block")
    parts = [
        Layer(
            residual_stage,
            block=kind,
            blocks=_follows(depth, lambda c, number=number: _deep(number, c)),
            filters=_follows(width, lambda c, stage=stage: _wide(channels, stage, c)),
            strides=1 if stage == 0 else 2,
        )
        for stage, number in enumerate(blocks)
    ]
    stem = Layer(
        convolution_block,
        filters=_follows(width, lambda c: _wide(channels, 0, c)),
        kernel_size=3 if stem_strides == 1 else 7,
        strides=stem_strides,
    )
    return Sequential(
        **_resolution(image, resolutions),
        stem=stem,
        **{f"stage{number}": part for number, part in enumerate(parts, start=1)},
        pool=Layer("GlobalAveragePooling2D"),
        head=classifier(classes),
    )


def _resolution(image: Sequence[int | None], resolutions: Sequence[float]) -> dict[str, Node]:
    """The part that resizes the images, if their size is decided."""
    resolutions = fractions("resolutions", resolutions)
    if resolutions == (1.0,):
        return {}
    if None in image:
        raise SearchSpaceError(
            "`resolutions` needs images of a known height and width, or (1.0,) alone; "
            f"received {resolutions} for {tuple(image)}"
        )
    height, width = image
    scale = _coefficient(
        "resolution", resolutions, lambda c: (_large(height, c), _large(width, c))
    )
    resize = Layer(
        resized,
        height=_follows(scale, lambda c: _large(height, c)),
        width=_follows(scale, lambda c: _large(width, c)),
    )
    return {"resolution": resize}


def _coefficient(name: str, values: Sequence[float], effect: Callable[[float], Any]) -> Any:
    """A choice among coefficients, without those that make the same network as another one."""
    networks: dict[Any, float] = {}
    # 1 comes first, so that it stays.
    for one in sorted(fractions(f"{name}s", values), key=lambda one: (one != 1.0, one)):
        networks.setdefault(effect(one), one)
    return decided(sorted(networks.values()), 1.0, name=name)


def _follows(value: Any, function: Callable[[float], int]) -> Any:
    return value.map(function) if isinstance(value, Value) else function(value)


def _deep(blocks: int, coefficient: float) -> int:
    return math.ceil(blocks * coefficient)


def _wide(channels: int, stage: int, coefficient: float) -> int:
    return rounded(channels * 2**stage * coefficient)


def _large(size: int, coefficient: float) -> int:
    return max(1, round(size * coefficient))

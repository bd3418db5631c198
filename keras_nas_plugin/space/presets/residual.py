"""Residual networks, scaled in depth, width and resolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.values import Value
from keras_nas_plugin.space.presets.images import (
    convolution_block,
    residual_stage,
    resized,
    rounded,
)
from keras_nas_plugin.space.presets.scaling import Step, at_most, halvings, scaled
from keras_nas_plugin.space.presets.tasks import (
    CLASSIFICATION,
    classifier,
    decided,
    fractions,
    numbers,
    positive,
    shape_of,
)

BLOCKS = ("basic", "bottleneck")
DEPTHS = (0.5, 1.0, 1.5, 2.0)
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0)
_SMALLER: Sequence[Step] = (
    ("widths", at_most(1.5)),
    ("depths", at_most(1.5)),
    ("widths", at_most(1.0)),
    ("depths", at_most(1.0)),
    ("channels", at_most(24)),
    ("channels", at_most(16)),
    ("blocks", lambda blocks: blocks[:3]),
    ("channels", at_most(8)),
    ("blocks", lambda blocks: (1,) * len(blocks)),
    ("blocks", lambda blocks: blocks[:2]),
)


def residual_cnn(
    inputs: Shape = (32, 32, 3),
    classes: int = 10,
    *,
    blocks: Sequence[int] | None = None,
    channels: int | None = None,
    kinds: Sequence[str] = BLOCKS,
    depths: Sequence[float] | None = None,
    widths: Sequence[float] | None = None,
    resolutions: Sequence[float] = (0.5, 0.75, 1.0),
    stem_strides: int = 1,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile = CLASSIFICATION,
) -> SpaceHyperModel:
    """Residual networks with the coefficients of EfficientNet's compound scaling.

    Sources: He et al. 2016, "Deep Residual Learning for Image Recognition"; Tan & Le 2019,
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", section 3:
    the search divides a budget of operations among depth, width and resolution.

    Trainable parameters for images of 32 x 32 x 3:
    309 k to 26 M (first: 2.8 M); see ``rows`` and ``budget``.

    Args:
        inputs: Height, width and channels of the images.
        classes: Number of classes.
        blocks: Number of blocks in each stage at depth 1. Each stage but the first halves the
            resolution. Defaults to four stages of 2, or as many as keep 4 pixels.
        channels: Channels of the first stage at width 1; doubled from stage to stage. Defaults
            to 32.
        kinds: Options for the kind of block: ``"basic"``, ``"bottleneck"`` or both.
        depths: Options for the coefficient of depth. Numbers of blocks are multiplied by it and
            rounded up. Defaults to 0.5, 1, 1.5 and 2.
        widths: Options for the coefficient of width. Numbers of channels are multiplied by it
            and rounded to multiples of 8. Defaults to 0.5, 0.75, 1, 1.5 and 2.
        resolutions: Options for the coefficient of height and width. Coefficients that give the
            same network as another one, after rounding, are omitted.
        stem_strides: Strides of the stem: 1 for small images; 4 gives the resolution of the
            paper's stem.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`.

    Raises:
        SearchSpaceError: An argument is invalid.
    """
    sizes = shape_of("inputs", inputs, ("height", "width", "channels"))
    positive("stem_strides", stem_strides)

    def build(**arguments: Any) -> SpaceHyperModel:
        space = residual_cnn_space(
            classes,
            image=sizes[:2],
            kinds=kinds,
            resolutions=resolutions,
            stem_strides=stem_strides,
            **arguments,
        )
        return SpaceHyperModel(
            space, inputs=inputs, compile=compile, name="residual_cnn", check=False
        )

    after_stem = [None if size is None else -(-size // stem_strides) for size in sizes[:2]]
    halved = halvings(after_stem, 4)
    stages = 4 if halved is None else min(4, 1 + halved)
    return scaled(
        build,
        {"blocks": (2,) * stages, "channels": 32, "depths": DEPTHS, "widths": WIDTHS},
        {"blocks": blocks, "channels": channels, "depths": depths, "widths": widths},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def residual_cnn_space(
    classes: int,
    *,
    image: Sequence[int | None],
    blocks: Sequence[int] = (2, 2, 2, 2),
    channels: int = 32,
    kinds: Sequence[str] = BLOCKS,
    depths: Sequence[float] = DEPTHS,
    widths: Sequence[float] = WIDTHS,
    resolutions: Sequence[float] = (0.5, 0.75, 1.0),
    stem_strides: int = 1,
) -> Node:
    """Only the description, for images of height and width ``image``; see `residual_cnn`.

    Its decisions are named ``depth``, ``width``, ``resolution`` and ``block``.
    """
    blocks = numbers("blocks", blocks, distinct=False)
    positive("channels", channels)
    positive("stem_strides", stem_strides)
    if not kinds or isinstance(kinds, str) or not set(kinds) <= set(BLOCKS):
        raise SearchSpaceError(f"`kinds` must be some of {BLOCKS}; got {kinds!r}")
    stages = range(len(blocks))
    depth = _coefficient("depth", depths, lambda c: tuple(_deep(n, c) for n in blocks))
    width = _coefficient("width", widths, lambda c: tuple(_wide(channels, s, c) for s in stages))
    kind = decided(tuple(dict.fromkeys(kinds)), "basic", name="block")
    parts: dict[str, Any] = {
        f"stage{stage + 1}": Layer(
            residual_stage,
            block=kind,
            blocks=_follows(depth, functools.partial(_deep, number)),
            filters=_follows(width, functools.partial(_wide, channels, stage)),
            strides=1 if stage == 0 else 2,
        )
        for stage, number in enumerate(blocks)
    }
    stem = Layer(
        convolution_block,
        filters=_follows(width, lambda c: _wide(channels, 0, c)),
        kernel_size=3 if stem_strides == 1 else 7,
        strides=stem_strides,
    )
    return Sequential(
        **_resolution(image, resolutions),
        stem=stem,
        **parts,
        pool=Layer("GlobalAveragePooling2D"),
        head=classifier(classes),
    )


def _resolution(image: Sequence[int | None], resolutions: Sequence[float]) -> dict[str, Any]:
    """The part that resizes the images, if their size is searched."""
    resolutions = fractions("resolutions", resolutions)
    if resolutions == (1.0,):
        return {}
    height, width = image
    if height is None or width is None:
        raise SearchSpaceError(
            "`inputs` must have a known height and width unless `resolutions` is (1.0,); "
            f"got `resolutions` {resolutions} for images of {tuple(image)}"
        )
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
    """A choice among coefficients, without those that give the same network as another one."""
    networks: dict[Any, float] = {}
    # 1 comes first, so that it is preferred to other coefficients with the same effect.
    for coefficient in sorted(fractions(f"{name}s", values), key=lambda c: (c != 1.0, c)):
        networks.setdefault(effect(coefficient), coefficient)
    return decided(sorted(networks.values()), 1.0, name=name)


def _follows(value: Any, function: Callable[[float], int]) -> Any:
    return value.map(function) if isinstance(value, Value) else function(value)


def _deep(blocks: int, coefficient: float) -> int:
    return math.ceil(blocks * coefficient)


def _wide(channels: int, stage: int, coefficient: float) -> int:
    return rounded(channels * 2**stage * coefficient)


def _large(size: int, coefficient: float) -> int:
    return max(1, round(size * coefficient))

"""U-Net: an encoder, a decoder, and skip connections at each resolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic

from keras import KerasTensor, layers

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Builder, Declaration, Node, T, join
from keras_nas_plugin.space.language.hypermodel import Compile, Shape, SpaceHyperModel
from keras_nas_plugin.space.language.nodes import Layer
from keras_nas_plugin.space.language.values import Derived, ValueChoice
from keras_nas_plugin.space.presets.cropping import cropped
from keras_nas_plugin.space.presets.scaling import (
    Step,
    at_most,
    halvings,
    replaced,
    scaled,
    up_to,
)
from keras_nas_plugin.space.presets.tasks import (
    BATCH_NORM,
    between,
    compiled_for,
    counted,
    decided,
    numbers,
    one_task,
    positive,
    shape_of,
)

NORMS = ("batch", "group", "none")
_SMALLER: Sequence[Step] = (
    ("widths", at_most(32)),
    ("depths", up_to(3)),
    ("kernels", at_most(3)),
    ("widths", replaced((8, 16))),
    ("depths", up_to(2)),
    ("widths", replaced((4, 8))),
    ("depths", up_to(1)),
    ("widths", replaced((4,))),
)


def unet(
    inputs: Shape = (128, 128, 3),
    classes: int | None = None,
    outputs: int | None = None,
    *,
    depths: tuple[int, int] | None = None,
    widths: Sequence[int] | None = None,
    kernels: Sequence[int] | None = None,
    norms: Sequence[str] = NORMS,
    rows: int | None = None,
    budget: int | None = None,
    compile: Compile | None = None,
) -> SpaceHyperModel:
    """U-Nets, for predictions at every pixel.

    Sources: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation"; Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the
    Pancreas" (the gate); Wu & He 2018, "Group Normalization". Unlike in the first paper,
    convolutions preserve the size, so that pixels at the border are predicted as well.

    Trainable parameters for images of 128 x 128 x 3, 2 classes:
    117 k to 82 M (first: 483 k); see ``rows`` and ``budget``.

    Args:
        inputs: Height, width and channels of the images. Height and width may be odd, or None
            if they differ between batches.
        classes: Number of classes of pixels; labels are one integer per pixel.
        outputs: Number of values to predict per pixel, instead of ``classes``.
        depths: Minimum and maximum number of times that the resolution is halved. Defaults to 2
            and 4, or as many as keep 2 pixels.
        widths: Options for the channels of the first level; doubled from level to level. Defaults
            to 16, 32 and 64.
        kernels: Options for the kernel size, which is decided for each level. Defaults to 3 and 5.
        norms: Options for the normalisation: some of ``"batch"``, ``"group"`` and ``"none"``.
        rows: Number of training rows. The largest model then has at most 100 parameters per row,
            or 50,000 where that is more; see `docs/presets.md` for what is reduced. None does not
            limit the size.
        budget: Maximum number of trainable parameters of the largest model, instead of ``rows``.
        compile: See `SpaceHyperModel`. Defaults to Adam with the loss of the task.

    Raises:
        SearchSpaceError: An argument is invalid.
    """
    image = shape_of("inputs", inputs, ("height", "width", "channels"))[:2]

    def build(**arguments: Any) -> SpaceHyperModel:
        space = unet_space(classes, outputs, norms=norms, **arguments)
        return SpaceHyperModel(
            space,
            inputs=inputs,
            compile=compiled_for(classes) if compile is None else compile,
            name="unet",
            check=False,
        )

    halved = halvings(image, 2)
    most = 4 if halved is None else max(1, min(4, halved))
    return scaled(
        build,
        {"depths": up_to(most)((2, 4)), "widths": (16, 32, 64), "kernels": (3, 5)},
        {"depths": depths, "widths": widths, "kernels": kernels},
        _SMALLER,
        rows=rows,
        budget=budget,
    )


def unet_space(
    classes: int | None = None,
    outputs: int | None = None,
    *,
    depths: tuple[int, int] = (2, 4),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5),
    norms: Sequence[str] = NORMS,
) -> Node:
    """Only the description, to be part of a larger space; see `unet`.

    Its decisions are named ``depth``, ``width``, ``norm``, ``level0/kernel_size`` (one for
    encoder and decoder), ``level0/gate`` and ``bottom/kernel_size``. Those of levels beyond
    the depth are inactive.
    """
    one_task(classes, outputs)
    fewest, most = between("depths", depths)
    kernels, widths = numbers("kernels", kernels), numbers("widths", widths)
    if not norms or isinstance(norms, str) or not set(norms) <= set(NORMS):
        raise SearchSpaceError(f"`norms` must be some of {NORMS}; got {norms!r}")
    activation: dict[str, Any] = {} if classes is None else {"activation": "softmax"}
    if classes is None:
        filters = positive("outputs", outputs)
    else:
        filters = positive("classes", classes, least=2)
    head = Layer(
        "Conv2D", filters=filters, **activation, kernel_size=1, padding="same", dtype="float32"
    )
    return UShape(
        width=decided(widths, name="width"),
        kernel_size=decided(kernels, 3),
        norm=decided(tuple(dict.fromkeys(norms)), "batch", name="norm"),
        depths=(fewest, most),
        head=head,
    )


class UShape(Node):
    """The levels of a U-Net: the encoder down, the decoder up.

    Args:
        width: Channels of the first level: a number or a choice with a name.
        kernel_size: Kernel size: a number or a choice without a name, because it is decided for
            each level.
        norm: Normalisation: one of `NORMS` or a choice with a name.
        depths: Minimum and maximum number of times that the resolution is halved.
        head: The part that computes the outputs.
    """

    def __init__(
        self,
        *,
        width: int | ValueChoice,
        kernel_size: int | ValueChoice,
        norm: str | ValueChoice,
        depths: tuple[int, int],
        head: Node,
    ) -> None:
        super().__init__()
        self.fewest, self.most = depths
        self.depth = counted(self.fewest, self.most, 3, name="depth")
        self.width, self.kernel_size, self.norm = width, kernel_size, norm
        self.gate = ValueChoice([False, True])
        self.head = head

    def declare(self, declaration: Declaration, path: str) -> None:
        """See `Node.declare`."""
        for choice in (self.depth, self.width, self.norm):
            _decide(declaration, choice, path)
        for level in range(self.most):
            level_path = join(path, f"level{level}")
            if isinstance(self.depth, int) or level < self.fewest:
                self._declare_level(declaration, level_path)
                continue
            deeper = list(range(level + 1, self.most + 1))
            with declaration.when(self.depth.path(path), deeper):
                self._declare_level(declaration, level_path)
        _decide(declaration, self.kernel_size, join(path, "bottom/kernel_size"))

    def _declare_level(self, declaration: Declaration, path: str) -> None:
        _decide(declaration, self.kernel_size, join(path, "kernel_size"))
        _decide(declaration, self.gate, join(path, "gate"))

    def build(self, builder: Builder[T], path: str, inputs: Sequence[T]) -> T:
        """See `Node.build`."""
        encoder = _Encoder(self, builder, path, builder.single(inputs, path))
        if isinstance(self.depth, int):
            return self._decoded(builder, path, encoder, self.depth)
        options = {
            depth: functools.partial(self._decoded, builder, path, encoder, depth)
            for depth in range(self.fewest, self.most + 1)
        }
        return builder.choose(self.depth.path(path), options, inputs)

    def _decoded(self, builder: Builder[T], path: str, encoder: _Encoder[T], depth: int) -> T:
        """The output of the bottom, the decoder and the head of a network of this depth."""
        skipped, state = encoder.levels(depth)
        state = self.convolutions(builder, join(path, "bottom"), depth, state)
        for level in reversed(range(depth)):
            level_path = join(path, f"level{level}")
            up = Layer(up_convolution, filters=_doubled(self.width, level))
            state = builder.part(up, join(level_path, "up"), [state])
            joint = Layer(joined, gate=self.gate)
            state = builder.part(joint, level_path, [skipped[level], state])
            state = self.convolutions(builder, level_path, level, state)
        return builder.part(self.head, join(path, "head"), [state])

    def convolutions(self, builder: Builder[T], path: str, level: int, state: T) -> T:
        """The convolutions of a level, with one kernel size for the encoder and the decoder."""
        block = Layer(
            double_convolution,
            filters=_doubled(self.width, level),
            kernel_size=self.kernel_size,
            norm=self.norm,
        )
        return builder.part(block, path, [state])


class _Encoder(Generic[T]):
    """The levels of an encoder, built when needed and shared by networks of all depths."""

    def __init__(self, shape: UShape, builder: Builder[T], path: str, state: T) -> None:
        self._shape, self._builder, self._path = shape, builder, path
        self._skipped: list[T] = []
        self._states = [state]

    def levels(self, depth: int) -> tuple[list[T], T]:
        """The outputs of the first ``depth`` levels, and the pooled output of the last of them."""
        for level in range(len(self._skipped), depth):
            path = join(self._path, f"level{level}")
            state = self._shape.convolutions(self._builder, path, level, self._states[level])
            self._skipped.append(state)
            pool = Layer("MaxPooling2D", pool_size=2, padding="same")
            self._states.append(self._builder.part(pool, join(path, "down"), [state]))
        return self._skipped[:depth], self._states[depth]


def _decide(declaration: Declaration, value: object, path: str) -> None:
    if isinstance(value, ValueChoice):
        declaration.decide(value, path)


def _doubled(width: int | ValueChoice, level: int) -> int | Derived:
    return width * 2**level


def double_convolution(
    filters: int, kernel_size: int, norm: str
) -> Callable[[KerasTensor], KerasTensor]:
    """Convolution, normalisation and ReLU, applied twice."""

    def call(x: KerasTensor) -> KerasTensor:
        for _ in range(2):
            x = layers.Conv2D(filters, kernel_size, padding="same", use_bias=norm == "none")(x)
            if norm == "batch":
                x = layers.BatchNormalization(**BATCH_NORM)(x)
            elif norm == "group":
                x = layers.GroupNormalization(groups=math.gcd(8, filters))(x)
            x = layers.Activation("relu")(x)
        return x

    return call


def up_convolution(filters: int) -> Callable[[KerasTensor], KerasTensor]:
    """A transposed convolution that doubles height and width."""
    return layers.Conv2DTranspose(filters, 2, strides=2)


def joined(gate: bool) -> Callable[[Sequence[KerasTensor]], KerasTensor]:
    """Concatenates a level of the encoder and the decoder's state, cropped to its size.

    Args:
        gate: Whether the decoder's state weights the encoder's pixels (Oktay et al. 2018,
            section 3).
    """

    def call(inputs: Sequence[KerasTensor]) -> KerasTensor:
        skipped, up = inputs
        up = cropped(up, skipped)
        if gate:
            between = math.ceil(up.shape[-1] / 2)
            key = layers.Conv2D(between, 1)(skipped)
            query = layers.Conv2D(between, 1)(up)
            weight = layers.Activation("relu")(layers.Add()([key, query]))
            weight = layers.Conv2D(1, 1, activation="sigmoid")(weight)
            skipped = layers.Multiply()([skipped, weight])
        return layers.Concatenate()([skipped, up])

    return call

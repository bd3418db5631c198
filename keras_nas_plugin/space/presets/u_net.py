"""U-Net: an encoder, a decoder, and connections between them at each resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras import layers

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.hypermodel import Shape, SpaceHyperModel
from keras_nas_plugin.space.nodes import Layer, Node, join
from keras_nas_plugin.space.presets.cropping import cropped
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
from keras_nas_plugin.space.values import Value, ValueChoice

if TYPE_CHECKING:
    from keras_nas_plugin.space.building import Builder
    from keras_nas_plugin.space.declaring import Declaration

NORMS = ("batch", "group", "none")


def unet(
    inputs: Shape = (128, 128, 3),
    classes: int | None = None,
    outputs: int | None = None,
    *,
    depths: tuple[int, int] = (2, 4),
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (3, 5),
    norms: Sequence[str] = NORMS,
    compile: Mapping[str, Any] | Callable[[Any, Any], None] | None = None,
) -> SpaceHyperModel:
    """U-Nets, for an answer at every pixel.

    Sources: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation"; Oktay et al. 2018, "Attention U-Net: Learning Where to Look for the
    Pancreas" (the gate); Wu & He 2018, "Group Normalization". Unlike in the paper,
    convolutions keep the size, so that there is an answer for pixels at the border.

    Args:
        inputs: Height, width and channels of the images. Any sizes, odd ones too; None where
            they differ from batch to batch.
        classes: How many kinds of pixels there are; labels are whole numbers per pixel.
        outputs: Numbers per pixel, instead of ``classes``.
        depths: Fewest and most times that the image is halved.
        widths: Channels of the first level; doubled from level to level.
        kernels: Sizes of convolutions; each level decides for itself.
        norms: ``"batch"``, ``"group"`` and ``"none"``, or some of them.
        compile: See `SpaceHyperModel`; what suits the task without it.

    Raises:
        SearchSpaceError: An argument makes no sense.
    """
    shape_of("inputs", inputs, ("height", "width", "channels"))
    space = unet_space(
        classes, outputs, depths=depths, widths=widths, kernels=kernels, norms=norms
    )
    return SpaceHyperModel(
        space,
        inputs=inputs,
        compile=compiled_for(classes) if compile is None else compile,
        name="unet",
        check=False,
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
    """The description alone; see `unet`.

    Its decisions are called ``depth``, ``width``, ``norm``, ``level0/kernel_size`` (one for the
    way down and up), ``level0/gate`` and ``bottom/kernel_size``. Levels from the depth on are
    not decided.
    """
    one_task(classes, outputs)
    fewest, most = between("depths", depths)
    kernels, widths = numbers("kernels", kernels), numbers("widths", widths)
    if not norms or isinstance(norms, str) or not set(norms) <= set(NORMS):
        raise SearchSpaceError(f"`norms` needs some of {NORMS}; received {norms!r}")
    head = {"kernel_size": 1, "padding": "same", "dtype": "float32"}
    if classes is None:
        last = Layer("Conv2D", filters=positive("outputs", outputs), **head)
    else:
        positive("classes", classes, least=2)
        last = Layer("Conv2D", filters=classes, activation="softmax", **head)
    return UShape(
        width=decided(widths, name="width"),
        kernel_size=decided(kernels, 3),
        norm=decided(tuple(dict.fromkeys(norms)), "batch", name="norm"),
        depths=(fewest, most),
        head=last,
    )


class UShape(Node):
    """The levels of a U-Net, down and up again.

    Args:
        width: Channels of the first level: a number or a choice with a name.
        kernel_size: The same for the kernels, without a name: each level decides for itself.
        norm: The same for the normalisation, with a name.
        depths: Fewest and most times that the image is halved.
        head: What makes the outputs.
    """

    def __init__(
        self, *, width: Any, kernel_size: Any, norm: Any, depths: tuple[int, int], head: Node
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
            place = join(path, f"level{level}")
            if level < self.fewest:
                self._declare_level(declaration, place)
                continue
            deeper = list(range(level + 1, self.most + 1))
            with declaration.when(self.depth.path(path), deeper):
                self._declare_level(declaration, place)
        _decide(declaration, self.kernel_size, join(path, "bottom/kernel_size"))

    def _declare_level(self, declaration: Declaration, place: str) -> None:
        _decide(declaration, self.kernel_size, join(place, "kernel_size"))
        _decide(declaration, self.gate, join(place, "gate"))

    def build(self, builder: Builder, path: str, inputs: Sequence[Any]) -> Any:
        """See `Node.build`."""
        depth = self.depth
        if isinstance(depth, Value):
            depth = depth.value(builder.values, path)
        state, skipped = builder.one(inputs, path), []
        for level in range(depth):
            state = self._convolutions(builder, join(path, f"level{level}"), level, state)
            skipped.append(state)
            pool = Layer("MaxPooling2D", pool_size=2, padding="same")
            state = builder.part(pool, join(path, f"level{level}/down"), [state])
        state = self._convolutions(builder, join(path, "bottom"), depth, state)
        for level in reversed(range(depth)):
            place = join(path, f"level{level}")
            up = Layer(up_convolution, filters=_doubled(self.width, level))
            state = builder.part(up, join(place, "up"), [state])
            state = builder.part(Layer(joined, gate=self.gate), place, [skipped[level], state])
            state = self._convolutions(builder, place, level, state)
        return builder.part(self.head, join(path, "head"), [state])

    def _convolutions(self, builder: Builder, place: str, level: int, state: Any) -> Any:
        """Those of a level; the way up has the kernel of the way down."""
        block = Layer(
            double_convolution,
            filters=_doubled(self.width, level),
            kernel_size=self.kernel_size,
            norm=self.norm,
        )
        return builder.part(block, place, [state])


def _decide(declaration: Declaration, choice: Any, place: str) -> None:
    if isinstance(choice, ValueChoice):
        declaration.decide(choice, place)


def _doubled(width: Any, level: int) -> Any:
    return width * 2**level


def double_convolution(filters: int, kernel_size: int, norm: str) -> Callable[[Any], Any]:
    """Twice: convolution, normalisation, ReLU."""

    def call(x: Any) -> Any:
        for _ in range(2):
            x = layers.Conv2D(filters, kernel_size, padding="same", use_bias=norm == "none")(x)
            if norm == "batch":
                x = layers.BatchNormalization(**BATCH_NORM)(x)
            elif norm == "group":
                x = layers.GroupNormalization(groups=math.gcd(8, filters))(x)
            x = layers.Activation("relu")(x)
        return x

    return call


def up_convolution(filters: int) -> Callable[[Any], Any]:
    """Twice the height and width."""
    return layers.Conv2DTranspose(filters, 2, strides=2)


def joined(gate: bool) -> Callable[[Sequence[Any]], Any]:
    """What came from the way down, and what comes up, cut to the same size.

    Args:
        gate: Whether what comes up decides which pixels pass (Oktay et al. 2018, section 3).
    """

    def call(both: Sequence[Any]) -> Any:
        skipped, up = both
        up = cropped(up, skipped)
        if gate:
            between = math.ceil(up.shape[-1] / 2)
            seen = layers.Conv2D(between, 1)(skipped)
            asked = layers.Conv2D(between, 1)(up)
            weight = layers.Activation("relu")(layers.Add()([seen, asked]))
            weight = layers.Conv2D(1, 1, activation="sigmoid")(weight)
            skipped = layers.Multiply()([skipped, weight])
        return layers.Concatenate()([skipped, up])

    return call

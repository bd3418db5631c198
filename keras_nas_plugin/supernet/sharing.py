"""Which layers can be shared by architectures of different widths and kernel sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_nas_plugin.errors import SearchSpaceError

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
#: Argument that is the number of output channels, by layer.
WIDTH_ARGUMENTS = {
    "Dense": "units",
    "Embedding": "output_dim",
    **dict.fromkeys((*_CONVOLUTIONS, *_SEPARABLE, *_TRANSPOSED), "filters"),
}
#: Attribute with the kernel of which a smaller kernel is the centre, by layer.
_KERNELS = {
    **dict.fromkeys((*_CONVOLUTIONS, *_DEPTHWISE), "kernel"),
    **dict.fromkeys(_SEPARABLE, "depthwise_kernel"),
}
_POOLING = tuple(
    f"{kind}Pooling{dimensions}D"
    for kind in ("Average", "Max", "GlobalAverage", "GlobalMax")
    for dimensions in (1, 2, 3)
)
# Layers that treat each channel on its own, and map zeros to zeros.
_ZERO_PRESERVING = (
    *_POOLING,
    *("ReLU", "LeakyReLU", "ELU", "PReLU", "Dropout", "AlphaDropout", "Identity"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    *("Cropping1D", "Cropping2D", "Cropping3D"),
    *("UpSampling1D", "UpSampling2D", "UpSampling3D"),
)
_CHANNELWISE = (
    *_ZERO_PRESERVING,
    *_DEPTHWISE,
    *("BatchNormalization", "Activation", "Rescaling", "GaussianNoise"),
)
_MERGES = ("Add", "Average", "Multiply", "Maximum", "Minimum", "Subtract")
# Activations that depend on all channels.
_ACROSS_CHANNELS = ("softmax", "log_softmax", "sparsemax", "glu", "threshold")


def name_of(layer: object) -> str:
    """The name of a layer of Keras itself; empty for any other layer or block."""
    name = type(layer).__name__
    return name if getattr(keras.layers, name, None) is type(layer) else ""


def kernel_attribute(kind: object) -> str | None:
    """The attribute with the kernel of a layer whose kernel size can be shared, or None."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return _KERNELS.get(name)


def width_argument(kind: object) -> str | None:
    """The argument of a layer that is its number of output channels, or None."""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    if not isinstance(kind, str) and getattr(keras.layers, name, None) is not kind:
        return None
    return WIDTH_ARGUMENTS.get(name)


def kernels_nest(sizes: Sequence[tuple[int, ...]], arguments: dict[str, Any]) -> bool:
    """Whether smaller kernels are the centre of the largest, in the same positions of the input.

    This needs ``padding="same"``, sizes of one parity, and kernels that are no smaller than the
    strides (a smaller one is padded differently).

    Args:
        sizes: All kernel sizes.
        arguments: Arguments of the layer.
    """
    strides = arguments.get("strides", 1)
    strides = (strides,) * len(sizes[0]) if isinstance(strides, int) else tuple(strides)
    same = arguments.get("padding", "valid") == "same"
    parity = all(len({size[axis] % 2 for size in sizes}) == 1 for axis in range(len(sizes[0])))
    covering = all(
        part >= stride for size in sizes for part, stride in zip(size, strides, strict=True)
    )
    return same and parity and covering


def check_layer(layer: object, path: str) -> None:
    """Reject layers that change more than their output.

    Raises:
        SearchSpaceError: The layer has an activity regularizer, or creates a mask of time steps.
    """
    inner = getattr(layer, "layers", None) or [layer]
    for part in inner:
        if getattr(part, "activity_regularizer", None) is not None:
            raise not_shared(path, part, "it has an `activity_regularizer`")
        if getattr(part, "mask_zero", False) or isinstance(part, keras.layers.Masking):
            raise not_shared(path, part, "it masks time steps")


def check_searched_width(layer: Any, path: str) -> None:
    """Reject a layer whose number of output channels is searched, but cannot be.

    Raises:
        SearchSpaceError: An output depends on all channels.
    """
    _check_activation(layer, path)
    _check_channels(layer, path)


def check_searched_inputs(layer: Any, path: str) -> str:
    """Reject a layer that cannot take a tensor whose number of channels is searched.

    Returns:
        ``"own"`` if the layer has a width of its own, ``"same"`` if each channel of its output
        comes from one of its input, ``"merged"``, ``"joined"`` or ``"flattened"``.

    Raises:
        SearchSpaceError: There is no rule for the layer.
    """
    name = name_of(layer)
    _check_channels(layer, path)
    if name in WIDTH_ARGUMENTS and name != "Embedding":
        return "own"
    _check_activation(layer, path)
    if name in _CHANNELWISE:
        rank = len(getattr(layer, "gamma", layer).shape) if hasattr(layer, "gamma") else 1
        if rank != 1 or getattr(layer, "depth_multiplier", 1) != 1:
            raise not_shared(path, layer, "its number of input channels is searched")
        return "same"
    if name in _MERGES:
        return "merged"
    if name == "Concatenate":
        return "joined"
    if name == "Flatten":
        return "flattened"
    raise not_shared(path, layer, "its number of input channels is searched")


def preserves_zeros(layer: Any) -> bool:
    """Whether the layer maps channels of zeros to zeros."""
    return name_of(layer) in (*_ZERO_PRESERVING, *_MERGES, "Concatenate", "Flatten")


def not_shared(path: str, layer: object, reason: str) -> SearchSpaceError:
    """The error for a layer that architectures cannot share."""
    name = type(layer).__name__
    return SearchSpaceError(
        f"{name} at {path!r} cannot be shared by the architectures of a supernet, because {reason}"
    )


def _check_activation(layer: Any, path: str) -> None:
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    if activation in _ACROSS_CHANNELS:
        raise not_shared(
            path,
            layer,
            f"its activation {activation!r} depends on all channels, whose number is searched",
        )


def _check_channels(layer: Any, path: str) -> None:
    if getattr(layer, "groups", 1) != 1:
        raise not_shared(path, layer, "it has groups of channels, whose number is searched")
    if getattr(layer, "data_format", "channels_last") not in (None, "channels_last"):
        raise not_shared(path, layer, "channels whose number is searched must be the last axis")
    axis = getattr(layer, "axis", -1)
    if name_of(layer) in ("BatchNormalization", "Concatenate") and axis != -1:
        spec: Any = getattr(layer, "input_spec", None)
        if spec is None or spec.ndim is None or axis != spec.ndim - 1:
            raise not_shared(
                path, layer, "channels whose number is searched must be the last axis"
            )

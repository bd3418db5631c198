"""Outputs, losses and argument checks that the presets share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.nodes import Layer, Sequential
from keras_nas_plugin.space.language.values import ValueChoice

#: Arguments of `keras.Model.compile` for integer labels.
CLASSIFICATION: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ("accuracy",),
    }
)
#: Arguments of `keras.Model.compile` for numeric targets.
REGRESSION: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "adam",
        "loss": "mean_squared_error",
        "metrics": ("mean_absolute_error",),
    }
)
#: The settings of PyTorch's batch normalisation, with which most of the published networks were
#: trained. With them, moving averages adapt within tens of steps, so that short trials are
#: evaluated fairly.
BATCH_NORM: Mapping[str, Any] = MappingProxyType({"momentum": 0.9, "epsilon": 1e-5})


def classifier(classes: int) -> Node:
    """A softmax over classes, in float32 under any dtype policy.

    Args:
        classes: Number of classes, at least 2.

    Raises:
        SearchSpaceError: There are fewer.
    """
    positive("classes", classes, least=2)
    return Layer("Dense", units=classes, activation="softmax", dtype="float32")


def regressor(outputs: int | Sequence[int]) -> Node:
    """A linear output, in float32 under any dtype policy.

    Args:
        outputs: Number of outputs, or their shape, such as steps and channels.

    Raises:
        SearchSpaceError: One of them is not a positive integer.
    """
    if isinstance(outputs, int):
        return Layer("Dense", units=positive("outputs", outputs), dtype="float32")
    shape = numbers("outputs", outputs, distinct=False)
    return Sequential(
        Layer("Dense", units=math.prod(shape), dtype="float32"),
        Layer("Reshape", target_shape=shape, dtype="float32"),
    )


def ending(classes: int | None, outputs: int | Sequence[int] | None) -> Node:
    """A classifier or a regressor, depending on which argument is given.

    Raises:
        SearchSpaceError: Both or neither are given, or the number is invalid.
    """
    one_task(classes, outputs)
    if classes is not None:
        return classifier(classes)
    return regressor(() if outputs is None else outputs)


def compiled_for(classes: int | None) -> Mapping[str, Any]:
    """The default arguments of `keras.Model.compile` for the task."""
    return REGRESSION if classes is None else CLASSIFICATION


def one_task(classes: object, outputs: object) -> None:
    """Check that exactly one of ``classes`` and ``outputs`` is given.

    Raises:
        SearchSpaceError: Both or neither are.
    """
    if (classes is None) == (outputs is None):
        raise SearchSpaceError(
            "a preset must have either `classes` (classification) or `outputs` (regression); "
            f"got classes={classes!r}, outputs={outputs!r}"
        )


def positive(argument: str, value: object, *, least: int = 1) -> int:
    """Check an integer and its minimum.

    Raises:
        SearchSpaceError: It is not an integer, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SearchSpaceError(
            f"`{argument}` must be an integer of at least {least}; got {value!r}"
        )
    return value


def numbers(
    argument: str, values: object, *, least: int = 1, distinct: bool = True
) -> tuple[int, ...]:
    """Check one or more integers and their minimum.

    Raises:
        SearchSpaceError: They are not integers, too small, or not distinct where they must be.
    """
    listed = tuple(values) if isinstance(values, Sequence) else ()
    integers = all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in listed)
    if isinstance(values, str) or not listed or not integers:
        raise SearchSpaceError(
            f"`{argument}` must be integers of at least {least}; got {values!r}"
        )
    if distinct and len(set(listed)) < len(listed):
        raise SearchSpaceError(f"`{argument}` must be distinct; got {values!r}")
    return listed


def fractions(argument: str, values: object) -> tuple[float, ...]:
    """Check that values are distinct positive numbers.

    Raises:
        SearchSpaceError: They are not.
    """
    listed = tuple(values) if isinstance(values, Sequence) else ()
    real = all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in listed)
    if isinstance(values, str) or not listed or not real or len(set(listed)) < len(listed):
        raise SearchSpaceError(f"`{argument}` must be distinct positive numbers; got {values!r}")
    return tuple(map(float, listed))


def rate(argument: str, value: object) -> float:
    """Check that a value is a number in [0, 1), such as a dropout rate.

    Raises:
        SearchSpaceError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise SearchSpaceError(f"`{argument}` must be a number in [0, 1); got {value!r}")
    return float(value)


def between(argument: str, value: object) -> tuple[int, int]:
    """Check a pair of a minimum and a maximum.

    Raises:
        SearchSpaceError: They are not two positive integers in order.
    """
    pair = numbers(argument, value, distinct=False)
    if len(pair) != 2 or pair[0] > pair[1]:
        raise SearchSpaceError(
            f"`{argument}` must be two integers, the fewest and the most; got {value!r}"
        )
    return pair[0], pair[1]


def shape_of(argument: str, shape: object, axes: Sequence[str]) -> tuple:
    """Check a shape without the batch dimension, of which the last axis is known.

    Args:
        argument: Name of the caller's argument.
        shape: Sizes; None for a size that varies.
        axes: Names of the axes.

    Raises:
        SearchSpaceError: It has other axes, or a size is not a positive integer.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    valid = all(
        (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        or (size is None and index < len(sizes) - 1)
        for index, size in enumerate(sizes)
    )
    if len(sizes) != len(axes) or not valid:
        raise SearchSpaceError(
            f"`{argument}` must be the sizes ({', '.join(axes)}); got {shape!r}"
        )
    return sizes


def decided(values: Sequence[Any], default: object = None, name: str | None = None) -> Any:
    """A choice among several values; a single value is returned as it is.

    A default that is not among the values is ignored.
    """
    if len(values) == 1:
        return values[0]
    return ValueChoice(values, default=default if default in values else None, name=name)


def counted(fewest: int, most: int, default: int, name: str | None = None) -> int | ValueChoice:
    """A choice among consecutive integers; a single integer is returned as it is.

    Args:
        fewest: The smallest integer.
        most: The largest integer.
        default: The value in the first architecture, clipped to the range.
        name: See `ValueChoice`.
    """
    if fewest == most:
        return fewest
    default = min(max(default, fewest), most)
    return ValueChoice(low=fewest, high=most, default=default, name=name)

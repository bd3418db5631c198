"""Ends of networks, how they are compiled, and the checks that presets share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.nodes import Layer, Node, Sequential
from keras_nas_plugin.space.values import ValueChoice

#: For labels that are whole numbers.
CLASSIFICATION: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ("accuracy",),
    }
)
#: For numbers.
REGRESSION: Mapping[str, Any] = MappingProxyType(
    {
        "optimizer": "adam",
        "loss": "mean_squared_error",
        "metrics": ("mean_absolute_error",),
    }
)
#: PyTorch's BatchNormalization, which most of the published networks were trained with. Its
#: averages follow the data within some tens of steps, so that short trainings are judged fairly.
BATCH_NORM: Mapping[str, Any] = MappingProxyType({"momentum": 0.9, "epsilon": 1e-5})


def classifier(classes: int) -> Node:
    """A softmax over classes, in single precision whatever the policy.

    Args:
        classes: How many, at least 2.

    Raises:
        SearchSpaceError: There are fewer.
    """
    positive("classes", classes, least=2)
    return Layer("Dense", units=classes, activation="softmax", dtype="float32")


def regressor(outputs: int | Sequence[int]) -> Node:
    """Numbers, in single precision whatever the policy.

    Args:
        outputs: How many; several numbers are a shape, such as steps and channels.

    Raises:
        SearchSpaceError: One of them is not a whole number from 1.
    """
    if isinstance(outputs, int):
        return Layer("Dense", units=positive("outputs", outputs), dtype="float32")
    shape = numbers("outputs", outputs, distinct=False)
    return Sequential(
        Layer("Dense", units=math.prod(shape), dtype="float32"),
        Layer("Reshape", target_shape=shape, dtype="float32"),
    )


def ending(classes: int | None, outputs: int | Sequence[int] | None) -> Node:
    """A classifier or a regressor, whichever is asked for.

    Raises:
        SearchSpaceError: Both or neither is, or the number makes no sense.
    """
    one_task(classes, outputs)
    return regressor(outputs) if classes is None else classifier(classes)


def compiled_for(classes: int | None) -> Mapping[str, Any]:
    """How a model for the task is compiled when nobody says otherwise."""
    return REGRESSION if classes is None else CLASSIFICATION


def one_task(classes: Any, outputs: Any) -> None:
    """Check that it is clear what the network is for.

    Raises:
        SearchSpaceError: It is not.
    """
    if (classes is None) == (outputs is None):
        raise SearchSpaceError(
            "a preset needs either `classes` (classification) or `outputs` (regression); "
            f"received classes={classes!r}, outputs={outputs!r}"
        )


def positive(argument: str, value: Any, *, least: int = 1) -> int:
    """A whole number that is large enough.

    Raises:
        SearchSpaceError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SearchSpaceError(
            f"`{argument}` needs a whole number of at least {least}; received {value!r}"
        )
    return value


def numbers(
    argument: str, values: Any, *, least: int = 1, distinct: bool = True
) -> tuple[int, ...]:
    """Whole numbers that are large enough, at least one.

    Raises:
        SearchSpaceError: They are not, or one comes twice where that makes no sense.
    """
    listed = tuple(values) if isinstance(values, Sequence) else ()
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in listed)
    if isinstance(values, str) or not listed or not whole:
        raise SearchSpaceError(
            f"`{argument}` needs whole numbers of at least {least}; received {values!r}"
        )
    if distinct and len(set(listed)) < len(listed):
        raise SearchSpaceError(f"`{argument}` needs each number once; received {values!r}")
    return listed


def fractions(argument: str, values: Any) -> tuple[float, ...]:
    """Positive numbers, each once.

    Raises:
        SearchSpaceError: They are not.
    """
    listed = tuple(values) if isinstance(values, Sequence) else ()
    real = all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in listed)
    if isinstance(values, str) or not listed or not real or len(set(listed)) < len(listed):
        raise SearchSpaceError(
            f"`{argument}` needs positive numbers, each once; received {values!r}"
        )
    return tuple(map(float, listed))


def rate(argument: str, value: Any) -> float:
    """A share from 0 to less than 1, such as that of values that a Dropout leaves out.

    Raises:
        SearchSpaceError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise SearchSpaceError(f"`{argument}` needs a number in [0, 1); received {value!r}")
    return float(value)


def between(argument: str, value: Any) -> tuple[int, int]:
    """The fewest and the most of something.

    Raises:
        SearchSpaceError: They are not two whole numbers from 1 in order.
    """
    found = numbers(argument, value, distinct=False)
    if len(found) != 2 or found[0] > found[1]:
        raise SearchSpaceError(
            f"`{argument}` needs two numbers, the fewest and the most; received {value!r}"
        )
    return found[0], found[1]


def shape_of(argument: str, shape: Any, axes: Sequence[str], *, known: bool = False) -> tuple:
    """A shape without the batch, of which the last axis is known.

    Args:
        argument: What the caller calls it.
        shape: Sizes, None for one that varies.
        axes: What the axes are called.
        known: Whether no size may vary.

    Raises:
        SearchSpaceError: It has other axes, or a size is not a whole number.
    """
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    varies = [size is None for size in sizes[:-1]]
    right = all(
        (isinstance(size, int) and not isinstance(size, bool) and size > 0)
        or (size is None and index < len(sizes) - 1)
        for index, size in enumerate(sizes)
    )
    if len(sizes) != len(axes) or not right or (known and any(varies)):
        raise SearchSpaceError(
            f"`{argument}` needs the sizes ({', '.join(axes)})"
            f"{' without None' if known else ''}; received {shape!r}"
        )
    return sizes


def decided(values: Sequence[Any], default: Any = None, name: str | None = None) -> Any:
    """A choice among several values; a single one is no decision.

    A default that is not among the values counts as none.
    """
    if len(values) == 1:
        return values[0]
    return ValueChoice(values, default=default if default in values else None, name=name)


def counted(fewest: int, most: int, default: int, name: str | None = None) -> Any:
    """A choice among whole numbers in a row; a single one is no decision.

    Args:
        fewest: The smallest.
        most: The largest.
        default: The first architecture's; the nearest that is allowed, where it is not.
        name: See `ValueChoice`.
    """
    if fewest == most:
        return fewest
    default = min(max(default, fewest), most)
    return ValueChoice(low=fewest, high=most, default=default, name=name)

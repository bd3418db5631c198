"""Values that the search decides, and values that follow from them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real

# What KerasTuner, MLflow and files can all live with.
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


class Value:
    """Something that is known once the search has decided: a choice, or what follows from it.

    Numbers can be added, multiplied and divided as usual; `map` applies any function:

    ```python
    width = ValueChoice([8, 16, 32], name="width")
    Layer("Conv2D", filters=width * 2, kernel_size=3)
    Layer("Dense", units=width.map(lambda width: width**2))
    ```
    """

    #: The choices that it depends on.
    choices: tuple[ValueChoice, ...] = ()

    def value(self, values: Mapping[str, Any], place: str) -> Any:
        """Its value.

        Args:
            values: Values by the names of the decisions.
            place: Where it stands; see `ValueChoice.path`.
        """
        raise NotImplementedError

    def map(self, function: Callable[[Any], Any]) -> Derived:
        """What ``function`` makes of the value."""
        return Derived(function, self)

    def __add__(self, other: Any) -> Derived:
        return Derived(operator.add, self, other)

    def __mul__(self, other: Any) -> Derived:
        return Derived(operator.mul, self, other)

    def __floordiv__(self, other: Any) -> Derived:
        return Derived(operator.floordiv, self, other)

    __radd__, __rmul__ = __add__, __mul__


class Derived(Value):
    """What a function makes of decided values.

    Args:
        function: Called with the values of ``operands``, in order.
        *operands: Values to be decided, or plain ones.

    Raises:
        SearchSpaceError: Several choices, of which one has no name.
    """

    def __init__(self, function: Callable[..., Any], *operands: Any) -> None:
        self.function, self.operands = function, operands
        found = [c for one in operands if isinstance(one, Value) for c in one.choices]
        self.choices = tuple(dict.fromkeys(found))
        if len(self.choices) > 1 and any(choice.name is None for choice in self.choices):
            raise SearchSpaceError(
                "a value made of several choices needs a `name` for each ValueChoice; "
                f"received {[choice.name for choice in self.choices]}"
            )

    def value(self, values: Mapping[str, Any], place: str) -> Any:
        """See `Value.value`."""
        return self.function(
            *(one.value(values, place) if isinstance(one, Value) else one for one in self.operands)
        )


class ValueChoice(Value):
    """A value of a layer's argument, or of a whole space, that the search decides.

    Args:
        values: The values to choose from; numbers are ordered, anything else is not.
        low: Smallest number, instead of ``values``.
        high: Largest number, included.
        step: Distance (``sampling="linear"``) or ratio between numbers; None for all.
        sampling: ``"linear"``, ``"log"`` or ``"reverse_log"``.
        default: The value of the first architecture; the first or smallest without it.
        name: A name of its own: choices of one name are one decision. Without it the
            choice is called after the place where it stands.

    Raises:
        SearchSpaceError: There is nothing to choose from.
    """

    def __init__(
        self,
        values: Sequence[Any] | None = None,
        *,
        low: float | None = None,
        high: float | None = None,
        step: float | None = None,
        sampling: str = "linear",
        default: Any = None,
        name: str | None = None,
    ) -> None:
        ranged = low is not None and high is not None
        if (values is None) != ranged or (values is not None and (low is not None or step)):
            raise SearchSpaceError(
                "`ValueChoice` needs either `values` or `low` and `high`; "
                f"received values={values}, low={low}, high={high}"
            )
        self.domain: Domain = (
            _chosen(values) if values is not None else _range(low, high, step, sampling)
        )
        if default is not None and not self.domain.contains(default):
            raise SearchSpaceError(
                f"`default` of a ValueChoice needs a value of {self.domain}; received {default!r}"
            )
        self.default = self.domain.at(0.0) if default is None else default
        self.name = check_name(name, "ValueChoice")
        self.choices = (self,)

    def path(self, place: str) -> str:
        """Name of the decision for a choice that stands at ``place``."""
        return self.name or place

    def value(self, values: Mapping[str, Any], place: str) -> Any:
        """See `Value.value`."""
        return values[self.path(place)]


def check_name(name: str | None, owner: str) -> str | None:
    """A name that KerasTuner, MLflow and files can all live with.

    Raises:
        SearchSpaceError: It is not one.
    """
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise SearchSpaceError(
            f"`name` of a {owner} needs letters, digits and _ . - only; received {name!r}"
        )
    return name


def _chosen(values: Sequence[Any]) -> Categorical:
    values = tuple(values)
    kinds = {type(value) for value in values}
    if not values or kinds - {bool, int, float, str} or len(kinds) > 1:
        raise SearchSpaceError(
            "`values` of a ValueChoice needs numbers, texts or booleans of one type; "
            f"received {values}"
        )
    if len(set(values)) < len(values):
        raise SearchSpaceError(f"`values` of a ValueChoice needs each once; received {values}")
    if kinds == {bool}:
        if len(values) != 2:
            raise SearchSpaceError(
                f"`values` of a ValueChoice needs both booleans; received {values}"
            )
        values = (False, True)  # the order of KerasTuner's Boolean
    numbers = kinds <= {int, float}
    return Categorical(values, ordered=numbers)


def _range(low: float, high: float, step: float | None, sampling: str) -> Domain:
    numbers = [number for number in (low, high, step) if number is not None]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise SearchSpaceError(
            f"`low`, `high` and `step` need numbers; received low={low}, high={high}, step={step}"
        )
    whole = all(isinstance(number, int) for number in numbers)
    return (Integer if whole else Real)(low, high, step, sampling)

"""Values that are searched, and values derived from them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real

# Characters that KerasTuner, MLflow and file systems all accept.
_NAME = re.compile(r"[A-Za-z0-9_.-]+")

#: Returns the value of a decision, given its name and its domain; see `Builder.value`.
Decide = Callable[[str, Domain], Any]


class Value:
    """A value that depends on the search: a choice, or something derived from choices.

    Numbers can be added, multiplied and divided as usual; `map` applies any function:

    ```python
    width = ValueChoice([8, 16, 32], name="width")
    Layer("Conv2D", filters=width * 2, kernel_size=3)
    Layer("Dense", units=width.map(lambda width: width**2))
    ```
    """

    #: The choices that it depends on.
    choices: tuple[ValueChoice, ...] = ()

    def resolve(self, decide: Decide, path: str) -> Any:
        """The value when a function decides each choice.

        Args:
            decide: Returns the value of a choice, given its name and domain.
            path: Path of the value; see `ValueChoice.path`.
        """
        raise NotImplementedError

    def value(self, values: Mapping[str, Any], path: str) -> Any:
        """The value for given decisions.

        Args:
            values: Values of decisions by name.
            path: Path of the value; see `ValueChoice.path`.
        """
        return self.resolve(lambda name, domain: values[name], path)

    def map(self, function: Callable[[Any], Any]) -> Derived:
        """A value derived from this one by ``function``."""
        return Derived(function, self)

    def __add__(self, other: object) -> Derived:
        return Derived(operator.add, self, other)

    def __mul__(self, other: object) -> Derived:
        return Derived(operator.mul, self, other)

    def __floordiv__(self, other: object) -> Derived:
        return Derived(operator.floordiv, self, other)

    __radd__, __rmul__ = __add__, __mul__


class Derived(Value):
    """A value that a function computes from searched values.

    Args:
        function: Called with the values of ``operands``, in order.
        *operands: Searched values or plain ones.

    Raises:
        SearchSpaceError: The value depends on several choices, and one of them has no name.
    """

    def __init__(self, function: Callable[..., Any], *operands: object) -> None:
        self.function, self.operands = function, operands
        choices = [
            choice
            for operand in operands
            if isinstance(operand, Value)
            for choice in operand.choices
        ]
        self.choices = tuple(dict.fromkeys(choices))
        if len(self.choices) > 1 and any(choice.name is None for choice in self.choices):
            raise SearchSpaceError(
                "a value that depends on several choices must have a `name` for each ValueChoice; "
                f"got {[choice.name for choice in self.choices]}"
            )

    def resolve(self, decide: Decide, path: str) -> Any:
        """See `Value.resolve`."""
        return self.function(
            *(
                operand.resolve(decide, path) if isinstance(operand, Value) else operand
                for operand in self.operands
            )
        )


class ValueChoice(Value):
    """A searched value: an argument of a layer, or any other number, text or boolean.

    Args:
        values: The values to choose from; numbers are ordered, anything else is not.
        low: Smallest number, instead of ``values``.
        high: Largest number, inclusive.
        step: Distance (``sampling="linear"``) or ratio between numbers; None for all numbers
            in the range.
        sampling: ``"linear"``, ``"log"`` or ``"reverse_log"``.
        default: The value in the first architecture. Defaults to the first or smallest value.
        name: Name of the decision; choices of the same name are one decision. Defaults to the
            path of the choice.

    Raises:
        SearchSpaceError: The arguments do not describe a set of values.
    """

    def __init__(
        self,
        values: Sequence[Any] | None = None,
        *,
        low: float | None = None,
        high: float | None = None,
        step: float | None = None,
        sampling: str = "linear",
        default: object = None,
        name: str | None = None,
    ) -> None:
        self.domain = _domain(values, low, high, step, sampling)
        if default is not None and not self.domain.contains(default):
            raise SearchSpaceError(
                f"`default` of a ValueChoice must be a value of {self.domain}; got {default!r}"
            )
        self.default = self.domain.at(0.0) if default is None else default
        self.name = check_name(name, "ValueChoice")
        self.choices = (self,)

    def path(self, path: str) -> str:
        """Name of the decision for a choice at ``path``: the choice's name, or else the path."""
        return self.name or path

    def resolve(self, decide: Decide, path: str) -> Any:
        """See `Value.resolve`."""
        return decide(self.path(path), self.domain)


def check_name(name: str | None, owner: str) -> str | None:
    """Check that a name is valid in KerasTuner, in MLflow and in file names.

    Raises:
        SearchSpaceError: The name is invalid.
    """
    if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
        raise SearchSpaceError(
            f"`name` of a {owner} must consist of letters, digits and _ . -; got {name!r}"
        )
    return name


def _domain(
    values: Sequence[Any] | None,
    low: float | None,
    high: float | None,
    step: float | None,
    sampling: str,
) -> Domain:
    """The domain of a ValueChoice: listed values, or a range."""
    if values is None and low is not None and high is not None:
        return _range(low, high, step, sampling)
    if values is None or low is not None or high is not None or step:
        raise SearchSpaceError(
            "`ValueChoice` must have either `values` or `low` and `high`; "
            f"got values={values}, low={low}, high={high}"
        )
    return _listed(values)


def _listed(values: Sequence[Any]) -> Categorical:
    values = tuple(values)
    types = {type(value) for value in values}
    if not values or types - {bool, int, float, str} or len(types) > 1:
        raise SearchSpaceError(
            "`values` of a ValueChoice must be numbers, texts or booleans of one type; "
            f"got {values}"
        )
    if len(set(values)) < len(values):
        raise SearchSpaceError(f"`values` of a ValueChoice must be distinct; got {values}")
    if types == {bool}:
        if len(values) != 2:
            raise SearchSpaceError(
                f"`values` of a ValueChoice must contain both booleans; got {values}"
            )
        values = (False, True)  # the order of KerasTuner's Boolean
    return Categorical(values, ordered=types <= {int, float})


def _range(low: float, high: float, step: float | None, sampling: str) -> Domain:
    numbers = [number for number in (low, high, step) if number is not None]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise SearchSpaceError(
            f"`low`, `high` and `step` must be numbers; got low={low}, high={high}, step={step}"
        )
    if isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int)):
        return Integer(low, high, step, sampling)
    return Real(low, high, step, sampling)

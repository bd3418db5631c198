"""Matches values from other searches, logs and services against a search space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.space.domains import Domain, Integer, Real
from keras_nas_plugin.space.spec import SearchSpec, Values

# Relative precision of float32, in which KerasTuner's chief/worker service sends floats.
_PRECISION = 1e-6


@dataclasses.dataclass(frozen=True)
class Match:
    """The result of matching values against a space.

    Attributes:
        values: Values of the active decisions; None if any of them is missing or outside its
            domain.
        missing: Active decisions without a value.
        outside: Active decisions whose value is not in their domain.
        unknown: Names that are not in the space.
    """

    values: Values | None
    missing: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def match(spec: SearchSpec, values: Mapping[str, Any]) -> Match:
    """Match values to the decisions of a space, by name and domain.

    Every active decision must have a value from its domain. Values that lost their type are
    converted back, such as numbers that MLflow stored as text. A decision with a single
    possible value may be missing. Names that are not in the space are ignored, because the
    space may have had more decisions when the values were recorded.
    """
    fitting: Values = {}
    problems: dict[str, str] = {}
    for decision in spec.decisions:
        if not decision.active(fitting):
            continue
        name = decision.name
        # If two decisions of the same name are active, the last one counts.
        fitting.pop(name, None)
        problems.pop(name, None)
        value = None
        if name in values:
            value = read_value(values[name], decision.domain)
        elif decision.domain.size == 1:
            value = next(iter(decision.domain.values()))
        if value is None:
            problems[name] = "outside" if name in values else "missing"
        else:
            fitting[name] = value
    return Match(
        None if problems else fitting,
        tuple(name for name, kind in problems.items() if kind == "missing"),
        tuple(name for name, kind in problems.items() if kind == "outside"),
        tuple(name for name in values if name not in spec.names),
    )


def read_value(value: object, domain: Domain) -> Any:
    """The value of ``domain`` that ``value`` represents; None if there is none.

    The result is exactly the value that the domain itself would return, so that a strategy's
    proposal of the same configuration is recognised as equal.

    >>> read_value("3", Integer(1, 5)), read_value(7, Integer(1, 5))
    (3, None)
    >>> read_value(0.3, Real(0.0, 1.0, step=0.1)), read_value(1, Real(0.0, 1.0))
    (0.30000000000000004, 1.0)
    """
    if isinstance(value, np.generic | np.ndarray) and value.shape == ():
        value = value.item()
    if isinstance(domain, Integer):
        number = _integer(value)
        return number if number is not None and domain.contains(number) else None
    if isinstance(domain, Real):
        return _real(value, domain)
    choices = list(domain.values())
    matches = [choice for choice in choices if type(choice) is type(value) and choice == value]
    matches = matches or [choice for choice in choices if str(choice) == str(value)]
    matches = matches or [choice for choice in choices if _same_number(choice, value)]
    return matches[0] if matches else None


def _real(value: object, domain: Real) -> float | None:
    number = _number(value)
    if number is None:
        return None
    if not domain.contains(number):
        ends = [end for end in (domain.low, domain.high) if _close(number, end)]
        return float(ends[0]) if ends else None
    return number if domain.step is None else domain.at(domain.position(number))


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)  # exact, unlike a float beyond 2**53
        except ValueError:
            pass  # "3.0" is read below
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _same_number(choice: Any, value: object) -> bool:
    if isinstance(choice, bool | str):
        return False
    number = _number(value)
    return number is not None and _close(number, choice)


def _close(number: float, other: float) -> bool:
    return math.isclose(number, other, rel_tol=_PRECISION)

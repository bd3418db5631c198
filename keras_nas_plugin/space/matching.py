"""Whether values from elsewhere fit a search space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.space.domains import Domain, Integer, Real
from keras_nas_plugin.space.spec import SearchSpec, Values


@dataclasses.dataclass(frozen=True)
class Match:
    """How values from elsewhere fit a space.

    Attributes:
        values: Active values; None when they do not fit.
        missing: Active decisions that have no value.
        outside: Active decisions whose value is not in their domain.
        unknown: Names that the space does not have.
    """

    values: Values | None
    missing: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def match(spec: SearchSpec, values: Mapping[str, Any]) -> Match:
    """Fit values to a space by name and domain.

    Every active decision needs a value from its domain; a value that only changed its
    type on the way (MLflow keeps text) is read back. Names that the space does not know
    are left out: the space may have had more decisions then.
    """
    fitting: Values = {}
    missing, outside = [], []
    for decision in spec.decisions:
        if not decision.active(fitting):
            continue
        if decision.name not in values:
            missing.append(decision.name)
            continue
        value = read_value(values[decision.name], decision.domain)
        if value is None:
            outside.append(decision.name)
        else:
            fitting[decision.name] = value
    unknown = tuple(name for name in values if name not in spec.names)
    whole = fitting if not (missing or outside) else None
    return Match(whole, tuple(missing), tuple(outside), unknown)


def read_value(value: Any, domain: Domain) -> Any:
    """The value of ``domain`` that ``value`` stands for; None when there is none.

    >>> read_value("3", Integer(1, 5)), read_value(7, Integer(1, 5))
    (3, None)
    """
    value = value.item() if hasattr(value, "item") else value
    if domain.contains(value):
        return value
    if isinstance(domain, Integer | Real):
        number = _number(value)
        if number is None:
            return None
        if isinstance(domain, Integer):
            number = int(number) if number.is_integer() else None
        return number if number is not None and domain.contains(number) else None
    for choice in domain.values():
        if str(choice) == str(value) or _same_number(choice, value):
            return choice
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _same_number(choice: Any, value: Any) -> bool:
    if isinstance(choice, bool | str):
        return False
    number = _number(value)
    return number is not None and number == choice

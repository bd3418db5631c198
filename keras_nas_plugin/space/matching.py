"""Whether values from elsewhere fit a search space."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.space.domains import Domain, Integer, Real
from keras_nas_plugin.space.spec import SearchSpec, Values

# What float32 keeps of a number: KerasTuner's chief/worker service sends floats as such.
_PRECISION = 1e-6


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
    type on the way (MLflow keeps text) is read back. A decision with one value needs none.
    Names that the space does not know are left out: the space may have had more decisions
    then.
    """
    fitting: Values = {}
    problems: dict[str, str] = {}
    for decision in spec.decisions:
        if not decision.active(fitting):
            continue
        name = decision.name
        # Where two decisions of a name are active, the last counts.
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


def read_value(value: Any, domain: Domain) -> Any:
    """The value of ``domain`` that ``value`` stands for; None when there is none.

    It is exactly the one that the domain itself would give, so that a configuration from
    elsewhere is recognised as the same when a strategy proposes it.

    >>> read_value("3", Integer(1, 5)), read_value(7, Integer(1, 5))
    (3, None)
    >>> read_value(0.3, Real(0.0, 1.0, step=0.1)), read_value(1, Real(0.0, 1.0))
    (0.30000000000000004, 1.0)
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(domain, Integer):
        number = _integer(value)
        return number if number is not None and domain.contains(number) else None
    if isinstance(domain, Real):
        return _real(value, domain)
    choices = list(domain.values())
    same = [one for one in choices if type(one) is type(value) and one == value]
    same = same or [one for one in choices if str(one) == str(value)]
    same = same or [one for one in choices if _same_number(one, value)]
    return same[0] if same else None


def _real(value: Any, domain: Real) -> float | None:
    number = _number(value)
    if number is None:
        return None
    if not domain.contains(number):
        ends = [end for end in (domain.low, domain.high) if _close(number, end)]
        return float(ends[0]) if ends else None
    return number if domain.step is None else domain.at(domain.position(number))


def _integer(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)  # exact, which a float is not beyond 2**53
        except ValueError:
            pass  # "3.0" is read below
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _same_number(choice: Any, value: Any) -> bool:
    if isinstance(choice, bool | str):
        return False
    number = _number(value)
    return number is not None and _close(number, choice)


def _close(number: float, other: float) -> bool:
    return math.isclose(number, other, rel_tol=_PRECISION)

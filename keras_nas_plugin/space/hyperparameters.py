"""From KerasTuner's `HyperParameters` to a `SearchSpec`."""

from __future__ import annotations

from typing import Any

from keras_tuner.engine import hyperparameters as kt_types

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec


def spec_of(hyperparameters: Any) -> SearchSpec:
    """The space that a `keras_tuner.HyperParameters` holds.

    Args:
        hyperparameters: As KerasTuner collected it, in any order (its chief/worker
            service reorders the space, so that a child may precede its parent).

    Returns:
        The same decisions, conditions and value layouts.

    Raises:
        SearchSpaceError: A hyperparameter of a type that KerasTuner does not have.
    """
    return SearchSpec(tuple(_decision_of(item) for item in hyperparameters.space))


def describe(hyperparameters: Any) -> tuple[dict[str, Any], ...]:
    """The space as plain data: one mapping per hyperparameter, for logs and reports."""
    described = []
    for item in hyperparameters.space:
        config = item.get_config()
        conditions = [
            {"parent": condition.name, "values": list(condition.values)}
            for condition in item.conditions
        ]
        described.append({"type": type(item).__name__, **config, "conditions": conditions})
    return tuple(described)


def _decision_of(item: Any) -> Decision:
    conditions = tuple(Condition(c.name, tuple(c.values)) for c in item.conditions)
    return Decision(item.name, _domain_of(item), conditions, item.default)


def _domain_of(item: Any) -> Domain:
    if isinstance(item, kt_types.Fixed):
        return Categorical((item.value,))
    if isinstance(item, kt_types.Boolean):
        return Categorical((False, True))
    if isinstance(item, kt_types.Choice):
        # A choice that lists a value twice would count as two architectures.
        return Categorical(tuple(dict.fromkeys(item.values)), ordered=bool(item.ordered))
    if isinstance(item, kt_types.Int):
        step = None if item.step == 1 and item.sampling == "linear" else item.step
        return Integer(item.min_value, item.max_value, step, item.sampling)
    if isinstance(item, kt_types.Float):
        return Real(item.min_value, item.max_value, item.step, item.sampling)
    raise SearchSpaceError(
        f"`{item.name}` needs to be a Choice, Int, Float, Boolean or Fixed; "
        f"received {type(item).__name__}"
    )

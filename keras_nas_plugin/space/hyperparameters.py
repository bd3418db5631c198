"""Converts KerasTuner's `HyperParameters` to a `SearchSpec`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_tuner.engine import hyperparameters as kt_types

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec

if TYPE_CHECKING:
    import keras_tuner


def copy_of(hyperparameters: keras_tuner.HyperParameters) -> keras_tuner.HyperParameters:
    """A copy as `keras_tuner.HyperParameters.copy` makes it, in a fraction of the time.

    KerasTuner (1.4.8) serializes each declared hyperparameter and creates it anew, which takes
    0.2 ms each. No method changes a declared hyperparameter, so that copies can share them.
    """
    if type(hyperparameters) is not kt_types.HyperParameters:
        return hyperparameters.copy()
    return copy.deepcopy(hyperparameters, {id(item): item for item in hyperparameters.space})


def spec_of(hyperparameters: keras_tuner.HyperParameters) -> SearchSpec:
    """The search space of a `keras_tuner.HyperParameters`.

    Args:
        hyperparameters: The declared hyperparameters, in any order (KerasTuner's chief/worker
            service reorders them, so that a child may precede its parent).

    Returns:
        A specification with the same decisions, conditions and distributions of values.

    Raises:
        SearchSpaceError: A hyperparameter has a type that KerasTuner does not define.
    """
    return SearchSpec(tuple(decision_of(item) for item in hyperparameters.space))


def completed(
    space: keras_tuner.HyperParameters, values: Mapping[str, Any]
) -> keras_tuner.HyperParameters:
    """A copy of a space with values, and with the defaults of active names that have none.

    A model that declares an active hyperparameter without a value cannot be built (KerasTuner
    1.4.8).

    Args:
        space: The space.
        values: Values of a configuration that may have been recorded in a smaller space.
    """
    copied = copy_of(space)
    copied.values = dict(values)
    for item in copied.space:
        if item.name not in copied.values and copied.is_active(item):
            copied.values[item.name] = item.default
    return copied


def describe(hyperparameters: keras_tuner.HyperParameters) -> tuple[dict[str, Any], ...]:
    """The search space as plain data: one mapping per hyperparameter, for logs and reports."""
    described = []
    for item in hyperparameters.space:
        config = item.get_config()
        conditions = [
            {"parent": condition.name, "values": list(condition.values)}
            for condition in item.conditions
        ]
        described.append({"type": type(item).__name__, **config, "conditions": conditions})
    return tuple(described)


def decision_of(item: kt_types.HyperParameter) -> Decision:
    """One hyperparameter as a decision of a `SearchSpec`.

    Raises:
        SearchSpaceError: It has a type that KerasTuner does not define.
    """
    conditions = tuple(Condition(c.name, tuple(c.values)) for c in item.conditions)
    return Decision(item.name, _domain_of(item), conditions, item.default)


def _domain_of(item: kt_types.HyperParameter) -> Domain:
    if isinstance(item, kt_types.Fixed):
        return Categorical((item.value,))
    if isinstance(item, kt_types.Boolean):
        return Categorical((False, True))
    if isinstance(item, kt_types.Choice):
        # Duplicates are removed: they would count as different architectures.
        return Categorical(tuple(dict.fromkeys(item.values)), ordered=bool(item.ordered))
    if isinstance(item, kt_types.Int):
        step = None if item.step == 1 and item.sampling == "linear" else item.step
        return Integer(item.min_value, item.max_value, step, item.sampling)
    if isinstance(item, kt_types.Float):
        return Real(item.min_value, item.max_value, item.step, item.sampling)
    raise SearchSpaceError(
        f"`{item.name}` must be a Choice, Int, Float, Boolean or Fixed; got {type(item).__name__}"
    )

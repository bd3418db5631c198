"""The space of a search, read back from its records without KerasTuner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord


def space_of(search: SearchInfo, records: Iterable[TrialRecord] = ()) -> SearchSpec:
    """The decisions that a search knew, and those that its trials found later.

    Args:
        search: Holds the space as `keras_nas_plugin.space.hyperparameters.describe` has it.
        records: Trials, which hold KerasTuner's configuration of the space where it grew.

    Raises:
        SearchSpaceError: A hyperparameter of a type that KerasTuner does not have.
    """
    found: dict[tuple[Any, ...], Decision] = {}
    for config in described(search, records):
        decision = decision_of(config)
        found.setdefault((decision.name, decision.conditions), decision)
    return SearchSpec(tuple(found.values()))


def described(search: SearchInfo, records: Iterable[TrialRecord] = ()) -> list[Mapping[str, Any]]:
    """The configurations of `space_of`'s decisions: those of the search, then later ones."""
    configs = list(search.space)
    known = {config["name"] for config in configs}
    for record in records:
        for one in (record.hyperparameters or {}).get("space", ()):
            if one["config"]["name"] not in known:
                known.add(one["config"]["name"])
                configs.append({"type": one["class_name"], **one["config"]})
    return configs


def decision_of(config: Mapping[str, Any]) -> Decision:
    """One hyperparameter's configuration as a decision.

    >>> decision_of({"name": "units", "type": "Int", "min_value": 2, "max_value": 8}).domain.size
    7

    Raises:
        SearchSpaceError: The type is unknown, or what it needs is missing.
    """
    try:
        conditions = tuple(_condition(one) for one in config.get("conditions", ()))
        return Decision(config["name"], _domain(config), conditions, _default(config))
    except KeyError as error:
        raise SearchSpaceError(
            f"a hyperparameter needs {error.args[0]!r}; received {dict(config)}"
        ) from error


def _condition(config: Mapping[str, Any]) -> Condition:
    """A condition, as this package or as KerasTuner writes it."""
    if "parent" in config:
        return Condition(config["parent"], tuple(config["values"]))
    return Condition(config["config"]["name"], tuple(config["config"]["values"]))


def _default(config: Mapping[str, Any]) -> Any:
    """What KerasTuner takes where nothing else is said."""
    if config["type"] == "Fixed":
        return config["value"]
    if config.get("default") is not None:
        return config["default"]
    if config["type"] == "Choice":
        return None if None in config["values"] else config["values"][0]
    return config.get("min_value", False)


def _domain(config: Mapping[str, Any]) -> Domain:
    kind, step = config["type"], config.get("step")
    if kind == "Fixed":
        return Categorical((config["value"],))
    if kind == "Boolean":
        return Categorical((False, True))
    if kind == "Choice":
        values = tuple(dict.fromkeys(config["values"]))
        return Categorical(values, ordered=bool(config.get("ordered")))
    if kind not in ("Int", "Float"):
        raise SearchSpaceError(
            f"`{config['name']}` needs to be a Choice, Int, Float, Boolean or Fixed; "
            f"received {kind}"
        )
    sampling = config.get("sampling") or "linear"
    if kind == "Float":
        return Real(config["min_value"], config["max_value"], step, sampling)
    step = None if step == 1 and sampling == "linear" else step
    return Integer(config["min_value"], config["max_value"], step, sampling)


def condition_text(decision: Decision) -> str | None:
    """When a decision is active, in words; None for one that always is.

    >>> condition_text(Decision("n", Integer(1, 4), (Condition("kind", ("a", "b")),)))
    'kind = a or b'
    """
    texts = (f"{one.parent} = {' or '.join(map(str, one.values))}" for one in decision.conditions)
    return ", ".join(texts) or None

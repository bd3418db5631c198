"""Reads the search space from the records of a search, without KerasTuner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec


def space_of(search: SearchInfo, records: Iterable[TrialRecord] = ()) -> SearchSpec:
    """The decisions that were declared when the search started, and those that trials added.

    Args:
        search: Contains the output of `keras_nas_plugin.space.hyperparameters.describe`.
        records: Trials, which contain KerasTuner's configuration of a space that grew.

    Raises:
        SearchSpaceError: A hyperparameter has an unknown type.
    """
    decisions: dict[tuple[str, tuple[Condition, ...]], Decision] = {}
    for config in described(search, records):
        decision = decision_of(config)
        decisions.setdefault((decision.name, decision.conditions), decision)
    return SearchSpec(tuple(decisions.values()))


def described(search: SearchInfo, records: Iterable[TrialRecord] = ()) -> list[Mapping[str, Any]]:
    """The configurations behind `space_of`: those of the search, then those added later."""
    configs = list(search.space)
    names = {config["name"] for config in configs}
    for record in records:
        for hyperparameter in (record.hyperparameters or {}).get("space", ()):
            config = hyperparameter["config"]
            if config["name"] not in names:
                names.add(config["name"])
                configs.append({"type": hyperparameter["class_name"], **config})
    return configs


def decision_of(config: Mapping[str, Any]) -> Decision:
    """Convert the configuration of a hyperparameter to a decision.

    >>> decision_of({"name": "units", "type": "Int", "min_value": 2, "max_value": 8}).domain.size
    7

    Raises:
        SearchSpaceError: The type is unknown, or a required key is missing.
    """
    try:
        conditions = tuple(_condition(item) for item in config.get("conditions", ()))
        return Decision(config["name"], _domain(config), conditions, _default(config))
    except KeyError as error:
        raise SearchSpaceError(
            f"a hyperparameter must have {error.args[0]!r}; got {dict(config)}"
        ) from error


def _condition(config: Mapping[str, Any]) -> Condition:
    """A condition in the format of this package or of KerasTuner."""
    if "parent" in config:
        return Condition(config["parent"], tuple(config["values"]))
    return Condition(config["config"]["name"], tuple(config["config"]["values"]))


def _default(config: Mapping[str, Any]) -> str | int | float | bool | None:
    """The default value, by KerasTuner's rule."""
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
            f"`{config['name']}` must be a Choice, Int, Float, Boolean or Fixed; got {kind}"
        )
    sampling = config.get("sampling") or "linear"
    if kind == "Float":
        return Real(config["min_value"], config["max_value"], step, sampling)
    step = None if step == 1 and sampling == "linear" else step
    return Integer(config["min_value"], config["max_value"], step, sampling)


def condition_text(decision: Decision) -> str | None:
    """The conditions of a decision as text; None if it is always active.

    >>> condition_text(Decision("n", Integer(1, 4), (Condition("kind", ("a", "b")),)))
    'kind = a or b'
    """
    texts = (
        f"{condition.parent} = {' or '.join(map(str, condition.values))}"
        for condition in decision.conditions
    )
    return ", ".join(texts) or None

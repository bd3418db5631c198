"""Differences between the space of an earlier search and the one that its program declares now."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.space.hyperparameters import decision_of, spec_of
from keras_nas_plugin.space.matching import read_value
from keras_nas_plugin.space.spec import Condition, SearchSpec, Values

if TYPE_CHECKING:
    import keras_tuner
    from keras_tuner.engine.hyperparameters import HyperParameter

_Conditions = tuple[Condition, ...]
# Values of a choice that a message lists.
_LISTED = 12


@dataclasses.dataclass(frozen=True)
class SpaceChange:
    """What a program has changed in the space of its search.

    Attributes:
        space: The space from now on.
        differences: One text per hyperparameter that was added, removed or changed; empty if
            nothing was.
        added: Names that the earlier space does not have.
        spec: ``space`` as strategies see it.
    """

    space: keras_tuner.HyperParameters
    differences: tuple[str, ...]
    added: frozenset[str]
    spec: SearchSpec = dataclasses.field(init=False)
    _kinds: Mapping[tuple[str, _Conditions], str] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", spec_of(self.space))
        kinds = {
            (item.name, decision_of(item).conditions): kind_of(item) for item in self.space.space
        }
        object.__setattr__(self, "_kinds", kinds)

    def reason_against(
        self, hyperparameters: keras_tuner.HyperParameters, *, counted: bool
    ) -> str | None:
        """Why a trial is not a configuration of the changed space.

        Args:
            hyperparameters: Those of the trial, with the space that it was proposed from.
            counted: Whether the trial was a configuration of the earlier space. Then
                hyperparameters of that space that the trial lacks were discovered after it.

        Returns:
            One clause; None if the trial is one.
        """
        values = spec_of(hyperparameters).restrict(hyperparameters.values)
        kinds: dict[str, set[str]] = {}
        for item in hyperparameters.space:
            kinds.setdefault(item.name, set()).add(kind_of(item))
        return self._reason(configuration(values), kinds, counted=counted)

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether values of the earlier space, without their types, are in the changed one."""
        return self._reason(configuration(values), {}, counted=True) is None

    def _reason(
        self, values: Values, kinds: Mapping[str, Collection[str]], *, counted: bool
    ) -> str | None:
        active = self.spec.active(values)
        for name, decision in active.items():
            if name not in values:
                if decision.domain.size == 1 or (counted and name not in self.added):
                    continue
                return f"it has no value of {name!r}"
            kind = self._kinds[name, decision.conditions]
            if kind not in kinds.get(name, (kind,)):
                return f"{name!r} had another type"
            if read_value(values[name], decision.domain) is None:
                return f"{name!r} = {values[name]!r} is outside"
        for name in values:
            if name not in self.spec.names:
                return f"{name!r} was removed"
            if name not in active:
                return f"{name!r} is inactive now"
        return None


def compare(
    stored: keras_tuner.HyperParameters,
    declared: keras_tuner.HyperParameters,
    keep: Collection[str] = (),
) -> SpaceChange:
    """Compare the space of an earlier search with the one that its program declares now.

    Defaults and the order of choices are not compared: they decide about no trial.

    Args:
        stored: The space of the earlier search.
        declared: The space that the program declares.
        keep: Names that stay in the space although the program has not declared them yet, because
            it may declare them while a trial is trained.

    Returns:
        The change; its space is ``stored`` itself if there is no difference.
    """
    before, after = _by_name(stored), _by_name(declared)
    differences = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            if name not in keep:
                differences.append(f"`{name}` removed")
        elif name not in before:
            differences.append(f"`{name}` added ({_texts(after[name])})")
        elif before[name].keys() != after[name].keys() or any(
            domain_key(item) != domain_key(after[name][conditions])
            for conditions, item in before[name].items()
        ):
            differences.append(f"`{name}`: {_difference(before[name], after[name])}")
    if not differences:
        return SpaceChange(stored, (), frozenset())
    space = declared.copy()
    retained = [item for item in stored.space if item.name in keep and item.name not in after]
    space.merge(retained)
    return SpaceChange(space, tuple(differences), frozenset(after.keys() - before.keys()))


def kind_of(item: HyperParameter) -> str:
    """The type of a hyperparameter, for choices with the type of their values.

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> _ = hp.Choice("units", [8, 16]), hp.Int("depth", 1, 3)
    >>> [kind_of(item) for item in hp.space]
    ['Choice of int', 'Int']
    """
    values = getattr(item, "values", ()) if type(item).__name__ == "Choice" else ()
    if type(item).__name__ == "Fixed":
        values = (item.value,)
    names = sorted({type(value).__name__ for value in values if value is not None})
    return f"{type(item).__name__} of {' or '.join(names)}" if names else type(item).__name__


def domain_text(item: HyperParameter) -> str:
    """The values of a hyperparameter, for messages.

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> _ = hp.Choice("units", [8, 16]), hp.Float("rate", 1e-4, 0.1, sampling="log")
    >>> [domain_text(item) for item in hp.space]
    ['8, 16', '0.0001 to 0.1, log']
    """
    config = item.get_config()
    if "min_value" in config:
        text = f"{config['min_value']} to {config['max_value']}"
        step = config.get("step")
        if step is not None and not (type(item).__name__ == "Int" and step == 1):
            text += f", step {step}"
        return text if config["sampling"] == "linear" else f"{text}, {config['sampling']}"
    if "value" in config:
        return f"always {config['value']!r}"
    values = list(config.get("values", (False, True)))
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return ", ".join(repr(value) for value in values[:_LISTED]) + more


def _by_name(
    hyperparameters: keras_tuner.HyperParameters,
) -> dict[str, dict[_Conditions, HyperParameter]]:
    items: dict[str, dict[_Conditions, HyperParameter]] = {}
    for item in hyperparameters.space:
        items.setdefault(item.name, {})[decision_of(item).conditions] = item
    return items


def domain_key(item: HyperParameter) -> tuple[Any, ...]:
    """Equal for two hyperparameters with the same type and the same values."""
    config = item.get_config()
    kind = kind_of(item)
    if "values" in config:
        return (kind, frozenset(map(repr, config["values"])))
    names = ("min_value", "max_value", "step", "sampling", "value")
    return (kind, *(config.get(name) for name in names))


def _difference(
    before: Mapping[_Conditions, HyperParameter], after: Mapping[_Conditions, HyperParameter]
) -> str:
    if {kind_of(item) for item in before.values()} != {kind_of(item) for item in after.values()}:
        return f"{_texts(before, kinds=True)} -> {_texts(after, kinds=True)}"
    texts = _texts(before), _texts(after)
    if texts[0] == texts[1]:
        return f"{_conditions_text(before)} -> {_conditions_text(after)}"
    return f"{texts[0]} -> {texts[1]}"


def _texts(items: Mapping[_Conditions, HyperParameter], *, kinds: bool = False) -> str:
    texts = (
        f"{kind_of(item)} {domain_text(item)}" if kinds else domain_text(item)
        for item in items.values()
    )
    return " or ".join(dict.fromkeys(texts))


def _conditions_text(items: Mapping[_Conditions, HyperParameter]) -> str:
    texts = (
        " and ".join(
            f"{condition.parent} is {' or '.join(map(repr, condition.values))}"
            for condition in conditions
        )
        for conditions in items
    )
    return "; ".join(f"active if {text}" if text else "always active" for text in texts)

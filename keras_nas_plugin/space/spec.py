"""A search space as strategies see it: decisions, conditions and what can be done with them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Domain

Values = dict[str, Any]
Tried = Callable[[Mapping[str, Any]], bool]

# Random draws before the space is listed: with 98% tried, 1 call in 57 gets there.
_RANDOM_DRAWS = 200
# Untried candidates that a listing collects before it draws one of them.
_LISTED = 64


@dataclasses.dataclass(frozen=True)
class Condition:
    """A decision's parent must hold one of these values for it to be active."""

    parent: str
    values: tuple[Any, ...]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether ``values`` (active ones only) fulfil the condition."""
        return self.parent in values and values[self.parent] in self.values


@dataclasses.dataclass(frozen=True)
class Decision:
    """One thing that a search decides.

    Attributes:
        name: The hyperparameter's name. Decisions of one name may stand several times
            under different conditions.
        domain: Its values.
        conditions: All must hold for the decision to be active.
        default: Value of a model that was built before the decision was known.
    """

    name: str
    domain: Domain
    conditions: tuple[Condition, ...] = ()
    default: Any = None

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the decision matters, given the active values before it."""
        return all(condition.holds(values) for condition in self.conditions)


@dataclasses.dataclass(frozen=True)
class SearchSpec:
    """All decisions of a search space, parents before children.

    Args:
        decisions: In any order; they are sorted so that a parent precedes its children
            and decisions keep their order otherwise.

    Raises:
        SearchSpaceError: Conditions form a circle.
    """

    decisions: tuple[Decision, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "decisions", _parents_first(self.decisions))

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Names of all decisions."""
        return frozenset(decision.name for decision in self.decisions)

    @property
    def constant(self) -> bool:
        """Whether there is nothing to search: no decision has a second value."""
        return all(decision.domain.size == 1 for decision in self.decisions)

    def restrict(self, values: Mapping[str, Any]) -> Values:
        """``values`` without those of inactive decisions.

        Names that the space does not know are kept: they belong to somebody else
        (KerasTuner's Hyperband stores ``tuner/epochs`` there).
        """
        active = {name: value for name, value in values.items() if name not in self.names}
        for decision in self.decisions:
            if decision.name in values and decision.active(active):
                active[decision.name] = values[decision.name]
        return active

    def active(self, values: Mapping[str, Any]) -> dict[str, Decision]:
        """Active decisions by name; where two of a name are active, the last counts."""
        active: Values = {}
        found: dict[str, Decision] = {}
        for decision in self.decisions:
            if decision.active(active):
                found[decision.name] = decision
                if decision.name in values:
                    active[decision.name] = values[decision.name]
        return found

    def complete(self, values: Mapping[str, Any], rng: np.random.Generator) -> Values:
        """Active values: taken from ``values`` where valid there, else drawn."""
        complete: Values = {}
        for decision in self.decisions:
            if decision.active(complete):
                value = values.get(decision.name)
                kept = decision.name in values and decision.domain.contains(value)
                if kept:
                    complete[decision.name] = decision.domain.canonical(value)
                else:
                    complete[decision.name] = decision.domain.sample(rng)
        return complete

    def fill(self, values: Mapping[str, Any]) -> Values:
        """Active values: taken from ``values`` where valid there, else the default.

        What a model had that was built before a hyperparameter was known.
        """
        filled: Values = {}
        for decision in self.decisions:
            if decision.active(filled):
                value = values.get(decision.name, decision.default)
                kept = decision.domain.contains(value)
                filled[decision.name] = value if kept else decision.domain.at(0.0)
        return filled

    def sample(self, rng: np.random.Generator) -> Values:
        """Draw a configuration: each active decision by its own distribution."""
        return self.complete({}, rng)

    def mutate(self, values: Mapping[str, Any], rng: np.random.Generator) -> Values:
        """Change one active decision; what that activates is drawn, the rest stays.

        Raises:
            SearchSpaceError: No active decision has a second value.
        """
        edited = self.fill(values)
        active = self.active(edited)
        mutable = [name for name, decision in active.items() if decision.domain.size != 1]
        if not mutable:
            raise SearchSpaceError(
                f"`values` needs an active decision with two values; received {dict(values)}"
            )
        name = mutable[int(rng.integers(len(mutable)))]
        edited[name] = active[name].domain.mutate(edited[name], rng)
        return self.complete(edited, rng)

    def neighbours(self, values: Mapping[str, Any], rng: np.random.Generator) -> list[Values]:
        """Configurations that differ in one active decision, in random order.

        What an edit activates is drawn, once per neighbour; see `Domain.neighbours` for
        which values a decision moves to. Each configuration stands in the list once.
        """
        current = self.fill(values)
        found: dict[str, Values] = {self.key(current): current}
        for name, decision in self.active(current).items():
            for value in decision.domain.neighbours(current[name], rng):
                neighbour = self.complete({**current, name: value}, rng)
                found.setdefault(self.key(neighbour), neighbour)
        near = list(found.values())[1:]
        return [near[index] for index in rng.permutation(len(near))]

    def cross(
        self,
        first: Mapping[str, Any],
        second: Mapping[str, Any],
        rng: np.random.Generator,
    ) -> Values:
        """Uniform crossover: each decision from one parent, drawn with equal chances.

        A decision that only one parent has comes from that parent; one that neither has
        is drawn. A parent from before a decision was known has its default. A child may
        equal a parent.

        Source: Syswerda 1989, "Uniform Crossover in Genetic Algorithms".
        """
        parents = self.fill(first), self.fill(second)
        child: Values = {}
        for decision in self.decisions:
            if not decision.active(child):
                continue
            options = [
                parent[decision.name]
                for parent in parents
                if decision.name in parent and decision.domain.contains(parent[decision.name])
            ]
            if options:
                child[decision.name] = options[int(rng.integers(len(options)))]
            else:
                child[decision.name] = decision.domain.sample(rng)
        return child

    def validate(self, values: Mapping[str, Any]) -> None:
        """Check that ``values`` are all and only active, each from its domain.

        Raises:
            SearchSpaceError: Naming the first decision that is wrong.
        """
        active = self.active(values)
        for name, decision in active.items():
            if name not in values:
                raise SearchSpaceError(f"`values` needs a value for {name!r}; received none")
            if not decision.domain.contains(values[name]):
                raise SearchSpaceError(
                    f"`values[{name!r}]` needs a value of {decision.domain}; "
                    f"received {values[name]!r}"
                )
        for name in values:
            if name not in active:
                raise SearchSpaceError(
                    f"`values` needs active decisions only; received {name!r}, which is not"
                )

    def key(self, values: Mapping[str, Any]) -> str:
        """Equal for equal configurations: inactive and foreign values do not count.

        >>> from keras_nas_plugin.space.domains import Categorical
        >>> spec = SearchSpec((Decision("a", Categorical((1, 2))),))
        >>> spec.key({"a": 1})
        '{"a": 1}'
        """
        known = {name: values[name] for name in self.names if name in values}
        return json.dumps(self.restrict(known), sort_keys=True)

    def untried(self, rng: np.random.Generator, tried: Tried) -> Values | None:
        """Draw a configuration that was not tried; None when all were.

        Draws at random while that succeeds; in a nearly exhausted space it lists
        configurations in random order, which ends after at most ``len(tried) + 64``.
        """
        for _ in range(_RANDOM_DRAWS):
            values = self.sample(rng)
            if not tried(values):
                return values
        candidates = []
        for values in self.configurations(rng):
            if not tried(values):
                candidates.append(values)
                if len(candidates) == _LISTED:
                    break
        return candidates[int(rng.integers(len(candidates)))] if candidates else None

    def configurations(self, rng: np.random.Generator) -> Iterator[Values]:
        """Every configuration once, in random order; a real number without a step is drawn."""
        return self._expand(0, {}, rng)

    def _expand(
        self,
        index: int,
        values: Values,
        rng: np.random.Generator,
        repeated: frozenset[str] = frozenset(),
    ) -> Iterator[Values]:
        while index < len(self.decisions) and not self.decisions[index].active(values):
            index += 1
        if index == len(self.decisions):
            yield dict(values)
            return
        decision = self.decisions[index]
        if decision.name in repeated:
            # It overrules an earlier one of its name, whose first option led here as well.
            return
        domain = decision.domain
        options = [domain.sample(rng)] if domain.size is None else list(domain.values())
        for rank, option in enumerate(rng.permutation(len(options))):
            chosen = {**values, decision.name: options[option]}
            others = repeated | {decision.name} if rank else repeated
            yield from self._expand(index + 1, chosen, rng, others)


def _parents_first(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Sort so that each decision follows those its conditions name; else stable.

    A parent that does not exist never holds: its children stay inactive, and go last.
    """
    waiting = list(decisions)
    known = {decision.name for decision in waiting}
    done: list[Decision] = []
    while waiting:
        pending = {decision.name for decision in waiting}
        ready = [
            decision
            for decision in waiting
            if all(c.parent not in known or c.parent not in pending for c in decision.conditions)
        ]
        if not ready:
            names = sorted(pending)
            raise SearchSpaceError(f"conditions need to be free of circles; received {names}")
        if len(ready) == len(waiting):
            return tuple(done + waiting)
        # One at a time keeps the order in which the model asks for its hyperparameters.
        first = ready[0]
        done.append(first)
        waiting.remove(first)
    return tuple(done)

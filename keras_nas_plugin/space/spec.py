"""A search space as strategies see it: decisions, conditions and operations on configurations."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain

Values = dict[str, Any]
Tried = Callable[[Mapping[str, Any]], bool]

# Random draws before the space is enumerated. If 98% of it has been tried, 1 call in 57 gets
# that far.
_RANDOM_DRAWS = 200
# Untried candidates that the enumeration collects before one of them is drawn.
_LISTED = 64
# Longest domain whose indices are permuted at once; those of a longer one are drawn one by one.
_PERMUTED = 1 << 16


@dataclasses.dataclass(frozen=True)
class Condition:
    """Makes a decision active only if its parent has one of these values."""

    parent: str
    values: tuple[Any, ...]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether ``values`` (of active decisions only) satisfy the condition."""
        return self.parent in values and values[self.parent] in self.values


@dataclasses.dataclass(frozen=True)
class Decision:
    """One hyperparameter of a search.

    Attributes:
        name: The hyperparameter's name. Several decisions may have the same name, under
            different conditions.
        domain: The values that it may take.
        conditions: All must hold for the decision to be active.
        default: The default value. Models that were built before the decision was declared
            count as having this value.
    """

    name: str
    domain: Domain
    conditions: tuple[Condition, ...] = ()
    default: Any = None

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether the decision is active, given the values of the active decisions before it."""
        return all(condition.holds(values) for condition in self.conditions)


@dataclasses.dataclass(frozen=True)
class SearchSpec:
    """All decisions of a search space, parents before children.

    Args:
        decisions: In any order; they are sorted so that parents precede their children, and
            otherwise keep their order.

    Raises:
        SearchSpaceError: Conditions form a cycle.
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
        """Whether there is nothing to search: every decision has a single value."""
        return all(decision.domain.size == 1 for decision in self.decisions)

    def restrict(self, values: Mapping[str, Any]) -> Values:
        """``values`` without those of inactive decisions.

        Names that are not in the space are kept, because KerasTuner uses them (its Hyperband
        stores ``tuner/epochs`` among the values).
        """
        active = {name: value for name, value in values.items() if name not in self.names}
        for decision in self.decisions:
            if decision.name in values and decision.active(active):
                active[decision.name] = values[decision.name]
        return active

    def fixed_at(self, values: Mapping[str, Any]) -> SearchSpec:
        """The part of the space in which some decisions have a single value.

        Args:
            values: Their values, by name.
        """
        return SearchSpec(
            tuple(
                dataclasses.replace(
                    decision,
                    domain=Categorical((values[decision.name],)),
                    default=values[decision.name],
                )
                if decision.name in values
                else decision
                for decision in self.decisions
            )
        )

    def active(self, values: Mapping[str, Any]) -> dict[str, Decision]:
        """Active decisions by name; if two of the same name are active, the last one counts."""
        values_so_far: Values = {}
        active: dict[str, Decision] = {}
        for decision in self.decisions:
            if decision.active(values_so_far):
                active[decision.name] = decision
                if decision.name in values:
                    values_so_far[decision.name] = values[decision.name]
        return active

    def complete(self, values: Mapping[str, Any], rng: np.random.Generator) -> Values:
        """Values of the active decisions: valid ones from ``values``, all others drawn."""
        complete: Values = {}
        for decision in self.decisions:
            if decision.active(complete):
                value = values.get(decision.name)
                if decision.name in values and decision.domain.contains(value):
                    complete[decision.name] = decision.domain.canonical(value)
                else:
                    complete[decision.name] = decision.domain.sample(rng)
        return complete

    def fill(self, values: Mapping[str, Any]) -> Values:
        """Values of the active decisions: valid ones from ``values``, all others filled in.

        A missing value becomes the decision's default, and an invalid one the first value of
        its domain. This describes a model that was built before a hyperparameter was declared.
        """
        filled: Values = {}
        for decision in self.decisions:
            if decision.active(filled):
                value = values.get(decision.name, decision.default)
                valid = decision.domain.contains(value)
                filled[decision.name] = value if valid else decision.domain.at(0.0)
        return filled

    def sample(self, rng: np.random.Generator) -> Values:
        """Draw a configuration: each active decision from its own distribution."""
        return self.complete({}, rng)

    def mutate(self, values: Mapping[str, Any], rng: np.random.Generator) -> Values:
        """Change one active decision, selected at random.

        Decisions that become active are drawn; all others keep their values.

        Raises:
            SearchSpaceError: Every active decision has a single value.
        """
        edited = self.fill(values)
        active = self.active(edited)
        mutable = [name for name, decision in active.items() if decision.domain.size != 1]
        if not mutable:
            raise SearchSpaceError(
                f"`values` must have an active decision with two values; got {dict(values)}"
            )
        name = mutable[int(rng.integers(len(mutable)))]
        edited[name] = active[name].domain.mutate(edited[name], rng)
        return self.complete(edited, rng)

    def neighbours(self, values: Mapping[str, Any], rng: np.random.Generator) -> list[Values]:
        """Distinct configurations that differ in one active decision, in random order.

        Decisions that the change activates are drawn, once for each neighbour. See
        `Domain.neighbours` for the values that a decision changes to.
        """
        current = self.fill(values)
        neighbours: dict[str, Values] = {self.key(current): current}
        for name, decision in self.active(current).items():
            for value in decision.domain.neighbours(current[name], rng):
                neighbour = self.complete({**current, name: value}, rng)
                neighbours.setdefault(self.key(neighbour), neighbour)
        listed = list(neighbours.values())[1:]
        return [listed[index] for index in rng.permutation(len(listed))]

    def cross(
        self,
        first: Mapping[str, Any],
        second: Mapping[str, Any],
        rng: np.random.Generator,
    ) -> Values:
        """Uniform crossover: each decision is inherited from either parent with equal probability.

        A decision that is active in only one parent comes from that parent; one that is active
        in neither is drawn. A parent that was recorded before a decision was declared has its
        default. A child may equal a parent.

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
        """Check that ``values`` has exactly the active decisions, each with a valid value.

        Raises:
            SearchSpaceError: A value is missing, invalid or of an inactive decision; the
                message names the first such decision.
        """
        active = self.active(values)
        for name, decision in active.items():
            if name not in values:
                raise SearchSpaceError(f"`values` must have a value for {name!r}; got none")
            if not decision.domain.contains(values[name]):
                raise SearchSpaceError(
                    f"`values[{name!r}]` must be a value of {decision.domain}; "
                    f"got {values[name]!r}"
                )
        for name in values:
            if name not in active:
                raise SearchSpaceError(
                    f"`values` must have active decisions only; got {name!r}, which is inactive"
                )

    def key(self, values: Mapping[str, Any]) -> str:
        """A string that identifies a configuration; inactive and unknown names are ignored.

        >>> from keras_nas_plugin.space.domains import Categorical
        >>> spec = SearchSpec((Decision("a", Categorical((1, 2))),))
        >>> spec.key({"a": 1})
        '{"a": 1}'
        """
        own = {name: values[name] for name in self.names if name in values}
        return json.dumps(self.restrict(own), sort_keys=True)

    def untried(self, rng: np.random.Generator, tried: Tried) -> Values | None:
        """Draw a configuration that has not been tried; None if all have been.

        If random draws repeatedly fail, the space is nearly exhausted. Its configurations are
        then enumerated in random order: at most 64 more than the number of those tried.
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
        """Every configuration once, in random order; continuous domains give one random value."""
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
            # It overrides an earlier decision of the same name. The first option of that decision
            # leads to the same configurations.
            return
        for rank, option in enumerate(_in_random_order(decision.domain, rng)):
            chosen = {**values, decision.name: option}
            names = repeated | {decision.name} if rank else repeated
            yield from self._expand(index + 1, chosen, rng, names)


def _in_random_order(domain: Domain, rng: np.random.Generator) -> Iterator[Any]:
    """Each value of a domain once, in random order; a random value of a continuous one.

    Memory grows with the number of values that are read, not with the size of a long domain.
    """
    if domain.size is None:
        yield domain.sample(rng)
        return
    indices = (
        map(int, rng.permutation(domain.size))
        if domain.size <= _PERMUTED
        else _random_indices(domain.size, rng)
    )
    for index in indices:
        yield domain.nth(index)


def _random_indices(size: int, rng: np.random.Generator) -> Iterator[int]:
    """The integers below ``size`` in random order: a Fisher-Yates shuffle of a sparse array."""
    moved: dict[int, int] = {}
    digits = size.bit_length() // 8 + 8
    for first in range(size):
        # `Generator.integers` is limited to 64 bits. 56 more bits make the modulo fair.
        drawn = first + int.from_bytes(rng.bytes(digits), "big") % (size - first)
        yield moved.get(drawn, drawn)
        moved[drawn] = moved.pop(first, first)


def _parents_first(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Stable sort in which each decision follows its parents.

    A condition on a decision that does not exist never holds: decisions that depend on it are
    never active.
    """
    waiting = list(decisions)
    names = {decision.name for decision in waiting}
    ordered: list[Decision] = []
    while waiting:
        pending = {decision.name for decision in waiting}
        ready = [
            decision
            for decision in waiting
            if all(c.parent not in names or c.parent not in pending for c in decision.conditions)
        ]
        if not ready:
            raise SearchSpaceError(f"conditions must not form a cycle; got {sorted(pending)}")
        if len(ready) == len(waiting):
            return tuple(ordered + waiting)
        # Moving one at a time preserves the order in which the model declares hyperparameters.
        first = ready[0]
        ordered.append(first)
        waiting.remove(first)
    return tuple(ordered)

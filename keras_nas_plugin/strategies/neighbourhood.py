"""An index of tried configurations: which are one edit apart, and which edits are untried."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import json
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.space.domains import MUTATION_SCALE, Domain
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values

# In ordered domains with at most this many values, the neighbours of a value are the next ones.
_SHORT = 4
# Longest step along a longer domain, as a fraction of its length: steps drawn uniformly up to
# this length have about the standard deviation of a mutation.
_REACH = 2.0 * MUTATION_SCALE
# Steps shorter than this fraction are not worth a trial.
_RESOLUTION = 1.0 / 64.0
# How often to try an edit whose outcome is random, because it activates decisions to be drawn.
_COMPLETIONS = 4
# Maximum number of tried neighbours to count along one long decision.
_LONG_COUNT = 4
_LAST = math.nextafter(1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Edit:
    """A new value for one decision.

    Attributes:
        name: Name of the decision.
        value: Its new value; None if it is drawn between two positions.
        between: The current and the farthest position, between which the value is drawn.
    """

    name: str
    value: Any = None
    between: tuple[float, float] | None = None


class _Line:
    """Tried configurations that differ only in one decision and in what depends on it.

    Attributes:
        name: Name of the decision.
        domain: Its values.
        long: Whether it is searched by steps between tried values.
        seen: Number of configurations by value.
        positions: Sorted positions of these values, if the line is long.
        changes: How often a trial on the line has started or ended.
    """

    # There is one for each decision of each configuration, so it must be small.
    __slots__ = ("changes", "domain", "long", "name", "positions", "seen")

    def __init__(self, name: str, domain: Domain) -> None:
        self.name = name
        self.domain = domain
        self.long = domain.ordered and (domain.size is None or domain.size > _SHORT)
        self.seen: dict[Any, int] = {}
        self.positions: list[float] = []
        self.changes = 0

    def add(self, value: object) -> None:
        if self.long and value not in self.seen:
            bisect.insort(self.positions, self.domain.position(value))
        self.seen[value] = self.seen.get(value, 0) + 1
        self.changes += 1


#: What running trials add to each of their lines: number of trials by value.
Running = Mapping[_Line, Mapping[Any, int]]


class Neighbourhoods:
    """An index of tried configurations by what they have in common.

    For each decision, the neighbours of a configuration are on a *line*: all configurations
    that agree in everything but this decision and those that depend on it. The cost of adding
    a configuration and of listing its edits depends on the number of decisions and their
    values, not on the number of configurations.

    Args:
        spec: The space; when it grows, a new index must be built.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        self._values: dict[str, Values] = {}
        self._lines_of: dict[str, tuple[_Line, ...]] = {}
        self._lines: dict[int, _Line] = {}
        # The running trials of the last call of `running`: their values as passed, these values
        # in the space, and their lines.
        self._pending: dict[str, tuple[Values, Values, tuple[_Line, ...]]] = {}
        self._running: dict[_Line, dict[Any, int]] = {}
        self._dependants = _dependants(spec)

    def add(self, key: str, values: Values) -> None:
        """Add a tried configuration; adding it again has no effect.

        Args:
            key: Key of the configuration.
            values: All its active values.
        """
        if key in self._values:
            return
        self._values[key] = values
        self._lines_of[key] = self._lines_through(values)
        for line in self._lines_of[key]:
            line.add(values[line.name])

    def values(self, key: str) -> Values:
        """The values of a configuration in the index."""
        return self._values[key]

    def _lines_through(self, values: Mapping[str, Any]) -> tuple[_Line, ...]:
        """The line of each active decision with at least two values.

        A line is addressed by the exclusive or of one hash per value (Zobrist 1970), from
        which single values are removed without a pass over the others.
        """
        parts = {name: _hashed([name, value]) for name, value in values.items()}
        combined = functools.reduce(operator.xor, parts.values(), 0)
        lines = []
        for name, decision in self.spec.active(values).items():
            if decision.domain.size == 1:
                continue
            address = combined ^ parts[name] ^ _hashed([name])
            for dependant in self._dependants[name]:
                address ^= parts.get(dependant, 0)
            if address not in self._lines:
                self._lines[address] = _Line(name, decision.domain)
            lines.append(self._lines[address])
        return tuple(lines)

    def running(self, pending: Mapping[str, Values]) -> Running:
        """What the running trials will add to the index.

        The cost depends on the trials that started or ended since the last call, not on the
        number of running trials.

        Args:
            pending: Values of the running trials, by trial id.

        Returns:
            The additions; the next call changes them.
        """
        for trial_id in [trial_id for trial_id in self._pending if trial_id not in pending]:
            self._count_running(*self._pending.pop(trial_id)[1:], -1)
        for trial_id, trial_values in pending.items():
            previous = self._pending.get(trial_id)
            if previous is not None:
                if previous[0] is trial_values:
                    continue
                self._count_running(*previous[1:], -1)
            values = self.spec.fill(trial_values)
            lines = self._lines_through(values)
            self._count_running(values, lines, 1)
            self._pending[trial_id] = trial_values, values, lines
        return self._running

    def _count_running(self, values: Values, lines: Iterable[_Line], change: int) -> None:
        """Add a running trial to its lines, or remove it."""
        for line in lines:
            line.changes += 1
            counts = self._running.setdefault(line, {})
            value = values[line.name]
            counts[value] = counts.get(value, 0) + change
            if not counts[value]:
                del counts[value]
                if not counts:
                    del self._running[line]

    def tried_around(self, key: str, running: Running) -> int:
        """How many neighbours of an indexed configuration were tried or are running.

        Along a long or continuous decision at most four count: it has too many neighbours.
        """
        total = 0
        for line in self._lines_of[key]:
            neighbours = len(line.seen) - 1
            if line in running:
                neighbours += len(running[line].keys() - line.seen.keys())
            total += min(neighbours, _LONG_COUNT) if line.long else neighbours
        return total

    def changes_around(self, key: str) -> int:
        """A number that is the same until a trial starts or ends that `edits` depends on."""
        return sum([line.changes for line in self._lines_of[key]])

    def edits(self, key: str, running: Running, tried: Tried) -> list[Edit]:
        """Untried edits of an indexed configuration, in a fixed order.

        They lead to all other values of an unordered decision, to the next value on each side
        of a short ordered one, and on each side of a long or continuous one to a value between
        the current and the nearest tried one, unless these are close already.

        Args:
            key: Key of the configuration.
            running: See `running`.
            tried: Returns whether a configuration was proposed before.
        """
        values, edits = self._values[key], []
        for line in self._lines_of[key]:
            now = running.get(line, {})
            if line.long:
                edits += _bracketing_edits(values[line.name], line, now)
                continue
            for value in _adjacent_values(values[line.name], line.domain):
                count = line.seen.get(value, 0) + now.get(value, 0)
                if self._may_be_new(values, line.name, value, count, tried):
                    edits.append(Edit(line.name, value))
        return edits

    def _may_be_new(
        self,
        values: Values,
        name: str,
        value: object,
        count: int,
        tried: Tried,
    ) -> bool:
        """Whether an edit that was tried ``count`` times may give a new configuration."""
        if not self._dependants[name]:
            return not count
        edited = {**values, name: value}
        completed = self.spec.fill(edited)
        if all(active in edited and completed[active] == edited[active] for active in completed):
            return not tried(completed)
        return count < _completions(self.spec, edited)

    def edited(self, key: str, edit: Edit, rng: np.random.Generator) -> Values:
        """An indexed configuration after an edit; decisions that it activates are drawn."""
        values = self._values[key]
        value = edit.value
        if edit.between is not None:
            domain = self.spec.active(values)[edit.name].domain
            here, end = edit.between
            value = domain.at(here + (end - here) * float(rng.random()))
            if value == values[edit.name]:
                value = domain.beside(value, up=end > here)
        return self.spec.complete({**values, edit.name: value}, rng)


def _completions(
    spec: SearchSpec,
    values: Mapping[str, Any],
    start: int = 0,
    before: Mapping[str, Any] | None = None,
) -> int:
    """Number of ways to draw missing or invalid values; at most `_COMPLETIONS`.

    Args:
        spec: The space.
        values: Values that stay where they are active and valid.
        start: Index of the first decision that is not in ``before``.
        before: Active values of the decisions before ``start``.
    """
    chosen = dict(before or {})
    for index, decision in enumerate(spec.decisions[start:], start):
        if not decision.active(chosen):
            continue
        domain = decision.domain
        if decision.name in values and domain.contains(values[decision.name]):
            chosen[decision.name] = values[decision.name]
            continue
        if domain.size is None or domain.size >= _COMPLETIONS:
            return _COMPLETIONS
        count = 0
        for value in domain.values():
            count += _completions(spec, values, index + 1, {**chosen, decision.name: value})
            if count >= _COMPLETIONS:
                return _COMPLETIONS
        return count
    return 1


def _adjacent_values(value: object, domain: Domain) -> list[Any]:
    if not domain.ordered:
        return [alternative for alternative in domain.values() if alternative != value]
    values = list(domain.values())
    index = min(int(domain.position(value) * len(values)), len(values) - 1)
    return values[max(index - 1, 0) : index] + values[index + 1 : index + 2]


def _bracketing_edits(value: object, line: _Line, running: Mapping[Any, int]) -> list[Edit]:
    """Up to two edits of a decision with a long or continuous ordered domain.

    The optimum near the best value of a line is between the tried values next to it: each
    draw makes this interval smaller, as in a line search by bracketing.
    """
    domain, here = line.domain, line.domain.position(value)
    candidates = [domain.position(running_value) for running_value in running]
    positions, edits = line.positions, []
    for up in (False, True):
        beside = domain.beside(value, up=up)
        if beside in line.seen or beside in running or (domain.position(beside) > here) != up:
            continue
        if up:
            candidates += positions[bisect.bisect_right(positions, here) :][:1]
            end = min((position for position in candidates if position > here), default=1.0)
        else:
            candidates += positions[: bisect.bisect_left(positions, here)][-1:]
            end = max((position for position in candidates if position < here), default=0.0)
        if abs(end - here) >= _RESOLUTION:
            end = min(max(end, here - _REACH), here + _REACH)
            edits.append(Edit(line.name, between=(here, min(end, _LAST))))
    return edits


def _dependants(spec: SearchSpec) -> dict[str, frozenset[str]]:
    """Names of the decisions that depend on each decision, directly or indirectly."""
    dependants: dict[str, set[str]] = {name: set() for name in spec.names}
    # Children follow their parents: in reverse order, the dependants of a child are complete.
    for decision in reversed(spec.decisions):
        for condition in decision.conditions:
            if condition.parent in dependants:
                dependants[condition.parent] |= {decision.name} | dependants[decision.name]
    return {name: frozenset(names) - {name} for name, names in dependants.items()}


def _hashed(parts: list[Any]) -> int:
    """A 64-bit hash that is the same in every process, unlike `hash`."""
    text = json.dumps(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

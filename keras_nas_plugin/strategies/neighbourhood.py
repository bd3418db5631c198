"""Which tried configurations lie one edit apart, and which edits of one are left."""

from __future__ import annotations

import bisect
import collections
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

# Ordered domains with at most this many values are searched from value to next value.
_SHORT = 4
# Longest step along a longer one, as a fraction of its length: with steps drawn uniformly
# up to here, about the deviation of a mutation.
_REACH = 2.0 * MUTATION_SCALE
# Steps shorter than this fraction are not worth a trial.
_RESOLUTION = 1.0 / 64.0
# How often an edit is tried whose outcome is drawn, because it activates other decisions.
_COMPLETIONS = 4
# Neighbours along one long decision that count.
_LONG_COUNT = 4
_LAST = math.nextafter(1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Edit:
    """Another value for one decision.

    Attributes:
        name: The decision.
        value: Its new value; None where one is drawn between two positions.
        between: Positions between which it is drawn: the current one and the farthest.
    """

    name: str
    value: Any = None
    between: tuple[float, float] | None = None


class _Line:
    """Tried configurations that differ in one decision, and in what depends on it, only.

    Attributes:
        name: The decision.
        domain: Its values.
        long: Whether it is searched by steps between tried values.
        seen: How many configurations have a value.
        positions: Sorted positions of these values, where the line is long.
    """

    # There is one for each decision of each configuration.
    __slots__ = ("domain", "long", "name", "positions", "seen")

    def __init__(self, name: str, domain: Domain) -> None:
        self.name = name
        self.domain = domain
        self.long = domain.ordered and (domain.size is None or domain.size > _SHORT)
        self.seen: dict[Any, int] = {}
        self.positions: list[float] | None = [] if self.long else None

    def add(self, value: Any) -> None:
        if self.long and value not in self.seen:
            bisect.insort(self.positions, self.domain.position(value))
        self.seen[value] = self.seen.get(value, 0) + 1


#: What trials that run now add to each line that they are on: how many have a value.
Running = Mapping[_Line, Mapping[Any, int]]


class Neighbourhoods:
    """An index of tried configurations by what they have in common.

    Neighbours are found by looking up, for each decision, the *line* of a configuration:
    all that agree in everything but this decision and those that depend on it. What it
    costs to add a configuration and to list the edits of one depends on the number of
    decisions and their values, not on how many configurations are known.

    Args:
        spec: The space; when it grows, an index is built anew.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        self._values: dict[str, Values] = {}
        self._lines_of: dict[str, tuple[_Line, ...]] = {}
        self._lines: dict[int, _Line] = {}
        self._dependants = _dependants(spec)

    def add(self, key: str, values: Values) -> None:
        """Make a configuration known; once more changes nothing.

        Args:
            key: Its key.
            values: All its active values.
        """
        if key in self._values:
            return
        self._values[key] = values
        self._lines_of[key] = self._on(values)
        for line in self._lines_of[key]:
            line.add(values[line.name])

    def values(self, key: str) -> Values:
        """The values of a known configuration."""
        return self._values[key]

    def _on(self, values: Mapping[str, Any]) -> tuple[_Line, ...]:
        """The line of each active decision that has a choice.

        Lines are found by the exclusive or of one hash per value (Zobrist 1970): to leave
        values out of it does not take a pass over the others.
        """
        parts = {name: _hashed([name, value]) for name, value in values.items()}
        whole = functools.reduce(operator.xor, parts.values(), 0)
        lines = []
        for name, decision in self.spec.active(values).items():
            if decision.domain.size == 1:
                continue
            address = whole ^ parts[name] ^ _hashed([name])
            for dependant in self._dependants[name]:
                address ^= parts.get(dependant, 0)
            if address not in self._lines:
                self._lines[address] = _Line(name, decision.domain)
            lines.append(self._lines[address])
        return tuple(lines)

    def running(self, pending: Iterable[Mapping[str, Any]]) -> Running:
        """What trials that run now will add to the index.

        Args:
            pending: Their values.
        """
        found: dict[_Line, collections.Counter[Any]] = {}
        for one in pending:
            values = self.spec.fill(one)
            for line in self._on(values):
                found.setdefault(line, collections.Counter())[values[line.name]] += 1
        return found

    def tried_around(self, key: str, running: Running) -> int:
        """How many neighbours of a known configuration were tried, or are.

        Of a long or continuous decision at most four count: a line has no end of them.
        """
        total = 0
        for line in self._lines_of[key]:
            others = len(line.seen) - 1
            if line in running:
                others += len(running[line].keys() - line.seen.keys())
            total += min(others, _LONG_COUNT) if line.long else others
        return total

    def edits(self, key: str, running: Running, tried: Tried) -> list[Edit]:
        """Edits of a known configuration that were not tried, in a fixed order.

        All other values of an unordered decision; the next value on each side of a short
        ordered one; on each side of a long or continuous one, a value between this and
        the nearest that was tried, unless that is near already.

        Args:
            key: A known configuration.
            running: See `running`.
            tried: Tells whether a configuration was proposed before.
        """
        values, found = self._values[key], []
        for line in self._lines_of[key]:
            now = running.get(line, {})
            if line.long:
                found += _sides(values[line.name], line, now)
                continue
            for value in _near(values[line.name], line.domain):
                count = line.seen.get(value, 0) + now.get(value, 0)
                if self._open(values, line.name, value, count, tried):
                    found.append(Edit(line.name, value))
        return found

    def _open(
        self,
        values: Values,
        name: str,
        value: Any,
        count: int,
        tried: Tried,
    ) -> bool:
        """Whether an edit that was tried ``count`` times leads to something new."""
        if not self._dependants[name]:
            return not count
        edited = {**values, name: value}
        whole = self.spec.fill(edited)
        if all(other in edited and whole[other] == edited[other] for other in whole):
            return not tried(whole)
        return count < _completions(self.spec, edited)

    def edited(self, key: str, edit: Edit, rng: np.random.Generator) -> Values:
        """A known configuration after an edit; what that activates is drawn."""
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
    spec: SearchSpec, values: Mapping[str, Any], start: int = 0, before: Mapping | None = None
) -> int:
    """In how many ways missing or invalid values can be drawn; at most `_COMPLETIONS`.

    Args:
        spec: The space.
        values: What is kept where it is active and valid.
        start: Decisions before this one are in ``before``.
        before: Their active values.
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
        ways = 0
        for value in domain.values():
            ways += _completions(spec, values, index + 1, {**chosen, decision.name: value})
            if ways >= _COMPLETIONS:
                return _COMPLETIONS
        return ways
    return 1


def _near(value: Any, domain: Domain) -> list[Any]:
    if not domain.ordered:
        return [other for other in domain.values() if other != value]
    values = list(domain.values())
    index = min(int(domain.position(value) * len(values)), len(values) - 1)
    return values[max(index - 1, 0) : index] + values[index + 1 : index + 2]


def _sides(value: Any, line: _Line, running: Mapping[Any, int]) -> list[Edit]:
    """Up to two edits of a decision of a long or continuous ordered domain.

    Whatever is the best on its line has its optimum between the tried values next to it:
    each draw between makes this interval smaller, as in a line search by bracketing.
    """
    domain, here = line.domain, line.domain.position(value)
    others = [domain.position(other) for other in running]
    known, found = line.positions, []
    for up in (False, True):
        beside = domain.beside(value, up=up)
        if beside in line.seen or beside in running or (domain.position(beside) > here) != up:
            continue
        if up:
            near = known[bisect.bisect_right(known, here) :][:1]
            end = min((one for one in (*near, *others) if one > here), default=1.0)
        else:
            near = known[: bisect.bisect_left(known, here)][-1:]
            end = max((one for one in (*near, *others) if one < here), default=0.0)
        if abs(end - here) >= _RESOLUTION:
            end = min(max(end, here - _REACH), here + _REACH)
            found.append(Edit(line.name, between=(here, min(end, _LAST))))
    return found


def _dependants(spec: SearchSpec) -> dict[str, frozenset[str]]:
    """Names of decisions that depend on each decision, through others too."""
    found: dict[str, set[str]] = {name: set() for name in spec.names}
    # Children come after their parents: backwards, those of a child are complete.
    for decision in reversed(spec.decisions):
        for condition in decision.conditions:
            if condition.parent in found:
                found[condition.parent] |= {decision.name} | found[decision.name]
    return {name: frozenset(names) - {name} for name, names in found.items()}


def _hashed(parts: list[Any]) -> int:
    """64 bits that do not depend on the process, unlike `hash`."""
    text = json.dumps(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

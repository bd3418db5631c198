"""Whose child a proposal is."""

import numpy as np
import pytest

from keras_nas_plugin.space import Categorical, Decision, SearchSpec
from keras_nas_plugin.strategies import (
    NSGA2,
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    SurrogateSearch,
)

SPEC = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2, 3))) for i in range(12)))


def bred(strategy, count=60, objectives=1, fails=lambda values: False):
    """Proposals with the parents that the strategy named, by trial id."""
    rng, found, tried = np.random.default_rng(0), {}, set()
    for number in range(count):
        values = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
        tried.add(SPEC.key(values))
        found[str(number)] = values, strategy.parents
        total = float(sum(values.values()))
        scores = None if fails(values) else (total, float(values["d0"]))[:objectives]
        strategy.tell(str(number), values, scores)
    return found


def different(one, other):
    return sum(one[name] != other[name] for name in one)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RegularizedEvolution(population_size=8, crossover=0.0),
        lambda: LocalSearch(initial_samples=8),
    ],
)
@pytest.mark.parametrize("fails", [lambda v: False, lambda v: v["d1"] == 2])
def test_a_mutant_differs_from_its_parent_in_one_decision(make, fails):
    found = bred(make(), fails=fails)
    bred_ones = [(number, one) for number, one in found.items() if one[1]]
    assert len(bred_ones) > 40
    for number, (values, parents) in bred_ones:
        (parent,) = parents
        assert int(parent) < int(number)
        assert different(values, found[parent][0]) == 1
        assert not fails(found[parent][0])
    assert all(found[str(number)][1] == () for number in range(8))


def test_a_crossed_child_has_two_parents_and_takes_from_both():
    found = bred(RegularizedEvolution(population_size=8, crossover=1.0))
    pairs = [(v, ids) for v, ids in found.values() if len(ids) == 2]
    assert len(pairs) > 20
    # One that equals what was tried is mutated.
    strange = [
        sum(values[name] not in {found[one][0][name] for one in ids} for name in values)
        for values, ids in pairs
    ]
    assert sum(count == 0 for count in strange) > 5 and max(strange) <= 2


def test_children_of_nsga2_have_one_or_two_parents():
    found = bred(NSGA2(population_size=6), objectives=2)
    counts = [len(ids) for _, ids in found.values()]
    assert counts[:12] == [0] * 12 and set(counts[12:]) == {1, 2}
    for values, ids in list(found.values())[12:]:
        near = min(different(values, found[one][0]) for one in ids)
        assert near <= 10 if len(ids) == 2 else near <= 8


@pytest.mark.parametrize("make", [RandomSearch, lambda: SurrogateSearch(initial_trials=4)])
def test_what_is_not_bred_has_no_parents(make):
    assert {ids for _, ids in bred(make(), count=8).values()} == {()}

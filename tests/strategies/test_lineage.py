"""The parents that a proposal names."""

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


def proposed_trials(strategy, count=60, objectives=1, fails=lambda values: False):
    """Values and parents of every proposal, by trial id."""
    rng, trials, tried = np.random.default_rng(0), {}, set()
    for number in range(count):
        proposal = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
        values = proposal.values
        tried.add(SPEC.key(values))
        trials[str(number)] = values, proposal.parents
        total = float(sum(values.values()))
        scores = None if fails(values) else (total, float(values["d0"]))[:objectives]
        strategy.tell(str(number), values, scores)
    return trials


def changed_decisions(first, second):
    return sum(first[name] != second[name] for name in first)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RegularizedEvolution(population_size=8, crossover=0.0),
        lambda: LocalSearch(initial_samples=8),
    ],
)
@pytest.mark.parametrize("fails", [lambda v: False, lambda v: v["d1"] == 2])
def test_a_mutation_differs_from_its_parent_in_one_decision(make, fails):
    trials = proposed_trials(make(), fails=fails)
    children = [(number, trial) for number, trial in trials.items() if trial[1]]
    assert len(children) > 40
    for number, (values, parents) in children:
        (parent,) = parents
        assert int(parent) < int(number)
        assert changed_decisions(values, trials[parent][0]) == 1
        assert not fails(trials[parent][0])
    assert all(trials[str(number)][1] == () for number in range(8))


def test_a_crossover_child_names_two_parents_and_takes_values_from_them():
    trials = proposed_trials(RegularizedEvolution(population_size=8, crossover=1.0))
    pairs = [(v, ids) for v, ids in trials.values() if len(ids) == 2]
    assert len(pairs) > 20
    # A child that was tried already is mutated.
    foreign_values = [
        sum(values[name] not in {trials[parent][0][name] for parent in ids} for name in values)
        for values, ids in pairs
    ]
    assert sum(count == 0 for count in foreign_values) > 5 and max(foreign_values) <= 2


def test_nsga2_children_name_one_or_two_parents():
    trials = proposed_trials(NSGA2(population_size=6), objectives=2)
    counts = [len(ids) for _, ids in trials.values()]
    assert counts[:12] == [0] * 12 and set(counts[12:]) == {1, 2}
    for values, ids in list(trials.values())[12:]:
        changes = min(changed_decisions(values, trials[parent][0]) for parent in ids)
        assert changes <= 10 if len(ids) == 2 else changes <= 8


@pytest.mark.parametrize("make", [RandomSearch, lambda: SurrogateSearch(initial_trials=4)])
def test_random_proposals_have_no_parents(make):
    assert {ids for _, ids in proposed_trials(make(), count=8).values()} == {()}

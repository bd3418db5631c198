"""No operation lists the values of a long domain: memory and time do not depend on its length."""

import numpy as np
import pytest
import test_strategies

import keras_nas_plugin.strategies as strategies
from keras_nas_plugin.reports.leaf_regions import Grid
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.matching import match

_LONGEST = 2_000
SPEC = SearchSpec(
    (
        Decision("grid", Real(0.0, 1.0, 1e-9)),
        Decision("fine", Real(1.0, 2.0, 1e-20)),
        Decision("ratio", Real(1e-9, 1.0, 1.0 + 1e-9, "log")),
        Decision("units", Integer(0, 10**12, 3)),
        Decision("huge", Integer(0, 2**80)),
        Decision("kind", Categorical(("a", "b"))),
        Decision("count", Integer(1, 10**12, None, "reverse_log"), (Condition("kind", ("a",)),)),
    )
)


@pytest.fixture(autouse=True)
def _no_listing(monkeypatch):
    """Listing a long domain is an error."""

    def restricted(listed):
        def values(domain):
            assert domain.size == 1 or domain.size <= _LONGEST, f"{domain} is listed"
            return listed(domain)

        return values

    for domain in (Integer, Real):
        monkeypatch.setattr(domain, "values", restricted(domain.values))


@pytest.mark.parametrize("name", test_strategies.ALL)
def test_no_strategy_lists_a_long_domain(name):
    strategy = test_strategies.ALL[name].for_budget(24)
    rng, tried = np.random.default_rng(0), set()
    for number in range(24):
        proposal = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
        SPEC.validate(proposal.values)
        tried.add(SPEC.key(proposal.values))
        scores = None if number % 7 == 3 else (proposal.values["grid"],)
        strategy.tell(str(number), proposal.values, scores)
    assert len(tried) == 24


def test_local_search_steps_along_long_domains():
    strategy = strategies.LocalSearch(initial_samples=1)
    rng, centre = np.random.default_rng(0), SPEC.sample(np.random.default_rng(1))
    strategy.tell("0", centre, (1.0,))
    changed = set()
    for _ in range(60):
        values = strategy.ask(SPEC, rng, tried=lambda v: v == centre, pending={}).values
        changed |= {name for name in centre if values.get(name) != centre[name]}
    assert changed >= set(SPEC.names) - {"count"}


@pytest.mark.parametrize("decision", SPEC.decisions, ids=lambda decision: decision.name)
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("position", [0.0, 0.3, 0.999_999_999_999])
def test_the_value_beside_another_is_not_searched_for(decision, up, position):
    domain = decision.domain
    value = domain.at(position)
    beside = domain.beside(value, up=up)
    assert domain.contains(beside) and beside != value
    assert (beside > value) == up or position != 0.3 or not domain.ordered


def test_the_space_draws_untried_values_of_a_long_domain_when_random_draws_fail():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0, 1e-9)), Decision("n", Integer(0, 2**80))))
    asked = []

    def tried(values):
        asked.append(spec.key(values))
        return len(asked) <= 300

    values = spec.untried(np.random.default_rng(0), tried)
    spec.validate(values)
    assert len(set(asked)) == len(asked)


def test_values_of_a_long_domain_are_drawn_once_each():
    spec = SearchSpec((Decision("n", Integer(1, 100_000)),))
    drawn = [values["n"] for values in spec.configurations(np.random.default_rng(0))]
    assert sorted(drawn) == list(range(1, 100_001))
    assert 40_000 < np.mean(drawn[:1000]) < 60_000


def test_reports_and_matching_do_not_list_a_long_domain():
    grid = Grid(SPEC)
    rng = np.random.default_rng(0)
    configurations = [SPEC.sample(rng) for _ in range(3)]
    assert grid.features(grid.cells(configurations)).shape[0] == 3
    for values in configurations:
        assert match(SPEC, values).values is not None

"""The autoregressive policy: its probabilities, its draws and its layout of a space."""

import collections
import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import policy
from keras_nas_plugin.strategies.policy import Layout, Sampler, cell_edges, cell_features
from keras_nas_plugin.strategies.policy_gradient import (
    choice_log_probs,
    log_policy,
    make_batch,
)
from tests.space.generators import specs

DOMAINS = [
    Categorical(("a", "b", "c")),
    Categorical((1, 2, 4), ordered=True),
    Categorical((False, True)),
    Integer(3, 3),
    Integer(1, 24),
    Integer(1, 9, None, "log"),
    Integer(1, 900),
    Integer(1, 900, None, "log"),
    Integer(1, 10**9, None, "reverse_log"),
    Integer(8, 128, 2, "log"),
    Integer(8, 128, 2, "reverse_log"),
    Integer(0, 1000, 7),
    Real(0.0, 0.5, 0.1),
    Real(1e-5, 1e-1, None, "log"),
    Real(0.5, 0.99, None, "reverse_log"),
    Real(2.0, 2.0),
]

# Two decisions are named `width`; `extra` depends on both.
CONDITIONAL = SearchSpec(
    (
        Decision("kind", Categorical(("a", "b", "c"))),
        Decision("width", Integer(1, 3), (Condition("kind", ("a", "b")),)),
        Decision("width", Categorical((8, 16)), (Condition("kind", ("c",)),)),
        Decision("extra", Categorical((False, True)), (Condition("width", (2, 8)),)),
        Decision("depth", Integer(1, 4)),
    )
)


def random_weights(layout, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, size, x.shape) for name, x in layout.zero_weights().items()}


def log_probability(weights, layout, values):
    batch = make_batch(layout, [layout.encode(values)])
    return float(choice_log_probs(log_policy(weights, layout, batch), batch).sum())


def test_examples_in_the_docstrings():
    assert doctest.testmod(policy).failed == 0


# ---------------------------------------------------------------------- cells


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_cells_cover_a_domain_and_never_split_a_value(domain):
    edges = cell_edges(domain)
    assert edges[0] == 0.0 and edges[-1] == 1.0 and (np.diff(edges) > 0).all()
    assert len(edges) <= max(26, (domain.size or 0) + 1 if not domain.ordered else 0)
    head = policy.Head("", Decision("d", domain), edges, cell_features(domain, edges))
    for position in np.random.default_rng(0).random(300):
        if np.min(np.abs(edges - position)) > 1e-9:
            inside = int(np.searchsorted(edges, position, "right")) - 1
            assert head.cell(domain.at(position)) == inside


@pytest.mark.parametrize(
    "domain", [domain for domain in DOMAINS if domain.size and domain.size <= 24], ids=str
)
def test_a_short_domain_has_one_cell_per_value_in_order(domain):
    edges = cell_edges(domain)
    head = policy.Head("", Decision("d", domain), edges, cell_features(domain, edges))
    assert [head.cell(value) for value in domain.values()] == list(range(domain.size))


def test_nearby_cells_of_ordered_domains_have_similar_features():
    """Inner products of features fall with the distance; unordered cells share nothing."""
    for domain in (Integer(1, 12), Real(0.0, 1.0), Integer(1, 900, None, "log")):
        features = cell_features(domain, cell_edges(domain))
        alike = features @ features.T
        middle = len(alike) // 2
        assert (np.diff(alike[middle, middle : middle + 4]) < 0).all()
        assert alike[middle, middle + 1] > 0.5 * alike[middle, middle]
    labels = Categorical(tuple("abcd"))
    features = cell_features(labels, cell_edges(labels))
    assert (features @ features.T == np.eye(4)).all()


# ---------------------------------------------------------------------- probabilities


@given(specs(), st.integers(0, 99))
def test_probabilities_of_all_configurations_sum_to_one(spec, seed):
    """Each value of these spaces has its own cell, so that cells and values are equally likely."""
    layout = Layout(spec, 4)
    weights = random_weights(layout, seed)
    rng = np.random.default_rng(0)
    total = sum(
        math.exp(log_probability(weights, layout, values)) for values in spec.configurations(rng)
    )
    assert total == pytest.approx(1.0, abs=1e-9)


@given(specs(endless=True), st.integers(0, 99))
def test_draws_are_valid_and_only_active_decisions_have_cells(spec, seed):
    layout = Layout(spec, 4)
    sampler = Sampler(random_weights(layout, seed, size=3.0), layout)
    rng = np.random.default_rng(seed)
    for heat in (1.0, 4.0):
        values = sampler.draw(rng, heat)
        spec.validate(values)
        cells, scored = layout.encode(values)
        active = spec.active(values)
        for head, cell, is_scored in zip(layout.heads, cells, scored, strict=True):
            is_active = active.get(head.decision.name) is head.decision
            assert (cell >= 0) == is_active
            assert is_scored == (is_active and head.cells > 1)


def test_draws_follow_the_probabilities():
    layout = Layout(CONDITIONAL, 4)
    weights = random_weights(layout, 3)
    sampler, rng, draws = Sampler(weights, layout), np.random.default_rng(0), 6_000
    drawn = collections.Counter(CONDITIONAL.key(sampler.draw(rng)) for _ in range(draws))
    counted = 0
    for values in CONDITIONAL.configurations(rng):
        expected = math.exp(log_probability(weights, layout, values))
        # Five standard errors of a share, and one draw for rounding.
        margin = 5 * math.sqrt(expected * (1 - expected) / draws) + 1 / draws
        assert drawn[CONDITIONAL.key(values)] / draws == pytest.approx(expected, abs=margin)
        counted += drawn[CONDITIONAL.key(values)]
    assert counted == draws


def test_zero_weights_reproduce_random_search():
    """The same draws from the same generator, and the space's own distribution."""
    spec = SearchSpec(tuple(Decision(f"d{i}", domain) for i, domain in enumerate(DOMAINS)))
    layout = Layout(spec, 4)
    sampler = Sampler(layout.zero_weights(), layout)
    policy_rng, space_rng = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(50):
        drawn, expected = sampler.draw(policy_rng), spec.sample(space_rng)
        assert drawn.keys() == expected.keys()
        for name, value in drawn.items():
            assert value == pytest.approx(expected[name]) and type(value) is type(expected[name])
    batch = make_batch(layout, [layout.encode(spec.sample(policy_rng))])
    log_p = log_policy(layout.zero_weights(), layout, batch)
    np.testing.assert_allclose(log_p[:, 0], layout.log_mass)


def test_a_high_temperature_reproduces_random_search():
    layout = Layout(CONDITIONAL, 4)
    sampler = Sampler(random_weights(layout, 3, size=5.0), layout)
    cold, plain = np.random.default_rng(0), np.random.default_rng(0)
    drawn = [sampler.draw(cold, 1e9) for _ in range(50)]
    flat = Sampler(layout.zero_weights(), layout)
    assert drawn == [flat.draw(plain) for _ in range(50)]


def test_a_decision_depends_only_on_earlier_decisions():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(4)))
    layout = Layout(spec, 4)
    weights = random_weights(layout)
    values = {f"d{i}": 0 for i in range(4)}
    changed = {**values, "d2": 1}
    log_p = [
        log_policy(weights, layout, make_batch(layout, [layout.encode(configuration)]))[:, 0]
        for configuration in (values, changed)
    ]
    np.testing.assert_array_equal(log_p[0][:3], log_p[1][:3])
    assert np.abs(log_p[0][3] - log_p[1][3]).max() > 1e-3


# ---------------------------------------------------------------------- growing spaces


def test_an_added_decision_keeps_the_projections_of_existing_ones():
    late = Decision("late", Categorical((1, 2, 3)), default=2)
    grown = SearchSpec((CONDITIONAL.decisions[0], late, *CONDITIONAL.decisions[1:]))
    before, after = Layout(CONDITIONAL, 4), Layout(grown, 4)
    index_by_key = {head.key: index for index, head in enumerate(after.heads)}
    assert len(index_by_key) == len(before.heads) + 1
    for index, head in enumerate(before.heads):
        own = head.features.shape[1]
        np.testing.assert_array_equal(
            before.projection[index, :own], after.projection[index_by_key[head.key], :own]
        )


def test_default_values_of_added_decisions_are_not_scored():
    late = Decision("late", Categorical((1, 2, 3)), default=2)
    child = Decision("child", Integer(1, 5), (Condition("late", (2,)),), default=4)
    layout = Layout(SearchSpec((*CONDITIONAL.decisions, late, child)), 4)
    values = {"kind": "a", "width": 1, "depth": 3}
    cells, scored = layout.encode(values)
    by_name = {head.decision.name: i for i, head in enumerate(layout.heads)}
    assert cells[by_name["late"]] == 1 and cells[by_name["child"]] == 3
    assert not scored[by_name["late"]] and not scored[by_name["child"]]
    assert scored[by_name["depth"]] and scored[by_name["kind"]]
    cells, scored = layout.encode({**values, "late": 3})
    assert scored[by_name["late"]] and cells[by_name["child"]] == -1


def test_values_outside_their_domain_are_not_scored():
    layout = Layout(CONDITIONAL, 4)
    cells, scored = layout.encode({"kind": "z", "depth": 9})
    assert (cells == -1).all() and not scored.any()


def test_equal_decisions_have_separate_weights():
    twice = SearchSpec((Decision("d", Integer(1, 3)), Decision("d", Integer(1, 3))))
    assert len({head.key for head in Layout(twice, 4).heads}) == 2

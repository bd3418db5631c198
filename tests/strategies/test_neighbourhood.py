import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies.neighbourhood import Neighbourhoods
from tests.space.generators import specs

GRID = SearchSpec(tuple(Decision(name, Categorical((0, 1, 2))) for name in "abc"))
LINE = SearchSpec((Decision("x", Real(0.0, 1.0)), Decision("y", Integer(1, 4))))


def index_of(spec, configurations):
    index = Neighbourhoods(spec)
    for values in configurations:
        index.add(spec.key(values), values)
    return index


def outcomes(index, spec, values, tried, running=(), seed=0):
    """Where all open edits of a configuration lead."""
    rng, found = np.random.default_rng(seed), index.running(running)
    edits = index.edits(spec.key(values), found, tried)
    return [index.edited(spec.key(values), edit, rng) for edit in edits]


def differing(first, second):
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


@given(st.sets(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=26), st.data())
def test_edits_lead_to_the_neighbours_that_were_not_tried(chosen, data):
    known = [dict(zip("abc", one, strict=True)) for one in sorted(chosen)]
    running = data.draw(st.lists(st.sampled_from(known), max_size=3))
    known_and_ended = [values for values in known if values not in running]
    assume(known_and_ended)
    index = index_of(GRID, known_and_ended)
    every = [dict(zip("abc", one, strict=True)) for one in itertools.product(range(3), repeat=3)]
    for values in known_and_ended:
        near = [other for other in every if differing(values, other) == 1]
        left = [other for other in near if other not in known]
        found = outcomes(index, GRID, values, lambda one: one in known, running)
        assert sorted(map(GRID.key, found)) == sorted(map(GRID.key, left))
        around = index.tried_around(GRID.key(values), index.running(running))
        assert around == len(near) - len(left)


@given(specs(endless=True), st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_edits_lead_to_untried_configurations_one_edit_away(spec, seed, count):
    rng = np.random.default_rng(seed)
    known = [spec.sample(rng) for _ in range(count)]
    tried = {spec.key(values) for values in known}
    index = index_of(spec, known)
    for values in known:
        for edit in index.edits(spec.key(values), {}, lambda one: spec.key(one) in tried):
            after = index.edited(spec.key(values), edit, rng)
            spec.validate(after)
            assert after[edit.name] != values[edit.name]
            lost = {name for name in values if name != edit.name and name not in after}
            shared = values.keys() & after.keys() - {edit.name}
            kept = {name for name in shared if after[name] == values[name]}
            # What the edit neither switched off nor moved to another domain stays.
            old, new = spec.active(values), spec.active(after)
            assert all(new[name] is not old[name] for name in shared - kept)
            assert not any(name in new for name in lost)


def test_an_index_knows_no_difference_between_orders():
    rng = np.random.default_rng(0)
    known = [LINE.sample(rng) for _ in range(20)]
    first, second = index_of(LINE, known), index_of(LINE, known[::-1])
    second.add(LINE.key(known[0]), known[0])
    for values in known:
        key = LINE.key(values)
        assert first.edits(key, {}, lambda one: False) == second.edits(key, {}, lambda one: False)
        assert first.tried_around(key, {}) == second.tried_around(key, {})


def test_a_step_leads_between_the_value_and_the_nearest_that_was_tried():
    known = [{"x": x, "y": 2} for x in (0.1, 0.3, 0.5, 0.9)] + [{"x": 0.45, "y": 3}]
    index = index_of(LINE, known)
    for seed in range(50):
        steps = outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda one: False, seed=seed)
        below, above = sorted(one["x"] for one in steps if one["y"] == 2)
        assert 0.3 < below < 0.5 < above < 0.9
        below, above = sorted(
            one["x"]
            for one in outcomes(
                index, LINE, {"x": 0.5, "y": 2}, lambda one: False, [{"x": 0.6, "y": 2}], seed
            )
            if one["y"] == 2
        )
        assert 0.3 < below < 0.5 < above < 0.6


def test_steps_are_limited_and_end():
    index = index_of(LINE, [{"x": 0.5, "y": 2}])
    found = [
        one["x"]
        for seed in range(200)
        for one in outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda one: False, seed=seed)
        if one["x"] != 0.5
    ]
    # Uniform on both sides, up to 0.4 of the range: the edges are reached to a hundredth with
    # 400 draws, as each misses that with probability 0.975.
    assert 0.1 <= min(found) < 0.12 and 0.88 < max(found) <= 0.9
    near = [{"x": 0.5 + sign * 0.015, "y": 2} for sign in (-1, 1)]
    index = index_of(LINE, [{"x": 0.5, "y": 2}, *near])
    steps = outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda one: False)
    assert all(one["x"] == 0.5 for one in steps) and len(steps) == 2


@pytest.mark.parametrize(
    "domain",
    [Integer(1, 30), Integer(1, 30, 3), Integer(1, 900, None, "log"), Real(0.0, 1.0, 0.05)],
)
def test_all_values_near_are_tried_and_then_the_line_ends(domain):
    spec = SearchSpec((Decision("n", domain),))
    rng = np.random.default_rng(0)
    here = {"n": domain.at(0.5)}
    index, known = index_of(spec, [here]), [here]
    for _ in range(60):
        edits = index.edits(spec.key(here), {}, lambda one: False)
        if not edits:
            break
        after = index.edited(spec.key(here), edits[0], rng)
        assert after not in known, "proposed twice"
        known.append(after)
        index.add(spec.key(after), after)
    else:
        raise AssertionError("the line has no end")
    for up in (False, True):
        side = [
            one["n"] for one in known if one["n"] != here["n"] and (one["n"] > here["n"]) == up
        ]
        gap = min(abs(domain.position(one) - domain.position(here["n"])) for one in side)
        assert domain.beside(here["n"], up=up) in side or gap < 1 / 64


def test_along_a_long_line_four_neighbours_count():
    known = [{"x": 0.1 * number, "y": 2} for number in range(9)]
    index = index_of(LINE, known)
    assert {index.tried_around(LINE.key(one), {}) for one in known} == {4}
    assert index.tried_around(LINE.key(known[0]), index.running([{"x": 0.0, "y": 3}])) == 5


def test_an_edit_whose_outcome_is_drawn_is_tried_more_than_once():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b", "c"))),
            Decision("width", Integer(1, 100), (Condition("kind", ("b",)),)),
        )
    )
    here = {"kind": "a"}
    rng, known = np.random.default_rng(0), [here]
    drawn = []
    for _ in range(20):
        index = index_of(spec, known)
        found = index.edits(spec.key(here), {}, lambda one, k=tuple(known): one in k)
        if not found:
            break
        known.append(index.edited(spec.key(here), found[-1], rng))
        drawn.append(known[-1]["kind"])
    # What switches nothing on leads to one configuration only.
    assert sorted(drawn) == ["b"] * 4 + ["c"]

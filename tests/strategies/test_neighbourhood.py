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


def numbered(configurations):
    """Configurations of running trials, by trial id."""
    return {str(number): values for number, values in enumerate(configurations)}


def outcomes(index, spec, values, tried, running=(), seed=0):
    """The configurations that the open edits of a configuration produce."""
    rng, running_index = np.random.default_rng(seed), index.running(numbered(running))
    edits = index.edits(spec.key(values), running_index, tried)
    return [index.edited(spec.key(values), edit, rng) for edit in edits]


def differing(first, second):
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


@given(st.sets(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=26), st.data())
def test_edits_cover_exactly_the_untried_neighbours(chosen, data):
    tried = [dict(zip("abc", point, strict=True)) for point in sorted(chosen)]
    running = data.draw(st.lists(st.sampled_from(tried), max_size=3))
    ended = [values for values in tried if values not in running]
    assume(ended)
    index = index_of(GRID, ended)
    every = [
        dict(zip("abc", point, strict=True)) for point in itertools.product(range(3), repeat=3)
    ]
    for values in ended:
        near = [neighbour for neighbour in every if differing(values, neighbour) == 1]
        untried = [neighbour for neighbour in near if neighbour not in tried]
        edited = outcomes(index, GRID, values, lambda point: point in tried, running)
        assert sorted(map(GRID.key, edited)) == sorted(map(GRID.key, untried))
        around = index.tried_around(GRID.key(values), index.running(numbered(running)))
        assert around == len(near) - len(untried)


@given(specs(endless=True), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 5), max_size=12))
def test_running_trials_that_start_and_end_leave_what_those_that_run_add(spec, seed, toggled):
    """Trial after trial starts, ends, or starts again with other values."""
    rng, pending = np.random.default_rng(seed), {}
    index = Neighbourhoods(spec)
    for number in toggled:
        if str(number) in pending and rng.random() < 0.7:
            del pending[str(number)]
        else:
            pending[str(number)] = spec.sample(rng)
        fresh = Neighbourhoods(spec).running(pending)
        assert _counts(index.running(pending)) == _counts(fresh)


def _counts(running):
    """What running trials add, without the lines' identity."""
    lines = ((line.name, sorted(counts.items(), key=repr)) for line, counts in running.items())
    return sorted(lines, key=repr)


@given(specs(endless=True), st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_edited_configurations_are_valid_and_change_one_decision(spec, seed, count):
    rng = np.random.default_rng(seed)
    configurations = [spec.sample(rng) for _ in range(count)]
    tried = {spec.key(values) for values in configurations}
    index = index_of(spec, configurations)
    for values in configurations:
        for edit in index.edits(
            spec.key(values), {}, lambda candidate: spec.key(candidate) in tried
        ):
            after = index.edited(spec.key(values), edit, rng)
            spec.validate(after)
            assert after[edit.name] != values[edit.name]
            deactivated = {name for name in values if name != edit.name and name not in after}
            shared = values.keys() & after.keys() - {edit.name}
            unchanged = {name for name in shared if after[name] == values[name]}
            # Decisions that the edit neither deactivated nor moved to another domain stay.
            old, new = spec.active(values), spec.active(after)
            assert all(new[name] is not old[name] for name in shared - unchanged)
            assert not any(name in new for name in deactivated)


def test_the_index_does_not_depend_on_the_order_of_trials():
    rng = np.random.default_rng(0)
    configurations = [LINE.sample(rng) for _ in range(20)]
    first, second = index_of(LINE, configurations), index_of(LINE, configurations[::-1])
    second.add(LINE.key(configurations[0]), configurations[0])
    for values in configurations:
        key = LINE.key(values)
        assert first.edits(key, {}, lambda candidate: False) == second.edits(
            key, {}, lambda candidate: False
        )
        assert first.tried_around(key, {}) == second.tried_around(key, {})


def test_a_step_ends_between_the_value_and_the_nearest_tried_value():
    tried = [{"x": x, "y": 2} for x in (0.1, 0.3, 0.5, 0.9)] + [{"x": 0.45, "y": 3}]
    index = index_of(LINE, tried)
    for seed in range(50):
        steps = outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda values: False, seed=seed)
        below, above = sorted(values["x"] for values in steps if values["y"] == 2)
        assert 0.3 < below < 0.5 < above < 0.9
        below, above = sorted(
            values["x"]
            for values in outcomes(
                index, LINE, {"x": 0.5, "y": 2}, lambda values: False, [{"x": 0.6, "y": 2}], seed
            )
            if values["y"] == 2
        )
        assert 0.3 < below < 0.5 < above < 0.6


def test_steps_are_limited_and_stop_near_tried_values():
    index = index_of(LINE, [{"x": 0.5, "y": 2}])
    reached = [
        values["x"]
        for seed in range(200)
        for values in outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda values: False, seed=seed)
        if values["x"] != 0.5
    ]
    # Uniform on both sides, up to 0.4 of the range: some of 400 draws come within 0.02 of
    # each limit, as each draw misses it with probability 0.975.
    assert 0.1 <= min(reached) < 0.12 and 0.88 < max(reached) <= 0.9
    near = [{"x": 0.5 + sign * 0.015, "y": 2} for sign in (-1, 1)]
    index = index_of(LINE, [{"x": 0.5, "y": 2}, *near])
    steps = outcomes(index, LINE, {"x": 0.5, "y": 2}, lambda values: False)
    assert all(values["x"] == 0.5 for values in steps) and len(steps) == 2


@pytest.mark.parametrize(
    "domain",
    [Integer(1, 30), Integer(1, 30, 3), Integer(1, 900, None, "log"), Real(0.0, 1.0, 0.05)],
)
def test_all_adjacent_values_are_tried_before_a_line_is_exhausted(domain):
    spec = SearchSpec((Decision("n", domain),))
    rng = np.random.default_rng(0)
    here = {"n": domain.at(0.5)}
    index, tried = index_of(spec, [here]), [here]
    for _ in range(60):
        edits = index.edits(spec.key(here), {}, lambda candidate: False)
        if not edits:
            break
        after = index.edited(spec.key(here), edits[0], rng)
        assert after not in tried, "proposed twice"
        tried.append(after)
        index.add(spec.key(after), after)
    else:
        raise AssertionError("the line is never exhausted")
    for up in (False, True):
        side = [
            candidate["n"]
            for candidate in tried
            if candidate["n"] != here["n"] and (candidate["n"] > here["n"]) == up
        ]
        gap = min(
            abs(domain.position(candidate) - domain.position(here["n"])) for candidate in side
        )
        assert domain.beside(here["n"], up=up) in side or gap < 1 / 64


def test_at_most_four_tried_neighbours_count_along_a_line():
    configurations = [{"x": 0.1 * number, "y": 2} for number in range(9)]
    index = index_of(LINE, configurations)
    assert {index.tried_around(LINE.key(values), {}) for values in configurations} == {4}
    running = index.running({"9": {"x": 0.0, "y": 3}})
    assert index.tried_around(LINE.key(configurations[0]), running) == 5


def test_an_edit_that_samples_activated_decisions_is_tried_several_times():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b", "c"))),
            Decision("width", Integer(1, 100), (Condition("kind", ("b",)),)),
        )
    )
    here = {"kind": "a"}
    rng, tried = np.random.default_rng(0), [here]
    drawn = []
    for _ in range(20):
        index = index_of(spec, tried)
        edits = index.edits(spec.key(here), {}, lambda candidate, k=tuple(tried): candidate in k)
        if not edits:
            break
        tried.append(index.edited(spec.key(here), edits[-1], rng))
        drawn.append(tried[-1]["kind"])
    # An edit that activates nothing produces a single configuration.
    assert sorted(drawn) == ["b"] * 4 + ["c"]

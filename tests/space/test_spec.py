import itertools
import json

import numpy as np
import pytest
from generators import specs
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec

_ABSENT = object()
_SEEDS = st.integers(0, 2**32 - 1)


def active_decisions(spec, values):
    """The active decision of each name, computed independently of the code under test."""
    active = {}
    for decision in spec.decisions:
        if all(c.parent in values and values[c.parent] in c.values for c in decision.conditions):
            active[decision.name] = decision
    return active


def is_configuration(spec, values):
    active = active_decisions(spec, values)
    return set(active) == set(values) and all(
        any(
            type(value) is type(allowed) and value == allowed
            for allowed in active[name].domain.values()
        )
        if active[name].domain.size is not None
        else active[name].domain.low <= value <= active[name].domain.high
        for name, value in values.items()
    )


def all_configurations(spec):
    """Every configuration of a finite space, by trying all combinations of all values."""
    names = sorted(spec.names)
    options = []
    for name in names:
        values = {}
        for decision in spec.decisions:
            if decision.name == name:
                values |= {json.dumps(value): value for value in decision.domain.values()}
        options.append([_ABSENT, *values.values()])
    for chosen in itertools.product(*options):
        values = {n: v for n, v in zip(names, chosen, strict=True) if v is not _ABSENT}
        if is_configuration(spec, values):
            yield values


def keys(configurations):
    return sorted(json.dumps(values, sort_keys=True) for values in configurations)


@given(specs(endless=True), _SEEDS)
def test_samples_are_valid_configurations(spec, seed):
    rng = np.random.default_rng(seed)
    for _ in range(5):
        values = spec.sample(rng)
        assert is_configuration(spec, values)
        spec.validate(values)
        assert spec.restrict(values) == values


@given(specs(endless=True), _SEEDS)
def test_a_mutation_changes_exactly_one_shared_decision(spec, seed):
    rng = np.random.default_rng(seed)
    before = spec.sample(rng)
    active = active_decisions(spec, before)
    if all(decision.domain.size == 1 for decision in active.values()):
        with pytest.raises(SearchSpaceError, match="two values"):
            spec.mutate(before, rng)
        return
    for _ in range(5):
        active = active_decisions(spec, before)
        try:
            after = spec.mutate(before, rng)
        except SearchSpaceError:
            assert all(decision.domain.size == 1 for decision in active.values())
            break
        assert is_configuration(spec, after)
        now = active_decisions(spec, after)
        shared = [name for name in active if now.get(name) is active[name]]
        changed = [name for name in shared if before[name] != after[name]]
        assert len(changed) == 1, (before, after)
        before = after


@given(specs(endless=True), specs(endless=True), _SEEDS)
def test_complete_turns_foreign_values_into_a_configuration(spec, foreign_spec, seed):
    rng = np.random.default_rng(seed)
    foreign = foreign_spec.sample(rng)
    values = spec.complete(foreign, rng)
    assert is_configuration(spec, values)
    for name, decision in active_decisions(spec, values).items():
        if name in foreign and decision.domain.contains(foreign[name]):
            assert values[name] == foreign[name]


@given(specs(), _SEEDS)
def test_configurations_lists_each_configuration_once(spec, seed):
    listed = keys(spec.configurations(np.random.default_rng(seed)))
    assert listed == keys(all_configurations(spec))


@given(specs(), _SEEDS)
def test_untried_returns_every_configuration_and_then_none(spec, seed):
    rng = np.random.default_rng(seed)
    expected = set(keys(all_configurations(spec)))
    tried = set()
    for _ in range(min(len(expected), 40)):
        values = spec.untried(rng, lambda values: spec.key(values) in tried)
        assert spec.key(values) not in tried
        tried.add(spec.key(values))
    if len(tried) == len(expected):
        assert tried == expected
        assert spec.untried(rng, lambda values: spec.key(values) in tried) is None


@given(specs(endless=True), _SEEDS)
def test_validate_rejects_missing_inactive_and_outside_values(spec, seed):
    values = spec.sample(np.random.default_rng(seed))
    name = sorted(values)[0]
    for wrong in (
        {key: value for key, value in values.items() if key != name},
        {**values, name: object()},
        {**values, "unknown name": 1},
    ):
        with pytest.raises(SearchSpaceError):
            spec.validate(wrong)


@given(specs(endless=True), _SEEDS)
def test_equal_seeds_give_equal_values(spec, seed):
    def walk(rng):
        values = spec.sample(rng)
        steps = [values]
        for _ in range(3):
            if any(d.domain.size != 1 for d in spec.active(values).values()):
                values = spec.mutate(values, rng)
                steps.append(values)
        return steps

    assert walk(np.random.default_rng(seed)) == walk(np.random.default_rng(seed))


def test_decisions_are_sorted_parents_first():
    child = Decision("child", Integer(1, 3), (Condition("parent", ("b",)),))
    grandchild = Decision("grandchild", Integer(1, 3), (Condition("child", (3,)),))
    parent = Decision("parent", Categorical(("a", "b")))
    spec = SearchSpec((grandchild, child, parent))
    assert [decision.name for decision in spec.decisions] == ["parent", "child", "grandchild"]


def test_cyclic_conditions_are_rejected():
    first = Decision("one", Integer(1, 3), (Condition("two", (1,)),))
    second = Decision("two", Integer(1, 3), (Condition("one", (1,)),))
    with pytest.raises(SearchSpaceError, match=r"cycle; got \['one', 'two'\]"):
        SearchSpec((first, second))


def test_a_decision_with_an_undeclared_parent_is_inactive():
    spec = SearchSpec((Decision("child", Integer(1, 3), (Condition("undeclared", (1,)),)),))
    assert spec.sample(np.random.default_rng(0)) == {}


def test_complete_keeps_a_value_that_the_newly_active_decision_allows():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b"))),
            Decision("width", Integer(1, 4), (Condition("kind", ("a",)),)),
            Decision("width", Integer(3, 9), (Condition("kind", ("b",)),)),
        )
    )
    rng = np.random.default_rng(0)
    assert spec.complete({"kind": "b", "width": 4}, rng) == {"kind": "b", "width": 4}
    assert 3 <= spec.complete({"kind": "b", "width": 1}, rng)["width"] <= 9


def test_mutate_fills_a_missing_decision_with_its_default():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a",))),
            Decision("late", Integer(1, 2), default=1),
            Decision("child", Categorical(("x",)), (Condition("late", (2,)),), default="x"),
        )
    )
    mutated = spec.mutate({"kind": "a"}, np.random.default_rng(0))
    assert mutated == {"kind": "a", "late": 2, "child": "x"}


def test_the_key_ignores_inactive_and_unknown_values_and_order():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b"))),
            Decision("width", Integer(1, 4), (Condition("kind", ("b",)),)),
        )
    )
    assert spec.key({"width": 2, "kind": "a"}) == spec.key({"kind": "a", "other": 7})
    assert spec.key({"width": 2, "kind": "b"}) == spec.key({"kind": "b", "width": 2})
    assert spec.key({"kind": "b", "width": 2}) != spec.key({"kind": "b", "width": 3})


def test_untried_finds_the_last_untried_configuration():
    spec = SearchSpec(tuple(Decision(name, Integer(1, 10)) for name in "abc"))
    last = {"a": 7, "b": 1, "c": 10}
    untried = spec.untried(np.random.default_rng(0), lambda values: values != last)
    assert untried == last


def test_untried_finds_a_rare_branch_with_a_real_decision():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(tuple("abcdefghij"))),
            Decision("rate", Real(0.0, 1.0), (Condition("kind", ("j",)),)),
        )
    )
    untried = spec.untried(np.random.default_rng(0), lambda values: values["kind"] != "j")
    assert untried["kind"] == "j" and 0.0 <= untried["rate"] <= 1.0


def one_shared_change(spec, before, after):
    """Whether exactly one decision that is active in both has another value."""
    old, new = active_decisions(spec, before), active_decisions(spec, after)
    shared = [name for name in old if new.get(name) is old[name]]
    return sum(before[name] != after[name] for name in shared) == 1


@given(specs(endless=True), _SEEDS)
def test_neighbours_are_configurations_that_differ_in_one_decision(spec, seed):
    rng = np.random.default_rng(seed)
    values = spec.sample(rng)
    before = dict(values)
    near = spec.neighbours(values, rng)
    assert values == before
    for neighbour in near:
        assert is_configuration(spec, neighbour)
        assert one_shared_change(spec, values, neighbour), (values, neighbour)
    assert len({spec.key(neighbour) for neighbour in near}) == len(near)
    choices = [d for d in active_decisions(spec, values).values() if d.domain.size != 1]
    assert len(near) >= len(choices)


def test_all_neighbours_in_a_space_without_conditions_or_order():
    names = "abc"
    spec = SearchSpec(tuple(Decision(name, Categorical(tuple(range(4)))) for name in names))
    values = {"a": 0, "b": 1, "c": 2}
    expected = [{**values, name: candidate} for name in names for candidate in range(4)]
    expected = [candidate for candidate in expected if candidate != values]
    orders = [spec.neighbours(values, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert keys(orders[0]) == keys(expected)
    assert orders[0] == orders[1] != orders[2]


def test_neighbours_sample_activated_decisions_and_keep_others():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b"))),
            Decision("width", Categorical((1, 2, 3)), (Condition("kind", ("b",)),)),
            Decision("other", Categorical((0, 1))),
        )
    )
    widths = set()
    for seed in range(50):
        near = spec.neighbours({"kind": "a", "other": 1}, np.random.default_rng(seed))
        assert {"kind": "a", "other": 0} in near and len(near) == 2
        (switched,) = [neighbour for neighbour in near if neighbour["kind"] == "b"]
        assert switched["other"] == 1
        widths.add(switched["width"])
    assert widths == {1, 2, 3}


_GROWN = SearchSpec(
    (
        Decision("kind", Categorical(("a", "b")), default="a"),
        Decision("late", Categorical((1, 2)), default=2),
        Decision("child", Categorical(("x", "y")), (Condition("late", (2,)),), default="y"),
    )
)


def test_neighbours_of_an_older_configuration_use_defaults_of_added_decisions():
    """It has the default of the added decision and of the child that this activates."""
    near = _GROWN.neighbours({"kind": "a"}, np.random.default_rng(0))
    assert keys(near) == keys(
        [
            {"kind": "b", "late": 2, "child": "y"},
            {"kind": "a", "late": 1},
            {"kind": "a", "late": 2, "child": "x"},
        ]
    )


def test_mutations_of_an_older_configuration_use_defaults_of_added_decisions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mutated = _GROWN.mutate({"kind": "a"}, rng)
        assert one_shared_change(_GROWN, {"kind": "a", "late": 2, "child": "y"}, mutated), mutated


def test_crossover_with_an_older_parent_uses_defaults_of_added_decisions():
    old, new = {"kind": "a"}, {"kind": "b", "late": 1}
    rng = np.random.default_rng(0)
    children = [_GROWN.cross(old, new, rng) for _ in range(100)]
    assert {child["late"] for child in children} == {1, 2}
    assert {child["child"] for child in children if child["late"] == 2} == {"y"}


@given(specs(endless=True), _SEEDS)
def test_crossover_inherits_values_of_its_parents(spec, seed):
    rng = np.random.default_rng(seed)
    first, second = spec.sample(rng), spec.sample(rng)
    child = spec.cross(first, second, rng)
    assert is_configuration(spec, child)
    for name, decision in active_decisions(spec, child).items():
        inherited = [
            parent[name]
            for parent in (first, second)
            if name in parent and decision.domain.contains(parent[name])
        ]
        assert not inherited or child[name] in inherited
    assert spec.cross(first, first, rng) == first


def test_crossover_chooses_a_parent_independently_per_decision():
    names = ("a", "b", "c")
    spec = SearchSpec(tuple(Decision(name, Integer(0, 1)) for name in names))
    rng, draws = np.random.default_rng(0), 8000
    first, second = dict.fromkeys(names, 0), dict.fromkeys(names, 1)
    children = [tuple(spec.cross(first, second, rng).values()) for _ in range(draws)]
    for child in itertools.product((0, 1), repeat=3):
        # Five standard errors of a share of one in eight.
        margin = 5 * np.sqrt(1 / 8 * 7 / 8 / draws)
        assert children.count(child) / draws == pytest.approx(1 / 8, abs=margin)


def test_complete_converts_integers_to_floats_in_real_domains():
    spec = SearchSpec((Decision("rate", Real(0.0, 1.0, 0.25)),))
    completed = spec.complete({"rate": 1}, np.random.default_rng(0))
    assert completed == {"rate": 1.0} and type(completed["rate"]) is float
    assert spec.key(completed) == spec.key({"rate": 1.0})

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.encoding import UNKNOWN, encoding_of
from keras_nas_plugin.strategies.candidates import move, mutate, neighbours, reflect, rows_of

sys.path.insert(0, str(Path(__file__).parents[1] / "space"))
from generators import specs

_SEEDS = st.integers(0, 2**32 - 1)

FLAT = SearchSpec(
    (
        Decision("a", Categorical(("x", "y", "z"))),
        Decision("n", Integer(1, 9)),
        Decision("s", Categorical((1, 2, 4), ordered=True)),
    )
)


@given(specs(endless=True), _SEEDS)
def test_mutations_and_neighbours_are_valid_configurations(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    codes = encoding.sample(4, rng)
    for row in (*mutate(encoding, codes, rng), *neighbours(encoding, codes, rng)):
        spec.validate(encoding.decode(row))


@given(specs(), _SEEDS)
def test_a_mutation_differs_from_its_parent_unless_nothing_is_active(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    codes = encoding.sample(8, rng)
    for parent, child in zip(codes, mutate(encoding, codes, rng), strict=True):
        free = ~np.isnan(parent)
        assert rows_of(parent[None]) != rows_of(child[None]) or not free.any()


def test_mutations_without_conditions_change_one_uniformly_drawn_decision():
    rng = np.random.default_rng(0)
    encoding = encoding_of(FLAT)
    codes = encoding.sample(3000, rng)
    changed = mutate(encoding, codes, rng) != codes
    assert (changed.sum(axis=1) == 1).all()
    # Each has a share of 1/3; five standard errors for 3,000 draws are 0.043.
    assert changed.mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.045)


def test_neighbours_change_one_decision_to_another_or_an_adjacent_value():
    encoding = encoding_of(FLAT)
    (row,) = encoding.encode_many([{"a": "y", "n": 1, "s": 2}])
    neighbour_rows = neighbours(encoding, row[None], np.random.default_rng(0))
    decoded = [tuple(encoding.decode(codes).values()) for codes in neighbour_rows]
    expected = {("x", 1, 2), ("z", 1, 2), ("y", 2, 2), ("y", 1, 1), ("y", 1, 4)}
    assert set(decoded) == expected


def test_decisions_activated_by_a_mutation_are_sampled():
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b"))),
            Decision("n", Integer(1, 100), (Condition("kind", ("b",)),)),
        )
    )
    encoding = encoding_of(spec)
    codes = encoding.encode_many([{"kind": "a"}] * 200)
    rows = mutate(encoding, codes, np.random.default_rng(0))
    assert (rows[:, 0] == 1.0).all()
    assert len(set(rows[:, 1])) > 50


def test_neighbours_of_a_real_decision_have_four_step_sizes():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    rows = neighbours(encoding_of(spec), np.full((2000, 1), 0.5), np.random.default_rng(0))
    deviations = np.abs(rows.reshape(4, 2000) - 0.5).std(axis=1)
    # The deviation of |step| is 0.603 times that of a normal step.
    assert deviations / 0.603 == pytest.approx([0.2, 0.1, 0.05, 0.02], rel=0.1)


def test_an_unknown_label_moves_to_every_label_of_the_domain():
    encoding, rng = encoding_of(FLAT), np.random.default_rng(0)
    codes = encoding.encode_many([{"a": "gone", "n": 1, "s": 2}] * 100)
    assert (codes[:, 0] == UNKNOWN).all()
    assert set(move(encoding.columns[0], codes[:, 0], rng)) == {0.0, 1.0, 2.0}
    for rows in (mutate(encoding, codes, rng), neighbours(encoding, codes, rng)):
        assert set(rows[:, 0]) == {0.0, 1.0, 2.0}


@given(st.lists(st.floats(-50.0, 50.0), min_size=1))
def test_reflected_positions_stay_in_the_unit_interval(positions):
    folded = reflect(np.array(positions))
    assert ((folded >= 0.0) & (folded < 1.0)).all()
    inside = (np.array(positions) >= 0.0) & (np.array(positions) < 1.0)
    assert (folded[inside] == np.array(positions)[inside]).all()


def test_row_keys_ignore_the_signs_of_zero_and_nan():
    nan = -np.float64("nan")
    keys = rows_of(np.array([[0.0, np.nan], [-0.0, nan], [0.0, 0.0], [np.nan, 0.0]]))
    assert keys[0] == keys[1] and len(set(keys)) == 3

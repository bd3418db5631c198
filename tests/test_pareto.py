import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_nas_plugin import pareto

# Few different values, so that ties and copies are common.
points = arrays.arrays(
    float,
    st.tuples(st.integers(0, 24), st.integers(1, 4)),
    elements=st.integers(0, 4).map(float),
)


def dominates(first, second):
    """The definition, pair by pair."""
    return all(a >= b for a, b in zip(first, second, strict=True)) and tuple(first) != tuple(
        second
    )


def peeled(count, above):
    """Ranks by definition: repeatedly remove the points that no remaining point is above."""
    ranks, remaining = {}, set(range(count))
    for rank in range(count):
        front = {i for i in remaining if not any(above(j, i) for j in remaining)}
        ranks |= dict.fromkeys(front, rank)
        remaining -= front
    return [ranks[i] for i in range(count)]


@given(points)
def test_non_dominated_ranks_follow_their_definition(scores):
    expected = peeled(len(scores), lambda i, j: dominates(scores[i], scores[j]))
    assert pareto.non_dominated_ranks(scores).tolist() == expected
    assert pareto.non_dominated(scores).tolist() == [rank == 0 for rank in expected]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_non_dominated_ranks_are_correct_across_blocks(objectives):
    """More points than one block holds, with duplicates."""
    rng = np.random.default_rng(objectives)
    scores = rng.integers(0, 12, size=(2 * pareto._BLOCK + 30, objectives)).astype(float)
    expected = peeled(len(scores), lambda i, j: dominates(scores[i], scores[j]))
    assert pareto.non_dominated_ranks(scores).tolist() == expected


def test_a_chain_across_blocks_has_as_many_fronts_as_points():
    count = 3 * pareto._BLOCK + 7
    order = np.random.default_rng(0).permutation(count)
    scores = np.stack([order, 2 * order], axis=1).astype(float)
    assert pareto.non_dominated_ranks(scores).tolist() == (count - 1 - order).tolist()


@given(points, st.data())
def test_constrained_ranks_follow_their_definition(scores, data):
    values = st.sampled_from([0.0, 0.0, 0.5, 2.0, np.inf])
    violations = data.draw(arrays.arrays(float, len(scores), elements=values))

    def above(i, j):
        """Definition 1 of Deb et al. 2002, section VI-A."""
        if violations[i] == 0 and violations[j] == 0:
            return dominates(scores[i], scores[j])
        return violations[i] < violations[j]

    ranks = pareto.constrained_ranks(scores, violations)
    assert ranks.tolist() == peeled(len(scores), above)


def test_scores_of_infeasible_points_are_ignored():
    violations = np.array([np.inf, 0.0, 1.0])
    for useless in (np.nan, np.inf, -1e9):
        scores = np.array([[useless], [0.0], [useless]])
        assert pareto.constrained_ranks(scores, violations).tolist() == [2, 0, 1]


def test_crowding_follows_its_formula():
    """Three objectives, ranges 4, 10 and 2: neighbours' distance over range, summed."""
    scores = np.array([[0.0, 10.0, 1.0], [1.0, 6.0, 0.0], [2.0, 3.0, 2.0], [4.0, 0.0, 1.5]])
    second = (2 - 0) / 4 + (10 - 3) / 10
    # The second and third are also the worst and the best in the last objective.
    assert pareto.crowding_distances(scores).tolist() == [np.inf] * 4
    flat = pareto.crowding_distances(scores[:, :2])
    assert flat.tolist() == [np.inf, pytest.approx(second), pytest.approx(3 / 4 + 6 / 10), np.inf]


def test_units_and_order_do_not_change_crowding():
    rng = np.random.default_rng(0)
    first = rng.random(30)
    scores = np.stack([first, 1 - first**2], axis=1)
    expected = pareto.crowding_distances(scores)
    assert np.isinf(expected).sum() == 2
    np.testing.assert_allclose(pareto.crowding_distances(scores * [1e6, 1e-3] - 5.0), expected)
    order = rng.permutation(30)
    np.testing.assert_allclose(pareto.crowding_distances(scores[order]), expected[order])


def test_duplicates_have_crowding_distance_zero():
    front = np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0]])
    distances = pareto.crowding_distances(front)
    assert distances.tolist() == [np.inf, 2.0, np.inf]
    doubled = pareto.crowding_distances(np.concatenate([front, front]))
    assert doubled.tolist() == [*distances, 0.0, 0.0, 0.0]


def test_empty_and_single_point_fronts_are_handled():
    assert pareto.crowding_distances(np.empty((0, 2))).shape == (0,)
    assert pareto.crowding_distances(np.array([[1.0, 2.0]])).tolist() == [np.inf]
    assert pareto.non_dominated_ranks(np.empty((0, 2))).shape == (0,)
    assert pareto.constrained_ranks(np.empty((0, 2)), np.empty(0)).shape == (0,)
    assert pareto.hypervolume(np.empty((0, 2)), np.zeros(2)) == 0.0


def counted(scores, size):
    """Hypervolume above 0 of points with whole coordinates up to ``size``: unit cubes."""
    cubes = itertools.product(range(size), repeat=scores.shape[1])
    return sum(
        any(all(c < s for c, s in zip(cube, p, strict=True)) for p in scores) for cube in cubes
    )


@given(points)
def test_the_hypervolume_on_a_grid_is_the_number_of_dominated_cubes(scores):
    volume = pareto.hypervolume(scores, np.zeros(scores.shape[1]))
    assert volume == counted(scores.astype(int), 4)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_the_hypervolume_agrees_with_inclusion_exclusion(objectives):
    rng = np.random.default_rng(objectives)
    scores, reference = rng.random((9, objectives)) * 3 - 1, np.full(objectives, -0.25)
    boxes = np.maximum(scores - reference, 0.0)
    expected = 0.0
    for size in range(1, len(boxes) + 1):
        for subset in itertools.combinations(boxes, size):
            expected -= (-1) ** size * np.min(subset, axis=0).prod()
    assert pareto.hypervolume(scores, reference) == pytest.approx(expected, rel=1e-12)


def test_the_hypervolume_of_a_large_front_agrees_with_its_formula():
    """n points on x + y = 1: the area under the steps is 1/2 - 1/(2 n), within [0, 1]^2."""
    n = 2000
    x = np.arange(1, n) / n
    front = np.stack([x, 1 - x], axis=1)
    area = pareto.hypervolume(front, np.zeros(2))
    assert area == pytest.approx(0.5 - 1 / (2 * n), rel=1e-9)
    # A third objective that is 2 everywhere doubles it; a hundred copies change nothing.
    third = np.column_stack([front[:400], np.full(400, 2.0)])
    flat = pareto.hypervolume(front[:400], np.zeros(2))
    assert pareto.hypervolume(np.tile(third, (3, 1)), np.zeros(3)) == pytest.approx(2 * flat)


@given(points, st.integers(0, 2**32 - 1))
def test_the_hypervolume_ignores_the_order_of_points_and_objectives(scores, seed):
    rng, zero = np.random.default_rng(seed), np.zeros(scores.shape[1])
    shuffled = scores[rng.permutation(len(scores))][:, rng.permutation(scores.shape[1])]
    assert pareto.hypervolume(shuffled, zero) == pareto.hypervolume(scores, zero)


def test_points_not_above_the_reference_add_no_hypervolume():
    reference = np.array([1.0, 1.0])
    assert pareto.hypervolume(np.array([[1.0, 9.0], [0.0, 9.0]]), reference) == 0.0
    assert pareto.hypervolume(np.array([[3.0, 2.0], [1.0, 9.0]]), reference) == 2.0


def test_the_compromise_is_nearest_to_the_ideal_point_in_units_of_ranges():
    front = np.array([[0.0, 1000.0], [0.5, 900.0], [0.9, 300.0], [1.0, 0.0]])
    # Distances: 1, (0.25 + 0.01)^0.5, (0.01 + 0.49)^0.5, 1.
    assert pareto.compromise(front) == 1
    assert pareto.compromise(front * [1.0, 1e-6]) == 1
    assert pareto.compromise(front[[0, 2, 3]]) == 1
    assert pareto.compromise(np.array([[2.0, 5.0]])) == 0
    # A constant objective is ignored; the first of equal points is chosen.
    assert pareto.compromise(np.array([[1.0, 5.0], [1.0, 5.0]])) == 0
    assert pareto.compromise(np.array([[0.0, 1.0, 7.0], [1.0, 0.0, 7.0]])) == 0

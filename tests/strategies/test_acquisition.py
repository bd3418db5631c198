import itertools

import numpy as np

from keras_nas_plugin.space import Categorical, Decision, Real, SearchSpec
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.strategies.acquisition import (
    best_first,
    candidates,
    upper_confidence_bound,
)
from keras_nas_plugin.strategies.candidates import rows_of

LABELS = SearchSpec(tuple(Decision(f"d{i}", Categorical(tuple("abcde"))) for i in range(8)))


def test_upper_confidence_bound_adds_deviations_to_the_mean():
    mean, deviation = np.array([1.0, 0.0]), np.array([0.1, 1.0])
    assert upper_confidence_bound(mean, deviation, 0.0).tolist() == [1.0, 0.0]
    assert upper_confidence_bound(mean, deviation, 2.0).tolist() == [1.2, 2.0]


def test_candidates_are_distinct_and_sorted_by_descending_value():
    encoding, rng = encoding_of(LABELS), np.random.default_rng(0)
    weights = rng.normal(size=8)
    proposed = candidates(encoding, encoding.sample(3, rng), lambda rows: rows @ weights, rng)
    assert len(set(rows_of(proposed))) == len(proposed) > 300
    assert (np.diff(np.round(proposed @ weights, 9)) <= 0.0).all()


def test_local_search_finds_the_optimum_of_400_000_configurations():
    """The value sums terms of single decisions and of neighbouring pairs of decisions.

    The optimum follows by dynamic programming. Each of 20 searches starts from three random
    configurations. One configuration in 390,625 is the optimum: 20 * 900 random candidates
    contain it with a probability of 5%.
    """
    encoding, hits = encoding_of(LABELS), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        single, pair = rng.normal(size=(8, 5)), 0.5 * rng.normal(size=(7, 5, 5))
        best = single[0]
        for at in range(1, 8):
            best = (best[:, None] + pair[at - 1]).max(axis=0) + single[at]

        def value(rows, single=single, pair=pair):
            at = rows.astype(int)
            unary = sum(single[i, at[:, i]] for i in range(8))
            return unary + sum(pair[i, at[:, i], at[:, i + 1]] for i in range(7))

        proposed = candidates(encoding, encoding.sample(3, rng), value, rng)
        hits += np.isclose(value(proposed[:1])[0], best.max())
    assert hits >= 10


def test_local_search_refines_real_decisions():
    spec = SearchSpec(tuple(Decision(f"x{i}", Real(0.0, 1.0)) for i in range(3)))
    encoding, rng = encoding_of(spec), np.random.default_rng(0)
    target = np.array([0.3, 0.9, 0.0])

    def value(rows):
        return -np.abs(rows - target).max(axis=1)

    errors = []
    for _ in range(20):
        proposed = candidates(encoding, encoding.sample(1, rng), value, rng)
        errors.append(-value(proposed[:1])[0])
    # The nearest of 600 random points is at (1 / 600 / (8 * 1/2))^(1/3), about 0.075.
    assert np.mean(errors) < 0.03


def test_candidates_of_a_small_space_are_all_its_configurations():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1))) for i in range(4)))
    encoding, rng = encoding_of(spec), np.random.default_rng(0)
    proposed = candidates(encoding, encoding.sample(1, rng), lambda rows: rows.sum(axis=1), rng)
    assert sorted(map(tuple, proposed)) == sorted(itertools.product((0.0, 1.0), repeat=4))


def test_values_equal_up_to_rounding_keep_the_first_row():
    rows = np.array([[3.0], [1.0], [3.0], [2.0]])
    values = np.array([0.3, 0.3 + 1e-13, 0.3, 0.3 - 1e-13])
    assert best_first(rows, values)[0].ravel().tolist() == [3.0, 1.0, 2.0]

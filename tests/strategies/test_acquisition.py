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


def test_the_bound_by_hand():
    mean, deviation = np.array([1.0, 0.0]), np.array([0.1, 1.0])
    assert upper_confidence_bound(mean, deviation, 0.0).tolist() == [1.0, 0.0]
    assert upper_confidence_bound(mean, deviation, 2.0).tolist() == [1.2, 2.0]


def test_candidates_differ_and_fall_in_value():
    encoding, rng = encoding_of(LABELS), np.random.default_rng(0)
    weights = rng.normal(size=8)
    found = candidates(encoding, encoding.sample(3, rng), lambda rows: rows @ weights, rng)
    assert len(set(rows_of(found))) == len(found) > 300
    assert (np.diff(np.round(found @ weights, 9)) <= 0.0).all()


def test_the_local_search_finds_the_best_of_400_000_configurations():
    """Values of single decisions and of neighbouring pairs; the optimum by dynamic programming.

    In 20 searches from three random configurations. One sample in 390,625 is the optimum: to
    draw it at random in any of 20 * 900 candidates has a chance of 5%.
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
            alone = sum(single[i, at[:, i]] for i in range(8))
            return alone + sum(pair[i, at[:, i], at[:, i + 1]] for i in range(7))

        found = candidates(encoding, encoding.sample(3, rng), value, rng)
        hits += np.isclose(value(found[:1])[0], best.max())
    assert hits >= 10


def test_the_local_search_refines_real_numbers():
    spec = SearchSpec(tuple(Decision(f"x{i}", Real(0.0, 1.0)) for i in range(3)))
    encoding, rng = encoding_of(spec), np.random.default_rng(0)
    target = np.array([0.3, 0.9, 0.0])

    def value(rows):
        return -np.abs(rows - target).max(axis=1)

    errors = []
    for _ in range(20):
        found = candidates(encoding, encoding.sample(1, rng), value, rng)
        errors.append(-value(found[:1])[0])
    # The nearest of 600 random points is at (1 / 600 / (8 * 1/2))^(1/3), about 0.075.
    assert np.mean(errors) < 0.03


def test_small_spaces_are_covered():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1))) for i in range(4)))
    encoding, rng = encoding_of(spec), np.random.default_rng(0)
    found = candidates(encoding, encoding.sample(1, rng), lambda rows: rows.sum(axis=1), rng)
    assert sorted(map(tuple, found)) == sorted(itertools.product((0.0, 1.0), repeat=4))


def test_of_equal_values_the_first_wins_whatever_the_last_bits():
    rows = np.array([[3.0], [1.0], [3.0], [2.0]])
    values = np.array([0.3, 0.3 + 1e-13, 0.3, 0.3 - 1e-13])
    assert best_first(rows, values)[0].ravel().tolist() == [3.0, 1.0, 2.0]

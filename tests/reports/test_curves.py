import itertools

import numpy as np
import pytest

from keras_nas_plugin.reports.curves import best_so_far, expected_best, random_reference
from tests.reports.conftest import failed, record_of, search_info

VALUES = {"width": 8, "depth": 1}


def one(number, score):
    if score is None:
        return failed(number, VALUES, "ValueError: no")
    return record_of(number, VALUES, score)


def records(scores):
    return [one(number, score) for number, score in enumerate(scores)]


def test_the_expected_best_is_the_mean_over_all_draws():
    scores = np.random.default_rng(0).normal(size=7)
    draws = np.arange(1, 8)
    expected = [
        np.mean([max(some) for some in itertools.combinations(scores, int(n))]) for n in draws
    ]
    assert expected_best(scores, draws) == pytest.approx(expected)
    many = np.stack([scores, scores + 1.0])
    assert expected_best(many, draws)[1] == pytest.approx(np.array(expected) + 1.0)


def test_of_thousands_it_stays_exact():
    # The largest of n of the numbers 1..m is n (m + 1) / (n + 1) on average.
    draws = np.array([1, 10, 1500, 3000])
    found = expected_best(np.arange(1.0, 3001.0), draws)
    assert found == pytest.approx(draws * 3001 / (draws + 1), rel=1e-9)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_a_random_search_is_its_own_reference(direction):
    scores = [0.3, 0.8, None, 0.5, 0.9, 0.1]
    search = search_info("x", strategy="RandomOracle", direction=direction)
    found = random_reference(search, records(scores))
    worst, best = (0.1, 0.9) if direction == "max" else (0.9, 0.1)
    filled = [worst if score is None else score for score in scores]
    assert (found["trials"], found["failed"], found["n"][-1]) == (6, 1, 6)
    assert found["expected"][0] == pytest.approx(np.mean(filled))
    assert found["expected"][-1] == pytest.approx(best)
    low, middle, high = (np.array(found[key]) for key in ("low", "expected", "high"))
    ends = np.array([low, high])
    assert ends.min() >= 0.1 - 1e-9 and ends.max() <= 0.9 + 1e-9
    assert (low <= middle + 1e-9).all() and (middle <= high + 1e-9).all()
    assert random_reference(search, records(scores)) == found


def test_the_first_population_of_an_evolution_is_random():
    started = records([0.1, 0.2, 0.3, 0.4, 0.5])
    children = [record_of(9, VALUES, 0.9, parents=("0004",))]
    found = random_reference(search_info("x"), [*started, *children])
    assert found["trials"] == 5 and found["expected"][-1] == pytest.approx(0.5)


def promoted(number, score):
    values = {**VALUES, "tuner/epochs": 9, "tuner/round": 1, "tuner/trial_id": "0001"}
    return record_of(number, values, score)


@pytest.mark.parametrize(
    ("strategy", "more", "said"),
    [
        ("SurrogateOracle", [], "do not say which trials were drawn at random"),
        ("RandomOracle", [promoted(8, 0.7)], "different numbers of epochs"),
    ],
)
def test_without_known_random_trials_there_is_none(strategy, more, said):
    found = random_reference(search_info("x", strategy=strategy), records([0.5] * 8) + more)
    assert said in found["note"] and "expected" not in found


def test_few_random_trials_are_no_reference():
    search = search_info("x", strategy="RandomOracle")
    found = random_reference(search, records([0.5, 0.6, 0.7, 0.8, None]))
    assert "fewer than 5 random trials finished (4)" in found["note"]


def test_the_best_so_far():
    trials = records([None, 0.4, 0.3, 0.6])
    assert best_so_far(search_info("x"), trials) == [None, 0.4, 0.4, 0.6]
    assert best_so_far(search_info("x", direction="min"), trials) == [None, 0.4, 0.3, 0.3]

import itertools

import numpy as np
import pytest

from keras_nas_plugin.reports.curves import best_so_far, expected_best, random_reference
from tests.reports.conftest import failed, record_of, search_info

VALUES = {"width": 8, "depth": 1}


def trial(number, score):
    if score is None:
        return failed(number, VALUES, "ValueError: no")
    return record_of(number, VALUES, score)


def records(scores):
    return [trial(number, score) for number, score in enumerate(scores)]


def test_the_expected_best_is_the_mean_over_all_subsets():
    scores = np.random.default_rng(0).normal(size=7)
    draws = np.arange(1, 8)
    expected = [
        np.mean([max(subset) for subset in itertools.combinations(scores, int(n))]) for n in draws
    ]
    assert expected_best(scores, draws) == pytest.approx(expected)
    stacked = np.stack([scores, scores + 1.0])
    assert expected_best(stacked, draws)[1] == pytest.approx(np.array(expected) + 1.0)


def test_the_expected_best_of_thousands_of_scores_is_exact():
    # The largest of n of the numbers 1..m is n (m + 1) / (n + 1) on average.
    draws = np.array([1, 10, 1500, 3000])
    reference = expected_best(np.arange(1.0, 3001.0), draws)
    assert reference == pytest.approx(draws * 3001 / (draws + 1), rel=1e-9)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_all_trials_of_a_random_search_form_the_reference(direction):
    scores = [0.3, 0.8, None, 0.5, 0.9, 0.1]
    search = search_info("x", strategy="RandomOracle", direction=direction)
    reference = random_reference(search, records(scores))
    worst, best = (0.1, 0.9) if direction == "max" else (0.9, 0.1)
    filled = [worst if score is None else score for score in scores]
    assert (reference["trials"], reference["failed"], reference["n"][-1]) == (6, 1, 6)
    assert reference["expected"][0] == pytest.approx(np.mean(filled))
    assert reference["expected"][-1] == pytest.approx(best)
    low, middle, high = (np.array(reference[key]) for key in ("low", "expected", "high"))
    ends = np.array([low, high])
    assert ends.min() >= 0.1 - 1e-9 and ends.max() <= 0.9 + 1e-9
    assert (low <= middle + 1e-9).all() and (middle <= high + 1e-9).all()
    assert random_reference(search, records(scores)) == reference


def test_trials_without_parents_form_the_reference_of_an_evolution():
    started = records([0.1, 0.2, 0.3, 0.4, 0.5])
    children = [record_of(9, VALUES, 0.9, parents=("0004",))]
    reference = random_reference(search_info("x"), [*started, *children])
    assert reference["trials"] == 5 and reference["expected"][-1] == pytest.approx(0.5)


def promoted(number, score):
    values = {**VALUES, "tuner/epochs": 9, "tuner/round": 1, "tuner/trial_id": "0001"}
    return record_of(number, values, score)


@pytest.mark.parametrize(
    ("strategy", "promotions", "message"),
    [
        ("SurrogateOracle", [], "do not say which trials were sampled at random"),
        ("RandomOracle", [promoted(8, 0.7)], "different numbers of epochs"),
    ],
)
def test_the_note_says_why_there_is_no_random_reference(strategy, promotions, message):
    reference = random_reference(
        search_info("x", strategy=strategy), records([0.5] * 8) + promotions
    )
    assert message in reference["note"] and "expected" not in reference


def test_there_is_no_random_reference_with_few_trials():
    search = search_info("x", strategy="RandomOracle")
    reference = random_reference(search, records([0.5, 0.6, 0.7, 0.8, None]))
    assert "fewer than 5 random trials finished (4)" in reference["note"]


def test_the_best_score_so_far_ignores_failed_trials():
    trials = records([None, 0.4, 0.3, 0.6])
    assert best_so_far(search_info("x"), trials) == [None, 0.4, 0.4, 0.6]
    assert best_so_far(search_info("x", direction="min"), trials) == [None, 0.4, 0.3, 0.3]

"""The oracle, the leaderboard, the command line and the report rank trials in the same order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.records.ranking import rank_key, ranked, violates_constraints
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord
from keras_nas_plugin.space.fidelity import Fidelity
from keras_nas_plugin.tracking.summary.leaderboard import TOP, Leaderboard

START = 1_700_000_000_000


def search_info(**changes):
    fields = {
        "search_id": "s",
        "name": "digits",
        "objective": "val_accuracy",
        "direction": "max",
        "strategy": "RandomOracle",
        "max_trials": 10,
    }
    return SearchInfo(**{**fields, **changes})


def trial(number, score, *, ended=None, epochs=None, **changes):
    values = {"units": number} | (Fidelity(epochs).to_values() if epochs else {})
    fields = {
        "trial_id": f"{number:02d}",
        "values": values,
        "status": FINISHED if score is not None else FAILED,
        "score": score,
        "ended_ms": START + (number if ended is None else ended),
    }
    return TrialRecord(**{**fields, **changes})


def ids(records):
    return [record.trial_id for record in records]


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("seed", range(5))
def test_ledger_leaderboard_and_records_rank_in_the_same_order(direction, seed):
    rng = np.random.default_rng(seed)
    search = search_info(direction=direction)
    scores = rng.choice([0.1, 0.2, 0.3, None, math.inf, -math.inf, math.nan], size=100)
    epochs = rng.choice([1, 3, 9], size=100)
    ends = rng.permutation(100)
    records = [
        trial(number, score, ended=int(end), epochs=int(length))
        for number, (score, end, length) in enumerate(zip(scores, ends, epochs, strict=True))
    ]
    ledger, board = Ledger(), Leaderboard(search)
    for record in sorted(records, key=lambda record: record.ended_ms):
        maximise = direction == "max"
        ledger.end(record.trial_id, record.score, maximise=maximise, epochs=record.length)
        board.add(record)
    expected = list(ledger.best())
    assert len(expected) > TOP
    assert ids(ranked(search, records)) == expected
    assert ids(board.top) == expected[:TOP]


def test_equal_scores_rank_in_the_order_in_which_the_trials_ended():
    records = [trial(0, 0.5, ended=3), trial(1, 0.5, ended=1), trial(2, 0.7, ended=2)]
    assert ids(ranked(search_info(), records)) == ["02", "01", "00"]


def test_trials_that_ended_at_the_same_time_rank_by_numeric_id():
    records = [trial(100, 0.5, ended=1), trial(99, 0.5, ended=1)]
    assert ids(ranked(search_info(), records)) == ["99", "100"]


def test_longer_trainings_rank_before_better_scores_of_shorter_ones():
    records = [trial(0, 0.9, epochs=1), trial(1, 0.6, epochs=9), trial(2, 0.7, epochs=9)]
    assert ids(ranked(search_info(), records)) == ["02", "01", "00"]


def test_the_oriented_score_is_larger_for_better_trials():
    assert rank_key(search_info(), trial(0, 0.25)).oriented_score == 0.25
    assert rank_key(search_info(direction="min"), trial(0, 0.25)).oriented_score == -0.25


def test_trials_with_equal_scores_have_equal_quality():
    first, second = (rank_key(search_info(), trial(number, 0.5)) for number in (0, 1))
    assert first < second and first.quality == second.quality


@pytest.mark.parametrize(
    "record",
    [
        trial(0, None),
        trial(0, 0.5, status=KILLED),
        trial(0, math.nan),
        trial(0, math.inf),
        trial(0, 0.5, costs={"parameters": 101.0}),
        trial(0, 0.5, costs={}),
    ],
    ids=["failed", "killed", "nan", "infinite", "too large", "unknown size"],
)
def test_failed_killed_non_finite_and_infeasible_trials_are_not_ranked(record):
    search = search_info(constraints=({"name": "params", "max": 100.0, "min": None},))
    assert rank_key(search, record) is None
    assert ranked(search, [record]) == []


def test_constraints_apply_to_costs_and_metrics():
    search = search_info(
        constraints=(
            {"name": "params", "max": 100.0, "min": None},
            {"name": "val_recall", "max": None, "min": 0.5},
        )
    )
    satisfying = trial(0, 0.5, costs={"parameters": 100.0}, metrics={"val_recall": 0.5})
    violating = trial(1, 0.5, costs={"parameters": 100.0}, metrics={"val_recall": 0.4})
    assert not violates_constraints(search, satisfying)
    assert violates_constraints(search, violating)
    assert search.limits[1].min == 0.5


# ------------------------------------------------------------------ objectives


def test_the_directions_of_one_objective():
    assert search_info().directions == {"val_accuracy": "max"}


def test_the_directions_of_several_objectives_keep_their_order():
    objectives = (("val_loss", "min"), ("accuracy", "max"))
    search = search_info(objective="multi_objective", direction="min", objectives=objectives)
    assert list(search.directions.items()) == list(objectives)


def test_directions_survive_saving(tmp_path):
    objectives = (("val_loss", "min"), ("accuracy", "max"))
    search = search_info(
        objective="multi_objective", objectives=objectives, directory=str(tmp_path)
    )
    search.save()
    assert SearchInfo.load(tmp_path) == search


def test_directions_are_read_from_the_settings_in_records_of_the_first_versions():
    settings = {"objectives": "val_accuracy (max), flops (min), val_f1 (top 5) (max)"}
    search = search_info(objective="multi_objective", settings=settings)
    assert search.directions == {"val_accuracy": "max", "flops": "min", "val_f1 (top 5)": "max"}

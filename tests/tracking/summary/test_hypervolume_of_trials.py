"""The hypervolume of a search, trial by trial."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_nas_plugin.tracking.summary.hypervolume import Hypervolume

OBJECTIVES = (("val_accuracy", "max"), ("parameters", "min"))


@pytest.fixture
def record_of(make_record):
    def build(number, accuracy, parameters, **changes):
        metrics = {"val_accuracy": accuracy}
        costs = {"parameters": parameters}
        return make_record(number, metrics=metrics, costs=costs, **changes)

    return build


@pytest.fixture
def volume(make_search):
    search = make_search(
        objective="multi_objective", direction="min", objectives=OBJECTIVES, constraints=()
    )
    return Hypervolume(search)


def test_the_reference_point_is_the_worst_of_the_first_ten_trials(volume, record_of):
    for number in range(9):
        assert volume.add(record_of(number, 0.5 + number / 100, 100.0 + number)) is None
        assert volume.tag() is None
    # The tenth trial dominates all others: the area from (0.5, 108) to (0.6, 90).
    assert volume.add(record_of(9, 0.6, 90.0)) == pytest.approx(0.1 * 18.0)
    assert json.loads(volume.tag()) == {"val_accuracy": 0.5, "parameters": 108.0}
    # A smaller, less accurate model adds an area; a dominated one adds none.
    larger = volume.add(record_of(10, 0.55, 80.0))
    assert larger == pytest.approx(0.1 * 18.0 + 0.05 * 10.0)
    assert volume.add(record_of(11, 0.54, 85.0)) == pytest.approx(larger)
    assert volume.add(record_of(12, 0.1, 1.0)) == pytest.approx(larger)


def test_the_hypervolume_never_falls_and_a_repeated_trial_counts_once(volume, record_of):
    rng, previous = np.random.default_rng(0), 0.0
    for number in range(40):
        record = record_of(number, float(rng.random()), float(rng.integers(10, 100)))
        value = volume.add(record)
        assert value is None or value >= previous - 1e-12
        previous = value or previous
        assert volume.add(record) == value


def test_unranked_trials_do_not_change_the_hypervolume(volume, record_of, make_record):
    for number in range(10):
        volume.add(record_of(number, 0.5 + number / 100, 100.0))
    before = volume.add(record_of(9, 0.59, 100.0))
    assert volume.add(record_of(20, 0.9, 1.0, status="FAILED")) == before
    assert volume.add(record_of(21, float("nan"), 1.0)) == before
    assert volume.add(make_record(22, costs={})) == before


def test_a_single_objective_has_no_hypervolume(make_search, make_record):
    volume = Hypervolume(make_search())
    assert [volume.add(make_record(number)) for number in range(12)] == [None] * 12


def test_the_hypervolume_is_a_metric_of_the_searchs_run(
    database, track, store, make_search, record_of
):
    search = make_search(objective="multi_objective", direction="min", objectives=OBJECTIVES)
    records = [record_of(n, 0.5 + n / 100, 100.0 - n) for n in range(12)]
    track(database, records, search=search)
    parent = store(database).parent()
    points = store(database).points(parent, "hypervolume")
    assert [step for step, _ in points] == [10, 11, 12]
    assert points[-1][1] > points[0][1] > 0
    assert json.loads(parent.data.tags["nas.hypervolume_reference"])["parameters"] == 100.0

"""The hypervolume of a search, trial by trial."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_nas_plugin.tracking.volume import Volume

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
    return Volume(search)


def test_it_is_measured_from_the_worst_of_the_first_ten(volume, record_of):
    for number in range(9):
        assert volume.add(record_of(number, 0.5 + number / 100, 100.0 + number)) is None
        assert volume.tag() is None
    # The box from (0.5, 108) to (0.6, 90); it dominates all others.
    assert volume.add(record_of(9, 0.6, 90.0)) == pytest.approx(0.1 * 18.0)
    assert json.loads(volume.tag()) == {"val_accuracy": 0.5, "parameters": 108.0}
    # A smaller one that is less accurate adds a strip, a dominated one nothing.
    larger = volume.add(record_of(10, 0.55, 80.0))
    assert larger == pytest.approx(0.1 * 18.0 + 0.05 * 10.0)
    assert volume.add(record_of(11, 0.54, 85.0)) == pytest.approx(larger)
    assert volume.add(record_of(12, 0.1, 1.0)) == pytest.approx(larger)


def test_it_never_falls_and_the_same_trial_counts_once(volume, record_of):
    rng, last = np.random.default_rng(0), 0.0
    for number in range(40):
        record = record_of(number, float(rng.random()), float(rng.integers(10, 100)))
        found = volume.add(record)
        assert found is None or found >= last - 1e-12
        last = found or last
        assert volume.add(record) == found


def test_what_does_not_count_adds_nothing(volume, record_of, make_record):
    for number in range(10):
        volume.add(record_of(number, 0.5 + number / 100, 100.0))
    before = volume.add(record_of(9, 0.59, 100.0))
    assert volume.add(record_of(20, 0.9, 1.0, status="FAILED")) == before
    assert volume.add(record_of(21, float("nan"), 1.0)) == before
    assert volume.add(make_record(22, costs={})) == before


def test_one_objective_has_no_volume(make_search, make_record):
    volume = Volume(make_search())
    assert [volume.add(make_record(number)) for number in range(12)] == [None] * 12


def test_it_is_a_metric_of_the_searchs_run(database, track, store, make_search, record_of):
    search = make_search(objective="multi_objective", direction="min", objectives=OBJECTIVES)
    records = [record_of(n, 0.5 + n / 100, 100.0 - n) for n in range(12)]
    track(database, records, search=search)
    parent = store(database).parent()
    points = store(database).points(parent, "hypervolume")
    assert [step for step, _ in points] == [10, 11, 12]
    assert points[-1][1] > points[0][1] > 0
    assert json.loads(parent.data.tags["nas.hypervolume_reference"])["parameters"] == 100.0

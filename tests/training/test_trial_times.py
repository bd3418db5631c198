"""The time of a trial, divided into that of its epochs and the rest."""

import time

import keras
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle, SuccessiveHalvingOracle
from keras_nas_plugin.records.trial import FAILED, FINISHED, TrialRecord, load_records
from keras_nas_plugin.training import trial_times
from keras_nas_plugin.training.interrupts import Interrupter
from keras_nas_plugin.training.trial_times import TrialTimes, own_listeners

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class Times:
    def __init__(self):
        self.recorded = []

    def record_times(self, fixed_seconds, epoch_seconds):
        self.recorded.append((fixed_seconds, epoch_seconds))


def ended(seconds, executions=1, status=FINISHED):
    curve = ({"loss": 1.0},)
    return TrialRecord(
        trial_id="0",
        values={},
        status=status,
        curves=(curve,) * executions,
        started_ms=1_000,
        ended_ms=1_000 + round(1e3 * seconds),
    )


def times_of(monkeypatch, ends, record):
    """What an oracle learns of a trial whose epochs end at the given seconds."""
    clock, oracle = iter(ends), Times()
    monkeypatch.setattr(trial_times.time, "monotonic", lambda: next(clock))
    listener = TrialTimes(oracle)
    for epoch in range(len(ends)):
        listener.epoch_ended("0", epoch, {})
    monkeypatch.undo()
    listener.trial_ended(record)
    return oracle.recorded


def test_the_first_epoch_which_traces_counts_as_another(monkeypatch):
    # A second to build, 3 for the first epoch, then 0.5 each, and half a second at the end.
    (times,) = times_of(monkeypatch, [4.0, 4.5, 5.0, 5.5], ended(6.0))
    assert times == pytest.approx((6.0 - 4 * 0.5, 0.5))


def test_an_epoch_counts_in_each_execution(monkeypatch):
    (times,) = times_of(monkeypatch, [2.0, 2.5, 3.0, 6.0, 6.5, 7.0], ended(7.0, executions=2))
    assert times == pytest.approx((7.0 - 6 * 0.5, 2 * 0.5))


def test_trials_of_one_epoch_and_failed_trials_tell_nothing(monkeypatch):
    assert times_of(monkeypatch, [4.0], ended(6.0)) == []
    assert times_of(monkeypatch, [4.0, 5.0], ended(6.0, status=FAILED)) == []


def test_only_searches_by_time_learn_times():
    halving, random = SuccessiveHalvingOracle("val_loss"), RandomOracle("val_loss")
    assert [type(item) for item in own_listeners(halving, 60.0)] == [TrialTimes, Interrupter]
    assert [type(item) for item in own_listeners(halving, None)] == [Interrupter]
    assert [type(item) for item in own_listeners(random, 60.0)] == [Interrupter]


def build(hp):
    """A model that takes much longer to build than an epoch takes."""
    time.sleep(0.5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 40))])
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.compile("sgd", "binary_crossentropy", run_eagerly=True)
    return model


def test_a_search_by_time_does_not_shorten_what_takes_no_time(tmp_path):
    def search(folder, budget):
        oracle = SuccessiveHalvingOracle("val_loss", max_trials=5, min_epochs=2, seed=0)
        tuner = NASTuner(build, oracle=oracle, budget=budget, directory=tmp_path / folder)
        tuner.search(X, Y, epochs=6, batch_size=40, validation_data=(X, Y), verbose=0)
        return [
            (record.values["tuner/round"], "tuner/trial_id" in record.values)
            for record in load_records(tuner.project_dir)
        ]

    # The best of the first three is promoted from 2 to 6 epochs, with which the others start. They
    # would be faster by shorter trainings only if an epoch took as long as all the rest.
    expected = [(0, False), (0, False), (0, False), (1, True), (1, False), (1, False)]
    assert search("by time", 3_600) == expected
    assert {rung for rung, promoted in search("by trials", None) if not promoted} == {0}

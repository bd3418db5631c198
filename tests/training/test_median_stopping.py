"""The median stopping rule by itself, and in searches that train real models."""

import copy
import logging
import math
import statistics

import keras
import keras_tuner
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin import (
    MedianStoppingCallback,
    NASTuner,
    RandomOracle,
    SuccessiveHalvingOracle,
)
from keras_nas_plugin.errors import NASError, ObjectiveError
from keras_nas_plugin.records.trial import FINISHED, TrialRecord, load_records
from keras_nas_plugin.training.median_stopping import falls_behind

GOAL = keras_tuner.Objective("val_goal", "max")

# ---------------------------------------------------------------------- the rule

NUMBERS = st.integers(-5, 5).map(float)
CURVES = st.lists(st.lists(NUMBERS, min_size=1, max_size=6), max_size=6)


@given(NUMBERS, CURVES, st.integers(1, 8))
def test_the_rule_equals_that_of_the_paper(best, curves, steps):
    averages = [statistics.fmean(curve[:steps]) for curve in curves]
    expected = bool(averages) and best < statistics.median(averages)
    assert falls_behind(best, curves, steps) == expected


def test_missing_values_are_ignored():
    assert falls_behind(0.4, [[math.nan, 0.5], [math.nan]], 2)
    assert not falls_behind(0.5, [[math.nan, 0.5], [math.nan]], 2)
    assert not falls_behind(0.0, [[math.nan, 0.5]], 1)


# ---------------------------------------------------------------------- in searches


def build(hp):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-6, 1e-3)), "mse", run_eagerly=True)
    return model


class Script(keras.callbacks.Callback):
    """Lets the n-th training report given values; None raises an error, "" reports nothing."""

    def __init__(self, *scripts, metric="val_goal"):
        super().__init__()
        self.scripts, self.metric, self.waiting = scripts, metric, list(scripts)
        self.current = []

    def __deepcopy__(self, memo):
        return self

    def on_train_begin(self, logs=None):
        self.current = self.waiting.pop(0)

    def on_epoch_end(self, epoch, logs=None):
        value = self.current[epoch]
        if value is None:
            raise ValueError("a crash")
        if value != "":
            logs[self.metric] = value


FIT = {"x": np.zeros((2, 1), "float32"), "y": np.zeros((2, 1), "float32"), "verbose": 0}
# The median of their running averages is 0.3 after each epoch.
THREE = [[0.1] * 4, [0.3] * 4, [0.5] * 4]


@pytest.fixture
def tune(tmp_path):
    """Runs a search in which each training reports given values."""

    def run(scripts, callback=None, *, cls=NASTuner, oracle=None, name="p", fit=None, **options):
        objective = callback.objective if callback else GOAL
        script = Script(*scripts, metric=objective.name)
        tuner = cls(
            hypermodel=build,
            oracle=oracle
            or RandomOracle(
                objective, max_trials=len(scripts), seed=0, max_consecutive_failed_trials=0
            ),
            directory=tmp_path,
            project_name=name,
            **options,
        )
        callbacks = [script, callback] if callback else [script]
        tuner.search(**FIT, **{"epochs": 4, **(fit or {})}, callbacks=callbacks)
        return tuner

    return run


def median(objective=GOAL, **options):
    return MedianStoppingCallback(objective, **{"min_trials": 3, "warm_up_epochs": 2, **options})


def lengths(folder):
    return [[len(curve) for curve in record.curves] for record in load_records(folder)]


def test_a_trial_that_falls_behind_ends_after_its_warm_up(tune, tmp_path):
    recovering = [0.0, 0.0, 0.31, 0.0]
    tuner = tune([*THREE, [0.29] * 4, [0.3] * 4, recovering, [0.29] * 4], median())
    assert lengths(tmp_path / "p")[3:] == [[3], [4], [4], [3]]
    ended = tuner.oracle.trials["3"]
    assert ended.status == "COMPLETED" and ended.score == 0.29 and ended.best_step == 0


def test_no_trial_is_stopped_before_enough_trials_have_finished(tune, tmp_path):
    tune([[0.9] * 4, [0.9] * 4, [0.1] * 4, [0.1] * 4], median(warm_up_epochs=0))
    assert lengths(tmp_path / "p") == [[4], [4], [4], [1]]


def test_a_minimised_metric_stops_a_trial_when_it_is_larger(tune, tmp_path):
    low, high = [0.1] * 4, [0.9] * 4
    callback = median("val_loss", min_trials=1, warm_up_epochs=1)
    tune([low, high, low], callback)
    assert lengths(tmp_path / "p") == [[4], [2], [4]]


def test_a_resumed_search_reads_the_trials_of_earlier_processes(tune, tmp_path, caplog):
    tune(THREE)
    oracle = RandomOracle(GOAL, max_trials=5, seed=0)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        tune([[0.2] * 4, [0.4] * 4], median(), oracle=oracle)
    assert lengths(tmp_path / "p")[3:] == [[3], [4]]
    assert "Stopped after epoch 3: `val_goal` is worse than the median of 3 trials" in caplog.text


def test_trials_that_do_not_count_are_ignored(tune, tmp_path):
    """The first three were trained for other epochs."""
    tune(THREE)
    scripts = [[0.2] * 5, [0.1] * 5]
    callback, oracle = median(min_trials=1), RandomOracle(GOAL, max_trials=2, seed=0)
    tune(scripts, callback, oracle=oracle, fit={"epochs": 5})
    assert lengths(tmp_path / "p")[3:] == [[5], [3]]


def test_a_reused_callback_ignores_trials_of_another_search(tune, tmp_path):
    callback = median(min_trials=1)
    tune([[0.9] * 4], callback)
    tune([[0.1] * 4], callback, name="other")
    assert lengths(tmp_path / "other") == [[4]]


def test_failed_trials_are_ignored(tune, tmp_path):
    failing = [[0.9, 0.9, 0.9, None]] * 2
    tuner = tune([*failing, [0.1] * 4, [0.1] * 4], median(min_trials=1))
    ended = [trial.status for _, trial in sorted(tuner.oracle.trials.items())]
    assert ended == ["FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert lengths(tmp_path / "p")[2:] == [[4], [4]]


def test_epochs_without_the_metric_are_ignored(tune, tmp_path):
    callback = median(min_trials=1)
    tune([["", 0.5] * 3, ["", 0.4] * 3, [math.nan] + [0.6] * 5], callback, fit={"epochs": 6})
    # The rule is applied to epochs with a value, so not after the third epoch.
    assert lengths(tmp_path / "p") == [[6], [4], [6]]


def test_executions_are_stopped_individually_and_a_trial_counts_by_its_mean_curve(tune, tmp_path):
    scripts = [[0.2] * 4, [0.6] * 4, [0.41] * 4, [0.39] * 4]
    oracle = RandomOracle(GOAL, max_trials=2, seed=0)
    tune(scripts, median(min_trials=1), oracle=oracle, executions_per_trial=2)
    assert lengths(tmp_path / "p") == [[4, 4], [4, 3]]


def test_other_tuners_compare_only_trials_of_their_process(tune, tmp_path):
    ended = []

    class Recording(MedianStoppingCallback):
        def on_train_end(self, logs=None):
            super().on_train_end(logs)
            ended.append(self.stopped_epoch)

    callback = Recording(GOAL, min_trials=2, warm_up_epochs=1)
    # The second trial crashes, so its end was not observed.
    scripts = [[0.5] * 4, [0.9, None], [0.4] * 4, [0.1] * 4, [0.5] * 4]
    tune(scripts, callback, cls=keras_tuner.Tuner)
    assert ended == [None, None, 1, None]
    ended.clear()
    fresh = Recording(GOAL, min_trials=2, warm_up_epochs=1)
    tune([[0.1] * 4], fresh, cls=keras_tuner.Tuner, oracle=RandomOracle(GOAL, max_trials=6))
    assert ended == [None]


def test_a_promoted_trial_forms_one_curve_with_its_parents(tune, tmp_path):
    """Its best value may be in an epoch of its parent, and the joined curve counts once."""
    # Three trials of one epoch each; the best one continues to three epochs, then to nine.
    oracle = SuccessiveHalvingOracle(GOAL, max_trials=3, seed=0)
    scripts = [[0.2], [0.8], [0.3], [None, 0.1, 0.1], [None] * 3 + [0.2] * 6]
    tuner = tune(scripts, median(min_trials=1), oracle=oracle, fit={"epochs": 9})
    assert lengths(tmp_path / "p") == [[1], [1], [1], [2], [6]]
    assert tuner.oracle.get_best_trials()[0].score == 0.8
    callback = median()
    callback.set_project(tmp_path / "p")
    callback.on_train_begin()
    joined = [0.8, 0.1, 0.1] + [0.2] * 6
    assert sorted(callback._curves) == [[0.2], [0.3], joined]


def test_a_record_is_read_once(tmp_path, monkeypatch):
    def record(number, status=FINISHED):
        folder = tmp_path / f"trial_{number}"
        folder.mkdir(exist_ok=True)
        curve = ({"val_goal": 0.5},) * 3
        TrialRecord(trial_id=str(number), values={}, status=status, curves=(curve,)).save(folder)

    read = []
    load = TrialRecord.load
    monkeypatch.setattr(
        TrialRecord, "load", staticmethod(lambda folder: read.append(folder.name) or load(folder))
    )
    original = median()
    for number in range(4):
        record(number)
        callback = copy.deepcopy(original)
        callback.set_project(tmp_path)
        callback.on_train_begin()
        assert len(callback._curves) == number + 1
    assert sorted(read) == [f"trial_{number}" for number in range(4)]


# ---------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        ("val_quality", {}, "`objective` must have a direction, .* the name 'val_quality'"),
        (["val_loss", "val_accuracy"], {}, "`objective` must be the name of one metric"),
        (None, {}, "`objective` must be the name of one metric.*got None"),
        ("val_loss", {"min_trials": 0}, "`min_trials` must be at least 1; got 0"),
        ("val_loss", {"warm_up_epochs": -1}, "`warm_up_epochs` must be at least 0; got -1"),
    ],
)
def test_invalid_arguments_are_errors(objective, options, message):
    with pytest.raises(NASError, match=message):
        MedianStoppingCallback(objective, **options)


def test_a_metric_that_no_epoch_reports_ends_the_search(tune):
    callback = MedianStoppingCallback("val_accuracy")
    with pytest.raises(
        ObjectiveError, match=r"got 'val_accuracy', and training reported \['loss'"
    ):
        tune(
            [[""] * 4],
            callback,
            oracle=RandomOracle(keras_tuner.Objective("loss", "min"), max_trials=1),
        )

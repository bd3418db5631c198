"""The median stopping rule, by itself and in searches that train real models."""

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
from keras_nas_plugin.tracking.records import FINISHED, TrialRecord, load_records
from keras_nas_plugin.training.median_stopping import falls_behind

GOAL = keras_tuner.Objective("val_goal", "max")

# ---------------------------------------------------------------------- the rule

numbers = st.integers(-5, 5).map(float)
curves = st.lists(st.lists(numbers, min_size=1, max_size=6), max_size=6)


@given(numbers, curves, st.integers(1, 8))
def test_the_rule_is_the_papers(best, others, steps):
    averages = [statistics.fmean(curve[:steps]) for curve in others]
    expected = bool(averages) and best < statistics.median(averages)
    assert falls_behind(best, others, steps) == expected


def test_values_that_are_missing_do_not_count():
    assert falls_behind(0.4, [[math.nan, 0.5], [math.nan]], 2)
    assert not falls_behind(0.5, [[math.nan, 0.5], [math.nan]], 2)
    assert not falls_behind(0.0, [[math.nan, 0.5]], 1)


# ---------------------------------------------------------------------- in searches


def build(hp):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-6, 1e-3)), "mse", run_eagerly=True)
    return model


class Script(keras.callbacks.Callback):
    """Lets the n-th training report given values; one of None crashes."""

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
# Their running averages have the median 0.3 after each epoch.
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
    late = [0.0, 0.0, 0.31, 0.0]
    tuner = tune([*THREE, [0.29] * 4, [0.3] * 4, late, [0.29] * 4], median())
    assert lengths(tmp_path / "p")[3:] == [[3], [4], [4], [3]]
    ended = tuner.oracle.trials["3"]
    assert ended.status == "COMPLETED" and ended.score == 0.29 and ended.best_step == 0


def test_nobody_is_ended_before_enough_trials_have_finished(tune, tmp_path):
    tune([[0.9] * 4, [0.9] * 4, [0.1] * 4, [0.1] * 4], median(warm_up_epochs=0))
    assert lengths(tmp_path / "p") == [[4], [4], [4], [1]]


def test_what_is_minimised_is_ended_when_it_is_larger(tune, tmp_path):
    low, high = [0.1] * 4, [0.9] * 4
    callback = median("val_loss", min_trials=1, warm_up_epochs=1)
    tune([low, high, low], callback)
    assert lengths(tmp_path / "p") == [[4], [2], [4]]


def test_another_process_knows_of_the_trials_before(tune, tmp_path, caplog):
    tune(THREE)
    oracle = RandomOracle(GOAL, max_trials=5, seed=0)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        tune([[0.2] * 4, [0.4] * 4], median(), oracle=oracle)
    assert lengths(tmp_path / "p")[3:] == [[3], [4]]
    assert "Stopped after epoch 3: `val_goal` is worse than the median of 3 trials" in caplog.text


def test_a_callback_that_is_used_again_keeps_searches_apart(tune, tmp_path):
    callback = median(min_trials=1)
    tune([[0.9] * 4], callback)
    tune([[0.1] * 4], callback, name="other")
    assert lengths(tmp_path / "other") == [[4]]


def test_trials_that_failed_do_not_count(tune, tmp_path):
    failing = [[0.9, 0.9, 0.9, None]] * 2
    tuner = tune([*failing, [0.1] * 4, [0.1] * 4], median(min_trials=1))
    ended = [trial.status for _, trial in sorted(tuner.oracle.trials.items())]
    assert ended == ["FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert lengths(tmp_path / "p")[2:] == [[4], [4]]


def test_epochs_that_do_not_report_it_are_left_out(tune, tmp_path):
    callback = median(min_trials=1)
    tune([["", 0.5] * 3, ["", 0.4] * 3, [math.nan] + [0.6] * 5], callback, fit={"epochs": 6})
    # Judged where there is a value: not after the third epoch.
    assert lengths(tmp_path / "p") == [[6], [4], [6]]


def test_executions_count_by_their_mean_and_are_judged_one_by_one(tune, tmp_path):
    scripts = [[0.2] * 4, [0.6] * 4, [0.41] * 4, [0.39] * 4]
    oracle = RandomOracle(GOAL, max_trials=2, seed=0)
    tune(scripts, median(min_trials=1), oracle=oracle, executions_per_trial=2)
    assert lengths(tmp_path / "p") == [[4, 4], [4, 3]]


def test_other_tuners_learn_in_their_process_only(tune, tmp_path):
    ended = []

    class Noting(MedianStoppingCallback):
        def on_train_end(self, logs=None):
            super().on_train_end(logs)
            ended.append(self.stopped_epoch)

    callback = Noting(GOAL, min_trials=2, warm_up_epochs=1)
    # The second crashes: nobody followed it to its end.
    scripts = [[0.5] * 4, [0.9, None], [0.4] * 4, [0.1] * 4, [0.5] * 4]
    tune(scripts, callback, cls=keras_tuner.Tuner)
    assert ended == [None, None, 1, None]
    ended.clear()
    fresh = Noting(GOAL, min_trials=2, warm_up_epochs=1)
    tune([[0.1] * 4], fresh, cls=keras_tuner.Tuner, oracle=RandomOracle(GOAL, max_trials=6))
    assert ended == [None]


def test_a_promoted_trial_is_one_with_those_that_it_goes_on_with(tune, tmp_path):
    """Its best value may lie before its own epochs, and its curve counts once."""
    # One, two and three with an epoch each; the best goes on to three epochs, then to nine.
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
        ("val_quality", {}, "`objective` needs a direction for 'val_quality'"),
        (["val_loss", "val_accuracy"], {}, "`objective` needs the name of one metric"),
        (None, {}, "`objective` needs the name of one metric.*received None"),
        ("val_loss", {"min_trials": 0}, "`min_trials` needs at least 1; received 0"),
        ("val_loss", {"warm_up_epochs": -1}, "`warm_up_epochs` needs at least 0; received -1"),
    ],
)
def test_arguments_that_cannot_work_are_refused(objective, options, message):
    with pytest.raises(NASError, match=message):
        MedianStoppingCallback(objective, **options)


def test_a_metric_that_no_epoch_reports_ends_the_search(tune):
    callback = MedianStoppingCallback("val_accuracy")
    with pytest.raises(ObjectiveError, match=r"received 'val_accuracy', and it reported \['loss'"):
        tune(
            [[""] * 4],
            callback,
            oracle=RandomOracle(keras_tuner.Objective("loss", "min"), max_trials=1),
        )

"""Interrupts whose place another error takes, as a bare ``except`` of a library does."""

import os
import signal
import weakref

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle, track
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.interrupts import interrupt_behind, noted_interrupts

X, Y = np.zeros((8, 2), "float32"), np.zeros((8, 1), "float32")


def interrupted_within_a_bare_except():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except:  # noqa: E722, as in `tensorflow.python.framework.dtypes`
        raise TypeError("Cannot find minimum value of int32") from None


def interrupted_within_a_destructor():
    weakref.finalize(type("Value", (), {})(), os.kill, os.getpid(), signal.SIGINT)


class Interrupted(keras_tuner.HyperModel):
    """Its second trial is interrupted at the end of its first epoch."""

    def __init__(self, interrupt):
        super().__init__()
        self.interrupt = interrupt
        self.trials = 0

    def build(self, hp):
        hp.Int("units", 1, 100)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, *args, callbacks, **options):
        self.trials += 1
        if self.trials == 2:
            stop = keras.callbacks.LambdaCallback(on_epoch_begin=self.signal)
            callbacks = [*callbacks, stop]
        return model.fit(*args, callbacks=callbacks, **options)

    def signal(self, epoch, logs=None):
        if epoch == 1:
            self.interrupt()


class Records(Tracker):
    def __init__(self):
        self.statuses = []

    def trial_ended(self, record):
        self.statuses.append(record.status)


@pytest.fixture(autouse=True)
def python_handler():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


SEARCH = {"x": X, "y": Y, "validation_data": (X, Y), "epochs": 4, "verbose": 0}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "interrupt", [interrupted_within_a_bare_except, interrupted_within_a_destructor]
)
def test_a_lost_interrupt_kills_the_trial_and_ends_the_search(interrupt, tmp_path):
    hypermodel, records = Interrupted(interrupt), Records()
    tuner = NASTuner(
        hypermodel,
        oracle=RandomOracle("val_loss", max_trials=4, seed=0),
        listeners=[records],
        directory=tmp_path,
    )
    with pytest.raises(KeyboardInterrupt):
        tuner.search(**SEARCH)
    assert hypermodel.trials == 2
    assert records.statuses == ["FINISHED", "KILLED"]
    assert [record.status for record in load_records(tuner.project_dir)] == ["FINISHED"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    tuner.search(**SEARCH)
    assert records.statuses[2:] == ["FINISHED"] * 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("interrupt", "second"),
    [
        (interrupted_within_a_bare_except, "KILLED"),
        (interrupted_within_a_destructor, "FINISHED"),  # noticed before the third
    ],
)
def test_a_lost_interrupt_ends_a_tracked_search(interrupt, second, tmp_path):
    hypermodel, records = Interrupted(interrupt), Records()
    tuner = keras_tuner.RandomSearch(
        hypermodel, "val_loss", max_trials=4, seed=0, directory=tmp_path
    )
    track(tuner, tracker=records)
    with pytest.raises(KeyboardInterrupt):
        tuner.search(**SEARCH)
    assert records.statuses == ["FINISHED", second]


def test_an_interrupt_while_a_model_is_built_ends_the_search(tmp_path):
    """The first model is built before any trial runs, to look at the data."""

    def build_model(hp):
        hp.Int("units", 1, 100)
        interrupted_within_a_bare_except()

    tuner = NASTuner(
        build_model, oracle=RandomOracle("val_loss", max_trials=4), directory=tmp_path
    )
    with pytest.raises(KeyboardInterrupt):
        tuner.search(**SEARCH)


def test_the_outer_of_two_searches_knows_of_an_interrupt_in_the_inner():
    with noted_interrupts():
        with noted_interrupts(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert isinstance(interrupt_behind(TypeError()), KeyboardInterrupt)
    assert interrupt_behind(TypeError()) is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_user_that_does_not_interrupt_is_left_to_the_user(tmp_path):
    signals = []
    signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
    hypermodel, records = Interrupted(lambda: os.kill(os.getpid(), signal.SIGINT)), Records()
    tuner = NASTuner(
        hypermodel,
        oracle=RandomOracle("val_loss", max_trials=3, seed=0),
        listeners=[records],
        directory=tmp_path,
    )
    tuner.search(**SEARCH)
    assert signals == [signal.SIGINT]
    assert records.statuses == ["FINISHED"] * 3


RETRAINING = {"x": X, "y": Y, "epochs": 3, "verbose": 0}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "interrupt", [interrupted_within_a_bare_except, interrupted_within_a_destructor]
)
def test_a_lost_interrupt_ends_a_retraining(interrupt, tmp_path):
    hypermodel = Interrupted(interrupt)
    tuner = NASTuner(
        hypermodel, oracle=RandomOracle("val_loss", max_trials=1, seed=0), directory=tmp_path
    )
    tuner.search(**SEARCH)
    with pytest.raises(KeyboardInterrupt):
        tuner.retrain_best(**RETRAINING)
    assert hypermodel.trials == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(tuner.retrain_best(**RETRAINING).models) == 1

"""A small search in a process that kills itself, or runs into a full disk, on request."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import sqlalchemy
from sklearn.datasets import load_digits

from keras_nas_plugin import MLflowTracker, NASTuner, RegularizedEvolutionOracle

COMPLETED = "completed.log"
RESULT = "result.json"

_WRITING = os.O_WRONLY | os.O_RDWR
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.link", "sqlite3.connect"}


class Moments:
    """Counts the lasting effects of the process, and kills it at a given count."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self._kill_at = kill_at

    def tick(self, *_: Any, **__: Any) -> None:
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Count every change of a file, every flush, and every write to the database."""

        def audit(event: str, arguments: tuple) -> None:
            if event == "open":
                if isinstance(arguments[2], int) and arguments[2] & _WRITING:
                    self.tick()
            elif event in _CHANGES:
                self.tick()

        def statement(connection: Any, cursor: Any, text: str, *_: Any) -> None:
            if not text.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                self.tick()

        flush = os.fsync

        def fsync(descriptor: int) -> None:
            self.tick()
            flush(descriptor)
            self.tick()

        os.fsync = fsync
        sys.addaudithook(audit)
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", statement)
        sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", statement)
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", self.tick)


class Digits(keras_tuner.HyperModel):
    """A conditional space, and a hyperparameter that only `fit` requests."""

    def __init__(self, attempt: int, moments: Moments) -> None:
        super().__init__()
        self.attempt = attempt
        self.moments = moments

    def build(self, hp: Any) -> keras.Model:
        layers = [keras.Input((64,)), keras.layers.Dense(hp.Int("units", 2, 32))]
        if hp.Boolean("deep"):
            with hp.conditional_scope("deep", [True]):
                layers.append(keras.layers.Dense(hp.Int("second", 2, 32), activation="relu"))
        model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
        loss = "sparse_categorical_crossentropy"
        model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any, **options: Any) -> dict[str, float]:
        model.optimizer.learning_rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        self.moments.tick()
        logs = model.train_on_batch(x, y, return_dict=True)
        validation = model.test_on_batch(*options["validation_data"], return_dict=True)
        logs |= {f"val_{name}": value for name, value in validation.items()}
        logs = {name: float(value) for name, value in logs.items()}
        for callback in options["callbacks"]:
            callback.set_model(model)
            callback.on_epoch_end(0, logs)
        with open(COMPLETED, "a", encoding="utf-8") as file:
            values = json.dumps(hp.values, sort_keys=True)
            print(self.attempt, values, sep="\t", file=file, flush=True)
        self.moments.tick()
        return logs


def search(
    *,
    attempt: int,
    max_trials: int,
    store: str | None = None,
    kill_at: int | None = None,
    full: str | None = None,
    kill_after: tuple[str, int] | None = None,
) -> None:
    """Search in the working directory, and write the result to a file.

    Args:
        attempt: How often the search was started before.
        max_trials: How many trials to run.
        store: MLflow's database, or None.
        kill_at: The change after which the process is killed.
        full: Name of a file; the disk is full when it is written for the second time, or for
            the first time if it is written once in a search.
        kill_after: Name of a file, and how often it is written before the process is killed.
    """
    moments = Moments(kill_at)
    if full is not None:
        _fill_disk(full)
    if kill_after is not None:
        _kill_after(*kill_after)
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16
    moments.watch()
    tuner = NASTuner(
        Digits(attempt, moments),
        oracle=RegularizedEvolutionOracle("val_loss", max_trials, population_size=3, seed=4),
        tracker=MLflowTracker("kill", tracking_uri=store) if store else None,
        deterministic=True,
        directory="searches",
        project_name="digits",
    )
    tuner.search(x[:64], y[:64], validation_data=(x[64:128], y[64:128]), verbose=0)
    trials = [
        {
            "trial_id": trial_id,
            "values": trial.hyperparameters.values,
            "status": trial.status,
            "score": float(trial.score),
        }
        for trial_id, trial in sorted(tuner.oracle.trials.items())
    ]
    result = {
        "trials": trials,
        "best": tuner.get_best_hyperparameters()[0].values,
        "running": sorted(tuner.oracle.ongoing_trials),
        "changes": moments.count,
    }
    Path(RESULT).write_text(json.dumps(result), encoding="utf-8")


def _kill_after(name: str, times: int) -> None:
    """Kill the process right after a file was replaced for the n-th time."""
    replace = os.replace
    writes = 0

    def replace_and_kill(source: Any, target: Any, **options: Any) -> None:
        nonlocal writes
        replace(source, target, **options)
        writes += Path(target).name == name
        if writes == times:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_and_kill


def _fill_disk(name: str) -> None:
    """Let one replacement of a file fail, as on a full disk."""
    replace = os.replace
    writes = 0

    def replace_or_fail(source: Any, target: Any, **options: Any) -> None:
        nonlocal writes
        writes += Path(target).name == name
        if writes == (1 if name in ("search.json", "tuner0.json", "1.json") else 2):
            writes += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))
        replace(source, target, **options)

    os.replace = replace_or_fail

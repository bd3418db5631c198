"""What a worker does: it trains the trials that its driver sends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.executors.driver_link import DriverLink
from keras_nas_plugin.executors.worker_link import connect, sendable
from keras_nas_plugin.tracking.mlflow.autolog import autolog_disabled
from keras_nas_plugin.training import memory, runtime
from keras_nas_plugin.training.bookkeeping import error_line
from keras_nas_plugin.training.running import TrialOutcome


def _prepare(content: Mapping[str, Any]) -> None:
    logging.disable(logging.WARNING)  # the driver has said which devices there are
    runtime.prepare_devices()
    logging.disable(logging.NOTSET)
    if content["deterministic"]:
        runtime.make_deterministic()


def serve(link: DriverLink, load: Callable[[], dict[str, Any]]) -> None:
    """Train trials until the driver ends.

    Args:
        link: The connection to the driver.
        load: Returns what the driver has pickled for its workers.
    """
    connect(link)
    try:
        content = load()
        _prepare(content)
        content["fit"] = content["fit"].made()
    except BaseException as error:
        link.send("cannot_start", error_line(error))
        return
    link.send("ready", runtime.this_process())
    with (
        runtime.precision(content["precision"]),
        runtime.no_retracing_warnings(),
        memory.frozen_imports(),
        autolog_disabled(),
    ):
        while True:
            _train_next(link, content)


def _train_next(link: DriverLink, content: dict[str, Any]) -> None:
    state, screened, seconds_left = link.next_trial()
    budget, trainer = content["budget"], content["trainer"]
    budget.deadline = None if seconds_left is None else time.monotonic() + seconds_left
    content["oracle"].screened = screened
    outcome: TrialOutcome = trainer.train(Trial.from_state(state), content["fit"])
    trial = outcome.trial
    config = trial.hyperparameters.get_config()
    error = None if outcome.error is None else sendable(outcome.error)
    link.send(
        "outcome", outcome.record, error, outcome.reported, trial.status, trial.message, config
    )

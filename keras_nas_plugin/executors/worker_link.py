"""A worker's link to the process that searches, and what talks through it."""

from __future__ import annotations

import abc
import os
import queue
import shutil
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.bookkeeping import error_line

# Seconds after which a worker looks whether its driver still runs, beside the end of the pipe.
_POLL_SECONDS = 1.0
# How often, and at which interval, it looks again after the end of the pipe.
_DEATH_POLLS, _DEATH_SECONDS = 20, 0.05


def sendable(error: BaseException) -> BaseException:
    """An error, or its text where it cannot be pickled."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # a class of a user may raise anything
        return RuntimeError(error_line(error))
    return error


class DriverLink(abc.ABC):
    """A worker's connection to its driver, for one thread that trains."""

    def __init__(self) -> None:
        self._trials: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @abc.abstractmethod
    def send(self, *message: Any) -> None:
        """Send a message to the driver."""

    def received(self, message: tuple[Any, ...]) -> None:
        """A message of the driver has arrived."""
        kind, *content = message
        (self._trials if kind == "trial" else self._answers).put((kind, *content))

    def next_trial(self) -> tuple[Any, ...]:
        """Wait for a trial."""
        return tuple(self._trials.get()[1:])

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the driver's oracle.

        Raises:
            Exception: What the method raised.
        """
        self.send("call", method, args, kwargs)
        kind, value = self._answers.get()
        if kind == "raise":
            raise value
        return value


class PipeLink(DriverLink):
    """The link of a process on the driver's machine; it ends with the driver, also in a training.

    Args:
        connection: The worker's end of the pipe.
        folder: What the driver has written for its workers; deleted if the driver has died.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        super().__init__()
        self._connection = connection
        self._folder = folder
        self._parent = os.getppid()
        self._sending = threading.Lock()
        threading.Thread(target=self._read, name="driver-link", daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                if self._connection.poll(_POLL_SECONDS):
                    self.received(cloudpickle.loads(self._connection.recv_bytes()))
                elif os.getppid() != self._parent:
                    break
        finally:
            # Nobody waits for this training. A driver that was killed has not deleted its files,
            # and its pipe ends a moment before it does.
            for _ in range(_DEATH_POLLS):
                if os.getppid() != self._parent:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    break
                time.sleep(_DEATH_SECONDS)
            os._exit(1)

    def send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send_bytes(cloudpickle.dumps(message))


_links: list[DriverLink] = []


def connect(link: DriverLink) -> None:
    """Have the substitutes of this worker talk through a link.

    Args:
        link: The worker's connection to its driver.
    """
    _links.append(link)


class WorkerOracle:
    """What a worker has in place of the oracle: its settings, and calls to the driver's oracle.

    Args:
        settings: Attributes of the oracle that do not change during a search.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.__dict__.update(settings)
        #: Costs that the screen determined, of the trial that runs.
        self.screened: Mapping[str, float] = {}

    def screened_metrics(self, trial_id: str) -> Mapping[str, float]:
        """See `NASOracle.screened_metrics`."""
        return self.screened

    def get_space(self) -> keras_tuner.HyperParameters:
        """The search space as the driver knows it."""
        return keras_tuner.HyperParameters.from_config(_links[-1].call("get_space"))

    def update_space(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """Add hyperparameters to the driver's search space."""
        _links[-1].call("update_space", hyperparameters.get_config())

    def get_trial(self, trial_id: str) -> Trial:
        """A copy of a trial of the driver's oracle."""
        return Trial.from_state(_links[-1].call("get_trial", trial_id))

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Report metrics to the driver's oracle."""
        return Trial.from_state(_links[-1].call("update_trial", trial_id, metrics, step))

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Copies of the best trials."""
        return [
            Trial.from_state(state) for state in _links[-1].call("get_best_trials", num_trials)
        ]


class LinkTracker(Tracker):
    """Passes the events of a trial that trains here to the trackers of the driver."""

    shows_failures = True

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """See `Tracker.trial_started`."""
        _links[-1].send("started", trial_id, dict(values))

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """See `Tracker.epoch_ended`."""
        _links[-1].send("epoch", trial_id, epoch, scalars(logs))

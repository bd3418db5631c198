"""What talks through a worker's link to the process that searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cloudpickle
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.executors.driver_link import DriverLink
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.bookkeeping import error_line


def sendable(error: BaseException) -> BaseException:
    """An error, or its text where it cannot be pickled."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # a class of a user may raise anything
        return RuntimeError(error_line(error))
    return error


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

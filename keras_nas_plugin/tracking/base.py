"""The interface between a search and the services that log it, such as an MLflow server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import Status, TrialRecord
from keras_nas_plugin.tracking.model_registry import ModelRegistry


class Tracker:
    """Follows a search. Every method has a default: override the ones you need.

    The tuner calls these methods from the thread that trains. While a search runs, an exception
    in one of them is logged and does not end the search. A resumed search calls `search_started`
    again with the same ``search_id``, and `trial_started` again for the trial that was
    interrupted.
    """

    #: Whether the tracker shows the report that a finished search leaves in its folder. Drawing
    #: the report takes seconds, so it is written only if a tracker shows it.
    shows_report: bool = False

    #: Whether the tracker shows each trial that fails in the terminal; else the search logs it.
    shows_failures: bool = False

    def search_started(self, search: SearchInfo, records: Iterable[TrialRecord]) -> None:
        """A search starts or resumes.

        Args:
            search: What is searched, how and where.
            records: The trials that ended earlier, in the order of their ids.
        """

    def trial_started(self, trial_id: str, values: Mapping[str, Any]) -> None:
        """Training of a trial starts.

        Args:
            trial_id: The trial.
            values: Its active hyperparameters.
        """

    def epoch_ended(self, trial_id: str, epoch: int, logs: Mapping[str, float]) -> None:
        """An epoch of the running trial ended.

        Args:
            trial_id: The trial.
            epoch: The epoch, counted from 0.
            logs: The metrics that Keras reported.
        """

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial finished, failed or was killed.

        Args:
            record: The trial and its result.
        """

    def search_ended(self, status: Status) -> None:
        """The search finished, failed, or was interrupted.

        Args:
            status: How it ended.
        """

    def flush(self) -> None:
        """Wait until every event is stored, or is saved to be sent later.

        A worker calls this when it has no more trials, since the chief ends the search.
        """

    def run_id(self, trial_id: str) -> str | None:
        """The id of a trial's run in the tracking store; None if there is none."""
        return None

    def find_run(self, search: SearchInfo, trial_id: str) -> str | None:
        """The id of a trial's run, also of a search that this tracker did not follow.

        Trials of different searches may have equal ids.

        Args:
            search: The search of the trial.
            trial_id: The trial.

        Returns:
            The id; None if there is no such run.

        Raises:
            TrackingError: The store does not answer, or rejects the request.
        """
        return self.run_id(trial_id)

    def retraining_finished(
        self, retraining: Retraining, record: TrialRecord, search: SearchInfo
    ) -> Retraining:
        """A trial's model was retrained. Calling this again must log nothing twice.

        Args:
            retraining: The trained models.
            record: The trial whose model was retrained.
            search: The search of the trial.

        Returns:
            The retraining with the ids of its models' runs, where there are any.

        Raises:
            TrackingError: It cannot be logged.
        """
        return retraining

    def model_registry(self) -> ModelRegistry:
        """The registry in which models of this tracker's runs become versions.

        Raises:
            TrackingError: This tracker has none, which is the default.
        """
        raise TrackingError(
            "`tracker` must have a model registry, for example MLflowTracker(...); got "
            f"{type(self).__name__}, which has none"
        )

"""An oracle that has the trials of a finished search and proposes none."""

from __future__ import annotations

from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, TrialRecord, load_records


class ReadOnlyOracle(keras_tuner.Oracle):
    """Opens a project folder without the oracle that wrote it, which may be of any class.

    It writes no files, so that the search can be resumed later.

    Args:
        search: The search.

    Raises:
        StateError: The file of a trial is missing.
    """

    #: The space of the search is not compared with that of the program.
    read_only = True

    def __init__(self, search: SearchInfo) -> None:
        objectives = [keras_tuner.Objective(*item) for item in search.directions.items()]
        super().__init__(objective=objectives if len(objectives) > 1 else objectives[0])
        self._search = search
        self.reload()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Stop the search: this oracle proposes nothing."""
        return {"status": "STOPPED", "values": None}

    def reload(self) -> None:
        """Read the trials that have ended."""
        layout = ProjectLayout.of(self._search.directory)
        for record in load_records(self._search.directory):
            self.trials[record.trial_id] = _trial(layout, record)

    def save(self) -> None:
        """Write nothing: the state of the search stays as it is."""

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials in the order of the search, which honours constraints and rungs."""
        best = ranked(self._search, load_records(self._search.directory))
        return [self.trials[record.trial_id] for record in best[:num_trials]]


def _trial(layout: ProjectLayout, record: TrialRecord) -> Trial:
    """A trial with the status of its record, which is written before the oracle's file."""
    path = layout.trial(record.trial_id).state
    try:
        trial = Trial.from_state(read_json(path))
    except FileNotFoundError as error:
        raise StateError(
            f"`directory` must contain the trials of the search; `{path}` is missing"
        ) from error
    if record.hyperparameters is not None:
        trial.hyperparameters = keras_tuner.HyperParameters.from_config(record.hyperparameters)
    finished = record.status == FINISHED
    trial.status = TrialStatus.COMPLETED if finished else TrialStatus.FAILED
    return trial

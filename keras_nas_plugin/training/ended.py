"""The oracle of a search that is over: knows its trials and proposes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json
from keras_nas_plugin.tracking.records import (
    FINISHED,
    SearchInfo,
    TrialRecord,
    load_records,
    ranked,
)

_TRIAL_FILE = "trial.json"  # of every KerasTuner oracle


class EndedOracle(keras_tuner.Oracle):
    """Opens a project folder without the oracle that made it, whichever that was.

    It writes nothing, so the search can go on afterwards.

    Args:
        search: The search.
    """

    def __init__(self, search: SearchInfo) -> None:
        several = search.objectives or ((search.objective, search.direction),)
        objectives = [keras_tuner.Objective(name, direction) for name, direction in several]
        super().__init__(objective=objectives if search.objectives else objectives[0])
        self._search = search
        self.reload()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Nothing is proposed."""
        return {"status": "STOPPED", "values": None}

    def reload(self) -> None:
        """Read the trials that ended."""
        folder = Path(self._search.directory)
        for record in load_records(folder):
            self.trials[record.trial_id] = _trial(folder, record)

    def save(self) -> None:
        """Leave the search's own state alone."""

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """As the search ranks them: constraints and length of training count."""
        best = ranked(self._search, load_records(self._search.directory))
        return [self.trials[record.trial_id] for record in best[:num_trials]]


def _trial(project: Path, record: TrialRecord) -> Trial:
    """A trial as its record says that it ended, whatever the oracle was told of it."""
    path = project / f"trial_{record.trial_id}" / _TRIAL_FILE
    try:
        trial = Trial.from_state(read_json(path))
    except FileNotFoundError as error:
        raise StateError(
            f"`directory` needs the trials of a search; `{path}` is missing"
        ) from error
    if record.hyperparameters is not None:
        trial.hyperparameters = keras_tuner.HyperParameters.from_config(record.hyperparameters)
    finished = record.status == FINISHED
    trial.status = TrialStatus.COMPLETED if finished else TrialStatus.FAILED
    return trial

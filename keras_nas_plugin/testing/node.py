"""The program of each process of a cluster; KerasTuner tells them apart by the environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.testing.driving import check_values
from keras_nas_plugin.testing.searches import build_model, digits
from keras_nas_plugin.testing.targets import load
from keras_nas_plugin.tuner import NASTuner

# The workers meet before their first trial, so that each of them runs one.
_MEETING_SECONDS = 240.0
_POLL_SECONDS = 0.05


class MeetingTuner(NASTuner):
    """Records the trials that it runs, and waits for the other workers before the first."""

    folder: Path
    workers: Sequence[str]

    def on_trial_begin(self, trial: Any) -> None:
        """Record the trial, and wait until every worker has a trial."""
        with open(self.folder / f"{self.tuner_id}.runs", "a", encoding="utf-8") as file:
            file.write(f"{trial.trial_id}\n")
        deadline = time.monotonic() + _MEETING_SECONDS
        while not all((self.folder / f"{name}.runs").exists() for name in self.workers):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all of {list(self.workers)} got a trial")
            time.sleep(_POLL_SECONDS)
        super().on_trial_begin(trial)


def main(target: str, folder: Path, trials: int, epochs: int, workers: Sequence[str]) -> None:
    """Search; the chief writes a report in the end.

    Args:
        target: ``module:name`` of the oracle's class.
        folder: Folder that all processes share.
        trials: Trials of the search.
        epochs: Epochs of a full training.
        workers: Names of the worker processes.
    """
    oracle = load(target)(
        objective="val_accuracy", max_trials=trials, seed=0, max_consecutive_failed_trials=0
    )
    tuner = MeetingTuner(build_model, oracle=oracle, directory=str(folder), project_name="search")
    tuner.folder, tuner.workers = folder, workers
    tuner.search(**{**digits(), "epochs": epochs})
    if os.environ["KERASTUNER_TUNER_ID"] == "chief":
        (folder / "report.json").write_text(json.dumps(_report(oracle)), encoding="utf-8")


def _report(oracle: Any) -> dict[str, Any]:
    trials = {}
    for trial_id, trial in oracle.trials.items():
        problem = None
        try:
            check_values(trial.hyperparameters)
        except AssertionError as error:
            problem = str(error)
        trials[trial_id] = {
            "status": trial.status,
            "score": trial.score,
            "values": trial.hyperparameters.values,
            "problem": problem,
        }
    best = [trial.trial_id for trial in oracle.get_best_trials(len(trials))]
    return {"trials": trials, "best": best}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])

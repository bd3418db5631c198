"""The median stopping rule: a training that does worse than half of those before it ends."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import NASError, ObjectiveError
from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.oracles.objectives import checked_objective
from keras_nas_plugin.oracles.scoring import oriented
from keras_nas_plugin.space.fidelity import fidelity_of
from keras_nas_plugin.tracking.records import FINISHED, TrialRecord
from keras_nas_plugin.training.continuation import Epochs

logger = logging.getLogger("keras_nas_plugin")

_ROUNDING = 1e-9

#: The followed metric of an epoch, the larger the better; NaN without one.
Value = Callable[[Mapping[str, float]], float]


def falls_behind(best: float, curves: Sequence[Sequence[float]], steps: int) -> bool:
    """Whether a training is to stop after ``steps`` steps, by the median stopping rule.

    It is when its best value so far is strictly worse than the median of the others' running
    averages, each over the first ``steps`` values of its curve, or all of a shorter one.

    Source: Golovin, Solnik, Moitra, Kochanski, Karro & Sculley 2017, "Google Vizier: A Service
    for Black-Box Optimization", section 3.2.2.

    Args:
        best: Its best value, the larger the better.
        curves: Values of trainings that ended, the larger the better; NaN where there is none.
        steps: How many values it had, at least 1.

    >>> others = [[0.2, 0.8], [0.4, 0.6, 0.9], [0.1]]
    >>> falls_behind(0.5, others, 2), falls_behind(0.49, others, 2), falls_behind(0.0, [], 2)
    (False, True, False)
    """
    starts = [np.asarray(curve[:steps], float) for curve in curves]
    averages = [start[~np.isnan(start)].mean() for start in starts if not np.isnan(start).all()]
    if not averages:
        return False
    median = float(np.median(averages))
    # The mean of a curve that stays at 0.1 is 0.10000000000000002.
    return best < median and not math.isclose(best, median, rel_tol=_ROUNDING)


class MedianStoppingCallback(keras.callbacks.Callback):
    """Ends a trial whose best value so far is worse than half of the finished trials did.

    ```python
    tuner.search(x, y, epochs=30, callbacks=[MedianStoppingCallback("val_accuracy")], ...)
    ```

    After each epoch, the trial's best value is compared with the median of the finished trials'
    running averages up to that epoch (Golovin et al. 2017, "Google Vizier", section 3.2.2). A
    trial that is ended counts as complete, with what it reached. Of several executions, each is
    judged by itself, against the mean curve of the other trials.

    Within `NASTuner`, finished trials are those of the project folder: of earlier processes and
    of other workers, too. Other tuners say nothing about their folder: there it knows of the
    trainings that this callback and its copies followed to their end in this process.

    Args:
        objective: The metric to follow: a name with a certain direction, or a
            `keras_tuner.Objective`.
        min_trials: Finished trials before any is ended.
        warm_up_epochs: Epochs of each trial before it may be ended.

    Raises:
        ObjectiveError: The direction of ``objective`` is not certain; or no epoch of a training
            reported it.
        NASError: Another argument is not what it needs to be.
    """

    def __init__(self, objective: Any, *, min_trials: int = 5, warm_up_epochs: int = 3) -> None:
        super().__init__()
        objective = checked_objective(objective)
        if not isinstance(objective, keras_tuner.Objective):
            raise ObjectiveError(
                "`objective` needs the name of one metric or a keras_tuner.Objective; "
                f"received {objective!r}"
            )
        for name, value, least in (
            ("min_trials", min_trials, 1),
            ("warm_up_epochs", warm_up_epochs, 0),
        ):
            if value < least:
                raise NASError(f"`{name}` needs at least {least}; received {value}")
        self.objective = objective
        self.min_trials = min_trials
        self.warm_up_epochs = warm_up_epochs
        #: The epoch, from 0, after which the training was ended; None where it was not.
        self.stopped_epoch: int | None = None
        self._finished = _Finished()
        self._project: Path | None = None
        self._earlier: list[float] = []
        self._curves: Sequence[Sequence[float]] = ()
        self._values: list[float] = []
        self._logged: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> MedianStoppingCallback:
        """Tuners copy their callbacks for each training; all copies know the same trials."""
        copied = memo[id(self)] = copy.copy(self)
        return copied

    def set_project(self, project: str | os.PathLike, earlier: Epochs | None = None) -> None:
        """What `NASTuner` says before each training.

        Args:
            project: The project folder.
            earlier: The epochs of the training that this one goes on with.
        """
        self._project = Path(project)
        self._earlier = [self._value(logs) for _, logs in earlier or ()]

    def on_train_begin(self, logs: Mapping | None = None) -> None:
        """Look up which trials have finished."""
        self.stopped_epoch = None
        self._values, self._logged = list(self._earlier), set()
        self._curves = self._finished.curves(self._project, self._value)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        """Stop training when it falls behind."""
        logs = scalars(logs)
        self._logged |= logs.keys()
        value = self._value(logs)
        self._values.append(value)
        steps = len(self._values)
        if np.isnan(value) or steps <= self.warm_up_epochs or len(self._curves) < self.min_trials:
            return
        if falls_behind(np.nanmax(self._values), self._curves, steps):
            self.stopped_epoch = epoch
            self.model.stop_training = True
            logger.info(
                "Stopped after epoch %d: `%s` is worse than the median of %d trials.",
                epoch + 1,
                self.objective.name,
                len(self._curves),
            )

    def on_train_end(self, logs: Mapping | None = None) -> None:
        """Without a project folder, remember how it went."""
        if self._logged and not self.objective.has_value(dict.fromkeys(self._logged)):
            raise ObjectiveError(
                f"`MedianStoppingCallback` needs a metric that training reports; received "
                f"{self.objective.name!r}, and it reported {sorted(self._logged)}"
            )
        if self._project is None:
            self._finished.followed.append(self._values)

    def _value(self, logs: Mapping[str, float]) -> float:
        """The metric as the larger the better; NaN where an epoch has none that is finite."""
        if not self.objective.has_value(logs):
            return np.nan
        value = oriented(self.objective.get_value(logs), self.objective.direction)
        return value if np.isfinite(value) else np.nan


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What is kept of a record: the curve, and what it went on with."""

    values: list[float]
    parent: str | None
    goes_on: bool


class _Finished:
    """Trainings that ended; one for all copies of a callback."""

    def __init__(self) -> None:
        #: Those that the callback followed itself.
        self.followed: list[list[float]] = []
        self._trials: dict[Path, dict[str, _Trial]] = {}

    def curves(self, project: Path | None, value: Value) -> list[list[float]]:
        """One curve per configuration, the longest that it has."""
        if project is None:
            return list(self.followed)
        trials = self._read(project, value)
        parents = {trial.parent for trial in trials.values()}
        return [_whole(one, trials) for name, one in trials.items() if name not in parents]

    def _read(self, project: Path, value: Value) -> dict[str, _Trial]:
        """The finished trials of a project folder, by id; each is read once."""
        known = self._trials.setdefault(project, {})
        for folder in sorted(project.glob("trial_*")):
            trial_id = folder.name.removeprefix("trial_")
            record = None if trial_id in known else TrialRecord.load(folder)
            if record is not None and record.status == FINISHED:
                fidelity = fidelity_of(record.values)
                parent = fidelity.parent if fidelity else None
                known[trial_id] = _Trial(_mean(record, value), parent, record.first_epoch > 0)
        return known


def _whole(trial: _Trial, trials: Mapping[str, _Trial]) -> list[float]:
    """The curve of a trial, with those of the trials that it went on with."""
    parent = trials.get(trial.parent or "") if trial.goes_on else None
    return trial.values if parent is None else [*_whole(parent, trials), *trial.values]


def _mean(record: TrialRecord, value: Value) -> list[float]:
    """The mean of a trial's executions, per epoch, over those that reached it."""
    curves = [[value(logs) for logs in curve] for curve in record.curves]
    epochs = itertools.zip_longest(*curves, fillvalue=np.nan)
    reached = ([number for number in epoch if not np.isnan(number)] for epoch in epochs)
    return [float(np.mean(numbers)) if numbers else np.nan for numbers in reached]

"""The median stopping rule: stops a training that is worse than half of the earlier ones."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import ArgumentError, ObjectiveError
from keras_nas_plugin.evaluation.results import scalars
from keras_nas_plugin.oracles.objectives import checked_objective
from keras_nas_plugin.oracles.scoring import oriented
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, TrialRecord
from keras_nas_plugin.space.fidelity import fidelity_of
from keras_nas_plugin.training.continuation import Epochs

logger = logging.getLogger("keras_nas_plugin")

_ROUNDING = 1e-9

#: The value of an epoch, where larger is better; NaN without one.
Value = Callable[[Mapping[str, float]], float]


def falls_behind(best: float, curves: Sequence[Sequence[float]], steps: int) -> bool:
    """Whether the median stopping rule stops a training after ``steps`` steps.

    It does if the best value so far is strictly worse than the median of the running averages of
    finished trainings, each over the first ``steps`` values of its curve, or over all of a shorter
    curve.

    Source: Golovin, Solnik, Moitra, Kochanski, Karro & Sculley 2017, "Google Vizier: A Service
    for Black-Box Optimization", section 3.2.2.

    Args:
        best: The best value so far; larger is better.
        curves: Values of finished trainings; larger is better, and NaN is a missing value.
        steps: Number of values so far, at least 1.

    >>> curves = [[0.2, 0.8], [0.4, 0.6, 0.9], [0.1]]
    >>> falls_behind(0.5, curves, 2), falls_behind(0.49, curves, 2), falls_behind(0.0, [], 2)
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
    """Stops a trial whose best value so far is worse than the median of the finished trials.

    ```python
    tuner.search(x, y, epochs=30, callbacks=[MedianStoppingCallback("val_accuracy")], ...)
    ```

    After each epoch, the trial's best value is compared with the median of the finished trials'
    running averages up to that epoch (Golovin et al. 2017, "Google Vizier", section 3.2.2). A
    trial that is stopped is complete, with the score that it reached. Each of several executions
    is compared separately, with the mean curves of the other trials.

    Within `NASTuner`, the finished trials are those of the project folder, also of earlier
    processes and of other workers, without those that a change of the program excludes. Other
    tuners do not pass their folder to the callback; it then uses the trainings of this process
    that it and its copies followed to their end.

    Args:
        objective: The metric to follow: a name with an unambiguous direction, or a
            `keras_tuner.Objective`.
        min_trials: Finished trials before any trial is stopped.
        warm_up_epochs: Epochs of each trial before it may be stopped.

    Raises:
        ObjectiveError: The direction of ``objective`` is ambiguous, or no epoch of a training
            reported it.
        ArgumentError: Another argument is invalid; the message names it.
    """

    def __init__(
        self,
        objective: str | keras_tuner.Objective,
        *,
        min_trials: int = 5,
        warm_up_epochs: int = 3,
    ) -> None:
        super().__init__()
        objective = checked_objective(objective)
        if not isinstance(objective, keras_tuner.Objective):
            raise ObjectiveError(
                "`objective` must be the name of one metric or a keras_tuner.Objective; "
                f"got {objective!r}"
            )
        for name, value, least in (
            ("min_trials", min_trials, 1),
            ("warm_up_epochs", warm_up_epochs, 0),
        ):
            if value < least:
                raise ArgumentError(f"`{name}` must be at least {least}; got {value}")
        self.objective = objective
        self.min_trials = min_trials
        self.warm_up_epochs = warm_up_epochs
        #: The epoch, from 0, after which the training was stopped; None if it was not.
        self.stopped_epoch: int | None = None
        self._finished = _FinishedCurves()
        self._project: Path | None = None
        self._previous_values: list[float] = []
        self._curves: Sequence[Sequence[float]] = ()
        self._values: list[float] = []
        self._logged: set[str] = set()

    def __deepcopy__(self, memo: dict[int, object]) -> MedianStoppingCallback:
        """Tuners copy their callbacks for each training; all copies share the finished curves."""
        duplicate = memo[id(self)] = copy.copy(self)
        return duplicate

    def set_project(self, project: str | os.PathLike[str], previous: Epochs | None = None) -> None:
        """`NASTuner` calls this before each training.

        Args:
            project: The project folder.
            previous: The epochs of the training that this one continues, or None.
        """
        self._project = Path(project)
        self._previous_values = [self._value(logs) for _, logs in previous or ()]

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Look up which trials have finished."""
        self.stopped_epoch = None
        self._values, self._logged = list(self._previous_values), set()
        self._curves = self._finished.curves(self._project, self._value)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Stop the training if it falls behind."""
        metrics = scalars(logs)
        self._logged |= metrics.keys()
        value = self._value(metrics)
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

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Without a project folder, remember the curve."""
        if self._logged and not self.objective.has_value(dict.fromkeys(self._logged)):
            raise ObjectiveError(
                "`objective` of MedianStoppingCallback must be a metric that training reports; "
                f"got {self.objective.name!r}, and training reported {sorted(self._logged)}"
            )
        if self._project is None:
            self._finished.followed.append(self._values)

    def _value(self, logs: Mapping[str, float]) -> float:
        """The metric, where larger is better; NaN for an epoch without a finite value."""
        if not self.objective.has_value(logs):
            return np.nan
        value = oriented(self.objective.get_value(logs), self.objective.direction)
        return value if np.isfinite(value) else np.nan


@dataclasses.dataclass(frozen=True)
class _FinishedTrial:
    """The curve of a finished trial, and the trial whose training it continued.

    Attributes:
        values: One value per epoch.
        parent: The trial that was promoted, or None.
        continues: Whether the training of the parent was continued, not started again.
    """

    values: list[float]
    parent: str | None
    continues: bool


class _FinishedCurves:
    """Curves of finished trainings; shared by all copies of a callback."""

    def __init__(self) -> None:
        #: Curves that the callback followed itself.
        self.followed: list[list[float]] = []
        self._trials: dict[Path, dict[str, _FinishedTrial]] = {}

    def curves(self, project: Path | None, value: Value) -> list[list[float]]:
        """One curve per configuration that counts, the longest that it has.

        Args:
            project: The project folder; None for the curves that the callback followed itself.
            value: The value of an epoch.
        """
        if project is None:
            return list(self.followed)
        trials = self._read(project, value)
        search = SearchInfo.load(project)
        exclusions = Exclusions() if search is None else search.exclusions
        counted = {id_: trial for id_, trial in trials.items() if id_ not in exclusions}
        parents = {trial.parent for trial in counted.values()}
        return [
            _lineage_curve(trial, trials)
            for trial_id, trial in counted.items()
            if trial_id not in parents
        ]

    def _read(self, project: Path, value: Value) -> dict[str, _FinishedTrial]:
        """The finished trials of a project folder, by id; each is read once."""
        trials = self._trials.setdefault(project, {})
        for layout in ProjectLayout(project).trials():
            record = None
            if layout.trial_id not in trials:
                record = TrialRecord.load(layout.folder)
            if record is not None and record.status == FINISHED:
                fidelity = fidelity_of(record.values)
                trials[layout.trial_id] = _FinishedTrial(
                    _mean_curve(record, value),
                    fidelity.parent if fidelity else None,
                    record.first_epoch > 0,
                )
        return trials


def _lineage_curve(trial: _FinishedTrial, trials: Mapping[str, _FinishedTrial]) -> list[float]:
    """The curve of a trial, after those of the trials that it continued."""
    parent = trials.get(trial.parent or "") if trial.continues else None
    if parent is None:
        return trial.values
    return [*_lineage_curve(parent, trials), *trial.values]


def _mean_curve(record: TrialRecord, value: Value) -> list[float]:
    """The mean over a trial's executions, per epoch, over those that reached the epoch."""
    curves = [[value(logs) for logs in curve] for curve in record.curves]
    epochs = itertools.zip_longest(*curves, fillvalue=np.nan)
    reached = ([number for number in epoch if not np.isnan(number)] for epoch in epochs)
    return [float(np.mean(numbers)) if numbers else np.nan for numbers in reached]

"""Tracking for a tuner that stays what it is."""

from __future__ import annotations

import functools
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin import project
from keras_nas_plugin.errors import ObjectiveError, TrackingError
from keras_nas_plugin.evaluation.results import Result, result_of
from keras_nas_plugin.roles import is_worker
from keras_nas_plugin.tracking import MLflowTracker, Tracker, autolog_disabled
from keras_nas_plugin.tracking.fanout import Fanout, note_runs
from keras_nas_plugin.tracking.records import (
    FAILED,
    FINISHED,
    KILLED,
    SearchInfo,
    Status,
    TrialRecord,
    load_records,
)
from keras_nas_plugin.training.closing import leave_report
from keras_nas_plugin.training.costing import CostPlan
from keras_nas_plugin.training.describe import search_info, warn_of_other_data
from keras_nas_plugin.training.running import RunningTrial

_Held = TypeVar("_Held")  # a tuner, or what holds one


def track(
    tuner: _Held,
    tracker: Tracker | None = None,
    *,
    experiment: str = "keras-nas",
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> _Held:
    """Log what a KerasTuner tuner does, one MLflow run per trial, without replacing the tuner.

    ```python
    tuner = keras_tuner.Hyperband(build_model, "val_accuracy", max_epochs=20)
    track(tuner, experiment="digits").search(x, y, validation_data=(x_val, y_val))
    ```

    Runs, tags and metrics are those of `NASTuner`, and so is what lies in the project folder:
    `keras-nas trials`, `best`, `sync` and `report` read it. The tuner's methods ``search``,
    ``on_search_begin`` and ``run_trial``, and ``build`` and ``fit`` of its hypermodel, are
    wrapped on the instance. What a tuner does after its last trial, such as AutoKeras' training
    of the winner on all rows, is no trial and is not logged.

    Args:
        tuner: Any tuner of KerasTuner or derived from one of these, or what holds one as its
            ``tuner``, such as AutoKeras' models; `NASTuner` tracks itself.
        tracker: Who is told; None makes an `MLflowTracker` of the other arguments.
        experiment: See `MLflowTracker`.
        tracking_uri: See `MLflowTracker`.
        tags: See `MLflowTracker`.

    Returns:
        What was given.

    Raises:
        TrackingError: It is no such tuner, or is tracked already.
    """
    own = tuner if isinstance(tuner, BaseTuner) else getattr(tuner, "tuner", None)
    if not isinstance(own, BaseTuner):
        raise TrackingError(f"`tuner` needs a KerasTuner tuner; received {type(tuner).__name__}")
    if hasattr(own, "_trackers"):
        raise TrackingError("`tuner` needs one that is not tracked yet; received one that is")
    tracker = tracker or MLflowTracker(experiment, tracking_uri=tracking_uri, tags=tags)
    own._trackers = Fanout([tracker])
    _Tracked(own)
    return tuner


class _Tracked:
    """What stands in for a tuner's methods."""

    def __init__(self, tuner: Any) -> None:
        self._tuner = tuner
        self._trackers: Fanout = tuner._trackers
        self._running: RunningTrial | None = None
        self._arguments: tuple[Any, Any] = ((), {})
        self._told = False
        self._earlier: dict[str, TrialRecord] = {}
        self._fitted = False
        self._model: Any = None
        self._search = _replaced(tuner, "search", self.search)
        self._on_search_begin = _replaced(tuner, "on_search_begin", self.on_search_begin)
        self._run_trial = _replaced(tuner, "run_trial", self.run_trial)
        if tuner.hypermodel is not None:
            self._build = _replaced(tuner.hypermodel, "build", self.build)
            self._fit = _replaced(tuner.hypermodel, "fit", self.fit)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """The tuner's own search, with a run around it."""
        self._arguments, self._told = (args, kwargs), False
        status: Status = FAILED
        with (
            project.driven(_made(self._tuner.project_dir), alone=not is_worker()),
            autolog_disabled(),
        ):
            try:
                returned = self._search(*args, **kwargs)
                # AutoKeras does not search again what it has finished; what waits is sent.
                self._tell()
                status = FINISHED
                return returned
            except (KeyboardInterrupt, SystemExit):
                status = KILLED
                raise
            finally:
                self._ended(status)

    def on_search_begin(self) -> None:
        """The search is told of here: AutoKeras knows its space no earlier."""
        self._on_search_begin()
        self._tell()

    def _tell(self) -> None:
        """Say what search this is, once."""
        if self._told:
            return
        tuner = self._tuner
        info = search_info(_described(tuner), *self._arguments)
        warn_of_other_data(SearchInfo.load(tuner.project_dir), info)
        info.save()
        records = tuple(load_records(tuner.project_dir))
        self._trackers.search_started(info, records)
        self._earlier = {one.trial_id: one for one in records if one.status == FINISHED}
        self._told = True

    def _ended(self, status: Status) -> None:
        if not self._told:
            return
        if is_worker():  # one that is done does not end the search of the others
            self._trackers.flush()
        else:
            leave_report(self._tuner.project_dir, self._trackers)
            self._trackers.search_ended(status)
            note_runs(self._trackers, self._tuner.project_dir)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """The tuner's own training of a trial, and its record."""
        self._tell()  # a search of the tuner's own may know no beginning
        folder = Path(self._tuner.get_trial_dir(trial.trial_id))
        running = RunningTrial(trial, CostPlan(), {}, folder)
        known = self._earlier.pop(trial.trial_id, None)
        if known is not None and _is_about(known, running):
            # It finished in a process that died before the oracle had it on disk. Trained again,
            # it would have one result in MLflow and another in KerasTuner.
            return _returned(known)
        TrialRecord.discard(folder)
        self._running = running
        self._fitted, self._model = False, None
        self._trackers.trial_started(trial.trial_id, running.values())
        began = time.monotonic()
        try:
            returned = self._run_trial(trial, *args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as error:
            self._trackers.trial_ended(running.record(KILLED, error=error))
            raise
        except Exception as error:
            self._end(running.record(FAILED, error=error), folder)
            raise
        finally:
            model, self._model, self._running = self._model, None, None
        try:
            if model is not None and not self._fitted:
                # A tuner that trains without `HyperModel.fit`, as AutoKeras' does.
                running.ran(model, time.monotonic() - began)
            record = running.record(
                FINISHED, result=self._result(trial, returned, running), returned=returned
            )
        except Exception as error:
            # What the tuner makes of it is the tuner's own business.
            record = running.record(FAILED, error=error)
        self._end(record, folder)
        return returned

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """The hypermodel's own build; the last model of a trial is the one that is trained."""
        model = self._build(*args, **kwargs)
        if self._running is not None and isinstance(model, keras.Model):
            self._model = model
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: Any, *args: Any, **kwargs: Any) -> Any:
        """The hypermodel's own fit; the model's costs are found out after it."""
        began = time.monotonic()
        returned = self._fit(hp, model, *args, **kwargs)
        if self._running is not None:
            known = model if isinstance(model, keras.Model) else None
            self._running.ran(known, time.monotonic() - began)
            self._fitted = True
        return returned

    def _end(self, record: TrialRecord, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        record.save(folder)
        self._trackers.trial_ended(record)

    def _result(self, trial: Trial, returned: Any, running: RunningTrial) -> Result:
        """What counts of what training returned, or told the oracle in place of returning it."""
        objective = self._tuner.oracle.objective
        if returned is not None:
            return result_of(returned, objective, running.costs)
        told = self._tuner.oracle.get_trial(trial.trial_id).metrics
        metrics = {name: told.get_best_value(name) for name in told.metrics}
        if not objective.has_value(metrics):
            raise ObjectiveError(
                f"`run_trial` needs to return or to report {objective.name!r}; received "
                f"{sorted(metrics)}"
            )
        return result_of(metrics, objective, running.costs)


def _is_about(record: TrialRecord, running: RunningTrial) -> bool:
    """Whether a record is of these values; a hyperparameter found late would be unknown."""
    return record.hyperparameters is None and dict(record.values) == running.values()


def _returned(record: TrialRecord) -> Any:
    """What a trial's training returned, as far as KerasTuner reads it."""
    names = [set().union(*curve) for curve in record.curves]
    whole = zip(record.curves, names, strict=True)
    if not record.curves or any(set(epoch) != known for curve, known in whole for epoch in curve):
        return dict(record.metrics)
    histories = []
    for curve in record.curves:
        history = keras.callbacks.History()
        history.history = {name: [epoch[name] for epoch in curve] for name in curve[0]}
        history.epoch = [record.first_epoch + step for step in range(len(curve))]
        histories.append(history)
    return histories


def _replaced(owner: Any, name: str, stand_in: Callable) -> Callable:
    """Put a function in the place of a method of one object; the method."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return stand_in(*args, **kwargs)

    setattr(owner, name, call)
    return original


def _described(tuner: Any) -> types.SimpleNamespace:
    """What `search_info` asks of a tuner, of one that has less to say."""
    # A worker's oracle stands in for that of the chief (KerasTuner 1.4.8: `OracleClient`).
    oracle = getattr(tuner.oracle, "_oracle", tuner.oracle)
    return types.SimpleNamespace(
        _local_oracle=oracle,
        oracle=tuner.oracle,
        search_id=project.search_id(_made(tuner.project_dir)),
        project_name=tuner.project_name,
        project_dir=tuner.project_dir,
        precision=keras.config.dtype_policy().name,
        distribution_strategy=getattr(tuner, "distribution_strategy", None),
        dataset="data",
        deterministic=None,
        executions_per_trial=getattr(tuner, "executions_per_trial", 1),
        budget=None,
        max_model_size=getattr(tuner, "max_model_size", None),
        resume_command=None,
    )


def _made(folder: str) -> Path:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path

"""Tracks a tuner of KerasTuner without replacing it by `NASTuner`."""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.evaluation.results import Result, result_of
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord
from keras_nas_plugin.roles import Role
from keras_nas_plugin.tracking import MLflowTracker, Tracker
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.changes import check_on_change
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.costing import CostPlan
from keras_nas_plugin.training.describe import search_info
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.interrupts import Interrupter, interrupt_behind
from keras_nas_plugin.training.reported import RUN_TRIAL, ReportedMetrics
from keras_nas_plugin.training.running import RunningTrial
from keras_nas_plugin.training.search_session import SearchSession
from keras_nas_plugin.training.slot_times import SlotTimes

_TunerOrOwner = TypeVar("_TunerOrOwner")

_tracked_tuners: weakref.WeakSet[BaseTuner] = weakref.WeakSet()


def track(
    tuner: _TunerOrOwner,
    tracker: Tracker | None = None,
    *,
    experiment: str = "keras-nas",
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
    on_change: str = "continue",
) -> _TunerOrOwner:
    """Log what a KerasTuner tuner does, one MLflow run per trial, without replacing the tuner.

    ```python
    tuner = keras_tuner.Hyperband(build_model, "val_accuracy", max_epochs=20)
    track(tuner, experiment="digits").search(x, y, validation_data=(x_val, y_val))
    ```

    Runs, tags and metrics are those of `NASTuner`, and so are the files in the project folder:
    `keras-nas trials`, `best`, `sync` and `report` read it. The tuner's methods ``search``,
    ``on_search_begin`` and ``run_trial``, and ``build`` and ``fit`` of its hypermodel, are wrapped
    on the instance. What a tuner does after its last trial, such as AutoKeras' training of the
    best model on all rows, is no trial and is not logged.

    Args:
        tuner: Any tuner of KerasTuner or derived from one of these, or an object that has one as
            its ``tuner``, such as AutoKeras' models; `NASTuner` tracks itself.
        tracker: Where trials are logged; None creates an `MLflowTracker` from the other arguments.
        experiment: See `MLflowTracker`.
        tracking_uri: See `MLflowTracker`.
        tags: See `MLflowTracker`.
        on_change: What a resumed search does if its epochs, batch size, data or other settings
            are not those of its last run: ``"continue"`` says so, ``"error"`` raises a StateError
            before the first trial. Trials of other epochs are then not the best in MLflow and in
            `keras-nas best`, but KerasTuner's own ``get_best_models`` still includes them.

    Returns:
        ``tuner``.

    Raises:
        TrackingError: ``tuner`` is not a tuner of KerasTuner, or is already tracked.
        NASError: ``on_change`` has another value.
    """
    check_on_change(on_change)
    wrapped = tuner if isinstance(tuner, BaseTuner) else getattr(tuner, "tuner", None)
    if not isinstance(wrapped, BaseTuner):
        raise TrackingError(f"`tuner` must be a KerasTuner tuner; got {type(tuner).__name__}")
    if wrapped in _tracked_tuners or getattr(wrapped, "tracks_itself", False):
        raise TrackingError(
            f"`tuner` must not be tracked yet; got a {type(wrapped).__name__} that is"
        )
    tracker = tracker or MLflowTracker(experiment, tracking_uri=tracking_uri, tags=tags)
    _TrackedTuner(wrapped, CompositeTracker([tracker, Interrupter()]), on_change)
    _tracked_tuners.add(wrapped)
    return tuner


class _TrackedTuner:
    """Wraps the methods of a tuner.

    Args:
        tuner: The tuner.
        trackers: Notified of its trials.
        on_change: See `track`.
    """

    def __init__(self, tuner: BaseTuner, trackers: CompositeTracker, on_change: str) -> None:
        self._tuner = tuner
        self._on_change = on_change
        self._trackers = trackers
        self._bookkeeping = Bookkeeping()
        self._session = SearchSession(self._context())
        self._fit_arguments = FitArguments.bind((), {})
        # Records of trials that finished in an earlier process, until the oracle hands these out
        # again.
        self._finished_before: dict[str, TrialRecord] = {}
        self._running: RunningTrial | None = None
        self._times = SlotTimes()
        # The model that the running trial built last, and whether `HyperModel.fit` trained it.
        self._model: keras.Model | None = None
        self._fitted = False
        self._search = _wrap(tuner, "search", self.search)
        self._on_search_begin = _wrap(tuner, "on_search_begin", self.on_search_begin)
        self._run_trial = _wrap(tuner, "run_trial", self.run_trial)
        if tuner.hypermodel is not None:
            self._build = _wrap(tuner.hypermodel, "build", self.build)
            self._fit = _wrap(tuner.hypermodel, "fit", self.fit)

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """The tuner's own search, with a session around it."""
        self._fit_arguments = FitArguments.bind(args, kwargs, self._tuner.hypermodel)
        self._bookkeeping.restart()
        with SearchSession(self._context()) as self._session:
            returned = self._search(*args, **kwargs)
            # AutoKeras skips a finished search; runs that were not sent yet are still sent.
            self._start()
        return returned

    def on_search_begin(self) -> None:
        """Start the session here: AutoKeras does not know its search space earlier."""
        self._on_search_begin()
        self._start()

    def _start(self) -> None:
        """Describe the search to the trackers, once."""
        if self._session.started:
            return
        self._times = SlotTimes()
        records = self._session.start(search_info(self._context(), self._fit_arguments))
        self._finished_before = {
            record.trial_id: record for record in records if record.status == FINISHED
        }

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """The tuner's own training of a trial, and its record."""
        self._start()  # a tuner with its own search may never call `on_search_begin`
        folder = Path(self._tuner.get_trial_dir(trial.trial_id))
        running = RunningTrial(trial, CostPlan(), {}, folder, self._bookkeeping)
        running.epochs = self._fit_arguments.epochs or 1  # Keras' default
        existing = self._finished_before.pop(trial.trial_id, None)
        if existing is not None and _has_same_values(existing, running):
            # It finished in a process that died before the oracle saved the result. If it were
            # trained again, MLflow and KerasTuner would have different results.
            return _returned_value(existing)
        TrialRecord.discard(folder)
        self._running = running
        self._times.submitted(trial, self._tuner.tuner_id)
        self._fitted, self._model = False, None
        self._trackers.trial_started(trial.trial_id, running.values())
        started_at = time.monotonic()
        try:
            returned = self._run_trial(trial, *args, **kwargs)
        except (KeyboardInterrupt, SystemExit) as error:
            killed = running.record(KILLED, error=error)
            self._trackers.trial_ended(self._times.placed(killed))
            raise
        except Exception as error:
            interrupt = interrupt_behind(error)
            if interrupt is not None:
                killed = running.record(KILLED, error=interrupt)
                self._trackers.trial_ended(self._times.placed(killed))
                raise interrupt from error
            self._end_trial(running.record(FAILED, error=error), folder)
            raise
        finally:
            model, self._model, self._running = self._model, None, None
        try:
            if model is not None and not self._fitted:
                # A tuner that trains without `HyperModel.fit`, as AutoKeras' does.
                running.add_execution(model, time.monotonic() - started_at)
            result = self._result(trial, returned, running)
            record = running.record(FINISHED, result=result, returned=returned)
        except Exception as error:
            # The tuner itself decides how to handle the error.
            record = running.record(FAILED, error=error)
        self._end_trial(record, folder)
        return returned

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """The hypermodel's own build; the last model of a trial is the one that is trained."""
        model = self._build(*args, **kwargs)
        if self._running is not None and isinstance(model, keras.Model):
            self._model = model
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> Any:
        """The hypermodel's own fit; the costs of the model are determined after it."""
        if self._running is not None and isinstance(model, keras.Model):
            self._running.describe(model)
        started_at = time.monotonic()
        returned = self._fit(hp, model, *args, **kwargs)
        if self._running is not None:
            trained = model if isinstance(model, keras.Model) else None
            self._running.add_execution(trained, time.monotonic() - started_at)
            self._fitted = True
        return returned

    def _end_trial(self, record: TrialRecord, folder: Path) -> None:
        record = self._times.placed(record)
        folder.mkdir(parents=True, exist_ok=True)
        record.save(folder)
        self._trackers.trial_ended(record)

    def _result(self, trial: Trial, returned: object, running: RunningTrial) -> Result:
        """The result of a training: its return value, or what it reported to the oracle."""
        oracle = self._tuner.oracle
        # KerasTuner ignores what `run_trial` returned if it reported the objective itself.
        reported = ReportedMetrics.of(oracle.get_trial(trial.trial_id), oracle.objective)
        if reported is not None:
            reported.enter(running)
            return reported.result
        own = type(self._tuner).run_trial.__module__.startswith("keras_tuner.")
        source = "HyperModel.fit" if own else RUN_TRIAL
        return result_of(returned, oracle.objective, running.costs, source=source)

    def _context(self) -> SearchContext:
        """The search as far as this tuner describes it."""
        tuner = self._tuner
        return SearchContext(
            layout=ProjectLayout.of(tuner.project_dir),
            name=tuner.project_name,
            oracle=_local_oracle(tuner),
            get_space=tuner.oracle.get_space,
            hypermodel=tuner.hypermodel,
            trackers=self._trackers,
            role=Role.of_process(),
            distribution_strategy=getattr(tuner, "distribution_strategy", None),
            executions_per_trial=getattr(tuner, "executions_per_trial", 1),
            max_model_size=getattr(tuner, "max_model_size", None),
            bookkeeping=self._bookkeeping,
            on_change=self._on_change,
        )


def _local_oracle(tuner: BaseTuner) -> keras_tuner.Oracle:
    """The oracle of this process: a worker's client has it as `_oracle` (KerasTuner 1.4.8)."""
    return getattr(tuner.oracle, "_oracle", tuner.oracle)


def _has_same_values(record: TrialRecord, running: RunningTrial) -> bool:
    """Whether a record has the values of the running trial.

    It does not if training added a hyperparameter, which the trial does not have yet.
    """
    return record.hyperparameters is None and dict(record.values) == running.values()


def _returned_value(record: TrialRecord) -> list[keras.callbacks.History] | dict[str, float]:
    """Restore from a record what `run_trial` returned, as far as KerasTuner reads it."""
    names = [set().union(*curve) for curve in record.curves]
    complete = all(
        set(epoch) == curve_names
        for curve, curve_names in zip(record.curves, names, strict=True)
        for epoch in curve
    )
    if not record.curves or not complete:
        return dict(record.metrics)
    histories = []
    for curve in record.curves:
        history = keras.callbacks.History()
        history.history = {name: [epoch[name] for epoch in curve] for name in curve[0]}
        history.epoch = [record.first_epoch + step for step in range(len(curve))]
        histories.append(history)
    return histories


def _wrap(owner: object, name: str, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Replace a method of one object.

    Args:
        owner: The object.
        name: The method.
        wrapper: The function to call instead.

    Returns:
        The method that was replaced.
    """
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return wrapper(*args, **kwargs)

    setattr(owner, name, call)
    return original

"""A trial while it trains, and how it ended."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.evaluation.results import Result, epochs_of
from keras_nas_plugin.export.costs import ExportRows
from keras_nas_plugin.files import write_text
from keras_nas_plugin.oracles.fatal import FATAL_BASES
from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.project import TrialLayout
from keras_nas_plugin.records.locating import location_of
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import FAILED, Lineage, Status, TrialRecord
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.training.architectures import save_model_description
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.costing import CostPlan
from keras_nas_plugin.training.layer_state import has_weights
from keras_nas_plugin.training.proxying import proxies_of
from keras_nas_plugin.training.runtime import this_process

#: Errors that every further trial would run into as well.
FATAL: tuple[type[BaseException], ...] = (keras_tuner.errors.FatalError, *FATAL_BASES)


@dataclasses.dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        trial: The trial. If it failed, it has the status and the message for its oracle.
        record: Its record, not yet written.
        error: An error that ends the search, or None. The trial then counts as not run: its record
            is reported to the trackers but not saved, and it runs again on resume.
        reported: Whether the trial reported its metrics to the oracle itself.
        withdrawn: Whether the trial continues in another process, which reports how it ends.
    """

    trial: Trial
    record: TrialRecord
    error: BaseException | None = None
    reported: bool = False
    withdrawn: bool = False


class RunningTrial:
    """The state of a trial while it trains.

    Args:
        trial: The trial.
        plan: The costs to determine.
        costs: Costs that are already known, by name.
        folder: Folder of the trial.
        bookkeeping: Reports what cannot be recorded.
    """

    def __init__(
        self,
        trial: Trial,
        plan: CostPlan,
        costs: Mapping[str, float],
        folder: Path,
        bookkeeping: Bookkeeping,
    ) -> None:
        self.trial = trial
        self._bookkeeping = bookkeeping
        self.plan = plan
        #: Metrics per execution and epoch, filled while the trial trains.
        self.curves: list[list[dict[str, float]]] = []
        #: The epoch at which the curves begin.
        self.first_epoch = 0
        #: The trials whose weights this one started from; None in a search without inheritance.
        self.lineage: Lineage | None = None
        #: The epoch that `fit` is told to train to.
        self.epochs: int | None = None
        self.costs = dict(costs)
        self.parents: tuple[str, ...] = bookkeeping.value(
            "the parents of a trial are not recorded", lambda: load_parents(folder), ()
        )
        self._placement: Placement | None = bookkeeping.value(
            "the process of a trial is not recorded", this_process, None
        )
        self._folder = folder
        self.started_ms = time.time_ns() // 1_000_000
        self._space_size = len(trial.hyperparameters.space)
        self._costs_complete = False
        self._described = False

    def values(self) -> Values:
        """Active hyperparameters: KerasTuner's workers receive inactive ones too."""
        hyperparameters = self.trial.hyperparameters
        return spec_of(hyperparameters).restrict(hyperparameters.values)

    def describe(self, model: keras.Model) -> None:
        """Write the layers of the trial's model to its folder, once it is built."""
        if model.built and not self._described:
            self._described = True
            save_model_description(model, self._folder, self._bookkeeping)

    def add_execution(
        self,
        model: keras.Model | None,
        seconds: float,
        rows: Callable[[], ExportRows] = ExportRows,
    ) -> None:
        """Add the costs of an execution.

        Args:
            model: The model that was trained; None where it is unknown.
            seconds: How long its training took.
            rows: Returns the rows of the search, for costs of exported models.
        """
        self.costs["train_seconds"] = self.costs.get("train_seconds", 0.0) + seconds
        if model is not None:
            self.describe(model)
        if model is not None and has_weights(model) and not self._costs_complete:
            self.costs |= self.plan.costs_of(model, self.costs, self._bookkeeping, rows)
            self._costs_complete = True

    def record(
        self,
        status: Status,
        *,
        result: Result | None = None,
        returned: object = None,
        error: BaseException | None = None,
    ) -> TrialRecord:
        """The record of the trial, which ends now.

        Args:
            status: How it ended.
            result: Its metrics, where it finished.
            returned: What `run_trial` returned; it has the curves where no callback was called.
            error: Why it did not finish. The traceback of a trial that failed is written to its
                folder.
        """
        if status == FAILED and error is not None:
            with self._bookkeeping.step("the traceback of a trial was not written"):
                _write_traceback(error, self._folder)
        curves = [curve for curve in self.curves if curve]
        if not curves and isinstance(returned, list):
            curves = [epochs_of(history) for history in returned if hasattr(history, "history")]
        hyperparameters = self.trial.hyperparameters
        space_grew = len(hyperparameters.space) > self._space_size
        record = TrialRecord(
            trial_id=self.trial.trial_id,
            values=self.values(),
            status=status,
            score=result.score if result else None,
            metrics=result.metrics if result else {},
            best_step=result.step if result else 0,
            curves=tuple(tuple(curve) for curve in curves),
            first_epoch=self.first_epoch,
            epochs=self.epochs,
            costs=self.costs,
            proxies=self._bookkeeping.value(
                "the proxies of a trial are not recorded", lambda: proxies_of(self.trial), {}
            ),
            parents=self.parents,
            inherited_from=self.lineage.trial_id if self.lineage else None,
            inherited_epochs=self.lineage.epochs if self.lineage else 0,
            error=None if error is None else error_line(error),
            location=None if error is None else location_of(error),
            redeclared=tuple(sorted(getattr(hyperparameters, "redeclared", ()))),
            hyperparameters=hyperparameters.get_config() if space_grew else None,
            placement=self._placement,
            started_ms=self.started_ms,
            ended_ms=time.time_ns() // 1_000_000,
        )
        if self.lineage is None:
            return record
        costs = {**record.costs, "lineage_epochs": float(record.lineage_epochs)}
        return dataclasses.replace(record, costs=costs)


def _write_traceback(error: BaseException, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(TrialLayout(folder).traceback, "".join(traceback.format_exception(error)))

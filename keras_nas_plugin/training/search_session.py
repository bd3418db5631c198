"""The life of a search: from its lock and its start to its status, its report and its end."""

from __future__ import annotations

import contextlib
import logging
from types import TracebackType

from keras_nas_plugin.files import write_json
from keras_nas_plugin.project import exclusive_search_lock
from keras_nas_plugin.records.program import save_program
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import (
    FAILED,
    FINISHED,
    KILLED,
    Status,
    TrialRecord,
    load_records,
)
from keras_nas_plugin.space.declarations import ChangedRangeError
from keras_nas_plugin.tracking.composite import save_trial_runs
from keras_nas_plugin.tracking.mlflow.autolog import autolog_disabled
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.changes import apply_changes
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.costing import save_infeasible_summary
from keras_nas_plugin.training.interrupts import interrupt_behind, noted_interrupts
from keras_nas_plugin.training.runtime import no_retracing_warnings

logger = logging.getLogger("keras_nas_plugin")


class SearchSession:
    """One call of `search`: a context manager around everything that it does.

    Entering takes the exclusive lock of the project folder (except in a worker, since a search may
    have many workers) and disables MLflow's autologging. `start` describes the search to the
    trackers. Leaving writes the report and notifies the trackers of the status; a worker only
    waits until everything is sent, since its chief ends the search. `KeyboardInterrupt` is raised
    for an error that took the place of an interrupt.

    Args:
        context: The search.
    """

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        self._stack = contextlib.ExitStack()
        self.started = False

    def __enter__(self) -> SearchSession:
        owns_search = self._context.role.owns_search
        with contextlib.ExitStack() as stack:
            folder = self._context.layout.folder
            stack.enter_context(exclusive_search_lock(folder, exclusive=owns_search))
            stack.enter_context(autolog_disabled())
            stack.enter_context(no_retracing_warnings())
            stack.enter_context(noted_interrupts())
            self._stack = stack.pop_all()
        return self

    def start(self, info: SearchInfo) -> tuple[TrialRecord, ...]:
        """Write the description of the search, and notify the trackers.

        Args:
            info: The search as it is now.

        Returns:
            The records of the trials that have already ended, in the order of their ids.

        Raises:
            TrackingError: A tracker has a wrong address; no trial has been trained yet.
            StateError: Something was changed since the last run, which the user does not allow.
        """
        folder = self._context.layout.folder
        previous, records = SearchInfo.load(folder), tuple(load_records(folder))
        info = apply_changes(self._context, previous, info, records)
        # A worker that starts late must not overwrite what its chief has decided.
        if self._context.role.owns_search or previous is None:
            info.save()
        if self._context.role.owns_search:
            with Bookkeeping().step("the file of the program was not stored"):
                save_program(self._context.hypermodel, folder)
        self._context.trackers.search_started(info, records)
        self.started = True
        return records

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            interrupt = interrupt_behind(error)
            if self.started:
                self._end(_status_of(interrupt or error))
            if interrupt is not None:
                raise interrupt

    def _end(self, status: Status) -> None:
        context = self._context
        if status == KILLED and context.resume_command is None:
            logger.warning("Interrupted. Run the same program again to resume the search.")
        if not context.role.owns_search:
            context.trackers.flush()
            return
        with context.bookkeeping.step("the number of infeasible candidates was not written"):
            save_infeasible_summary(context.oracle, context.layout)
        write_report(context)
        context.trackers.search_ended(status)
        with context.bookkeeping.step("the runs of the trials were not recorded"):
            save_trial_runs(context.trackers, context.layout.folder)


def _status_of(error: BaseException | None) -> Status:
    if error is None or isinstance(error, ChangedRangeError):  # another session follows
        return FINISHED
    return KILLED if isinstance(error, KeyboardInterrupt | SystemExit) else FAILED


def write_report(context: SearchContext) -> None:
    """Write the report of a search where a tracker shows it; an error is logged.

    Args:
        context: The search.
    """
    if not context.trackers.shows_report:
        return
    # matplotlib and scikit-learn take a second to import.
    from keras_nas_plugin.reports.data import report_data
    from keras_nas_plugin.reports.page import write_page

    path = context.layout.report
    try:
        data = report_data(context.layout.folder)
        # Trackers show the most important decisions, which take seconds to find.
        write_json(context.layout.importance, data["importance"])
        write_page(data, path)
    except Exception as error:  # no search fails because of its report
        logger.warning("The report %s was not written: %s", path, error)

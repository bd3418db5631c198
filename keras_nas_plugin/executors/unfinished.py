"""Records of trials whose worker did not report how they ended."""

from __future__ import annotations

import time

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import Status, TrialRecord
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.training.context import SearchContext


def unfinished_record(
    context: SearchContext,
    trial: Trial,
    status: Status,
    *,
    started_ms: int | None = None,
    error: str | None = None,
    placement: Placement | None = None,
) -> TrialRecord:
    """The record of a trial that ends now without a result.

    Args:
        context: The search.
        trial: The trial.
        status: ``FAILED`` or ``KILLED``.
        started_ms: When it started, in milliseconds since 1970; None for now.
        error: Why it has no result.
        placement: Where it trained; None if that is unknown.
    """
    now = time.time_ns() // 1_000_000
    hyperparameters = trial.hyperparameters
    folder = context.layout.trial(trial.trial_id).folder
    return TrialRecord(
        trial_id=trial.trial_id,
        values=spec_of(hyperparameters).restrict(hyperparameters.values),
        status=status,
        parents=context.bookkeeping.value(
            "the parents of a trial are not recorded", lambda: load_parents(folder), ()
        ),
        error=error,
        placement=placement,
        started_ms=now if started_ms is None else started_ms,
        ended_ms=now,
    )

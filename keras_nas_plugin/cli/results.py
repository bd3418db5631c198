"""The results of a search as plain data, for tables and scripts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import InfeasibleSummary, SearchInfo, load_registration
from keras_nas_plugin.records.trial import TrialRecord, load_records, load_run_id
from keras_nas_plugin.wording import counted


def trial_result(search: SearchInfo, record: TrialRecord) -> dict[str, Any]:
    """A trial as plain data."""
    folder = ProjectLayout.of(search.directory).trial(record.trial_id).folder
    return {
        "trial_id": record.trial_id,
        "status": record.status,
        "score": record.score,
        "values": dict(record.values),
        "metrics": dict(record.metrics),
        "costs": dict(record.costs),
        "best_epoch": record.best_step + 1,
        "seconds": record.seconds,
        "error": record.error,
        **({"location": dataclasses.asdict(record.location)} if record.location else {}),
        **({"placement": dataclasses.asdict(record.placement)} if record.placement else {}),
        "run_id": load_run_id(folder),
        **_excluded(search.exclusions.reasons.get(record.trial_id)),
    }


def search_result(search: SearchInfo) -> dict[str, Any]:
    """A search as plain data: counts, best trial, retraining, registered model."""
    records = list(load_records(search.directory))
    best = ranked(search, records)[:1]
    retrained = Retraining.load(search.directory)
    counted = [record for record in records if record.trial_id not in search.exclusions]
    return {
        "search_id": search.search_id,
        "project": search.name,
        "directory": search.directory,
        "strategy": search.strategy,
        "objective": search.objective,
        "direction": search.direction,
        "max_trials": search.max_trials,
        "trials": _counts(records),
        **_excluded(len(search.exclusions)),
        **({"trials_that_count": _counts(counted)} if search.exclusions else {}),
        "infeasible": dataclasses.asdict(InfeasibleSummary.load(search.directory)),
        "best": trial_result(search, best[0]) if best else None,
        "retrained": retrained.summary() if retrained else None,
        "model": load_registration(search.directory),
        "environment": dict(search.environment),
    }


def _counts(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials have finished, and how many have failed."""
    return {
        status.lower(): sum(record.status == status for record in records)
        for status in ("FINISHED", "FAILED")
    }


def _excluded(value: str | int | None) -> dict[str, str | int]:
    """The entry on trials that do not count, where there are any."""
    return {"excluded": value} if value else {}


def excluded_text(count: int) -> str:
    """How many trials are never the best, because the program was changed after them.

    >>> excluded_text(2)
    '2 trials do not count, because the program was changed after them.'
    """
    trials = "1 trial does" if count == 1 else f"{count:,} trials do"
    return f"{trials} not count, because the program was changed after them."


def values_text(values: Mapping[str, object]) -> str:
    """Format hyperparameters on one line; of KerasTuner's own entries, the epochs.

    >>> values_text({"units": 8, "tuner/epochs": 9, "tuner/round": 2})
    'units=8 (9 epochs)'
    """
    own = (
        f"{name}={number_text(value)}" for name, value in values.items() if "tuner/" not in name
    )
    text, epochs = " ".join(own), values.get("tuner/epochs")
    return f"{text} ({counted(epochs, 'epoch')})" if isinstance(epochs, int) else text


def number_text(value: object) -> str:
    """Format a value for display: a float with six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

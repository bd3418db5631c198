"""The results of a search, for tables and for scripts."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from keras_nas_plugin.tracking.records import (
    SearchInfo,
    TrialRecord,
    load_records,
    load_refusals,
    load_registration,
    load_run_id,
    ranked,
)
from keras_nas_plugin.tracking.retraining import Retraining


def trial_result(search: SearchInfo, record: TrialRecord) -> dict[str, Any]:
    """A trial as plain data."""
    folder = Path(search.directory) / f"trial_{record.trial_id}"
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
        "run_id": load_run_id(folder),
    }


def search_result(search: SearchInfo) -> dict[str, Any]:
    """A search as plain data: counts, winner, what was retrained, registered model."""
    records = list(load_records(search.directory))
    best = ranked(search, records)[:1]
    retrained = Retraining.load(search.directory)
    counts = {
        status.lower(): sum(record.status == status for record in records)
        for status in ("FINISHED", "FAILED")
    }
    return {
        "search_id": search.search_id,
        "project": search.name,
        "directory": search.directory,
        "strategy": search.strategy,
        "objective": search.objective,
        "direction": search.direction,
        "max_trials": search.max_trials,
        "trials": counts,
        "infeasible": dataclasses.asdict(load_refusals(search.directory)),
        "best": trial_result(search, best[0]) if best else None,
        "retrained": retrained.summary() if retrained else None,
        "model": load_registration(search.directory),
        "environment": dict(search.environment),
    }


def plain(data: Any) -> Any:
    """The same with NaN and infinities as None: JSON has neither."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if dataclasses.is_dataclass(data):
        return plain(dataclasses.asdict(data))
    return None if isinstance(data, float) and not math.isfinite(data) else data


def values_text(values: dict[str, Any]) -> str:
    """Hyperparameters on one line."""
    return " ".join(f"{name}={number_text(value)}" for name, value in values.items())


def number_text(value: Any) -> str:
    """A value as people read it: six digits of a float."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

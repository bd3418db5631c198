"""The data of a report: everything that its page shows and that `--json` prints."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.names import lookup
from keras_nas_plugin.files import json_value, read_json
from keras_nas_plugin.project import ProjectLayout, TrialLayout
from keras_nas_plugin.records.ranking import ranked, records_that_count
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import InfeasibleSummary, SearchInfo
from keras_nas_plugin.records.trial import (
    FAILED,
    FINISHED,
    KILLED,
    TrialRecord,
    load_records,
    load_run_id,
)
from keras_nas_plugin.reports.calibration import calibration
from keras_nas_plugin.reports.curves import best_so_far, random_reference
from keras_nas_plugin.reports.fronts import front
from keras_nas_plugin.reports.importance import importance
from keras_nas_plugin.reports.lineage import lineage
from keras_nas_plugin.reports.space import described, space_of
from keras_nas_plugin.reports.supernet_weights import weights_data
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.tracking.mlflow.links import RunPages
from keras_nas_plugin.tracking.summary.leaderboard import Leaderboard

#: Incremented when the layout changes in a way that readers of the JSON would notice.
FORMAT = 1
_SEARCH_FIELDS = (
    *("search_id", "name", "objective", "direction", "strategy", "max_trials"),
    *("settings", "environment", "datasets", "constraints"),
)
# Example trials per cause of failure; trials with a learning curve.
_EXAMPLES, _CURVES = 5, 20


def report_data(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Collect everything that a report shows from the records on disk.

    Args:
        directory: The project folder of a running or finished search.

    Returns:
        JSON types, with None for NaN and infinities; `docs/report.md` describes the keys. The
        same records give the same data.

    Raises:
        StateError: The folder contains no search, or one of its files cannot be read.
    """
    search = SearchInfo.load(directory)
    if search is None:
        raise StateError(
            "`directory` must be the project folder of a search, which contains search.json; "
            f"got {str(directory)!r}"
        )
    ended = sorted(load_records(directory), key=lambda record: record.ended_ms)
    records = records_that_count(search, ended)
    ranking = ranked(search, records)
    best = ranking[0] if ranking else None
    data = {
        "format": FORMAT,
        "search": {**_search(search), "space": described(search, records)},
        "score": _score_name(search, best),
        "counts": {
            status.lower(): sum(record.status == status for record in records)
            for status in (FINISHED, FAILED, KILLED)
        },
        "dates": _dates(records),
        "utilization": _utilization(search, records),
        "best": None if best is None else _best_trial(search, best),
        "curves": learning_curves(search, ranking),
        "retrained": _retrained(directory),
        "random_reference": random_reference(search, records),
        "front": front(search, ranking),
        "importance": _importance(search, records, ranking),
        "lineage": lineage(search, ended, best),
        "costs": costs(records, best),
        "calibration": calibration(search, records),
        "supernet": weights_data(directory),
        "failures": failures(records),
        "excluded": excluded(search, ended),
        "infeasible": dataclasses.asdict(InfeasibleSummary.load(directory)),
        "trials": _trials(search, records, ranking),
        "run_pages": _run_pages(directory),
    }
    return json_value(data)


def _search(search: SearchInfo) -> dict[str, Any]:
    fields = dataclasses.asdict(search)
    objectives = [
        {"name": name, "direction": direction} for name, direction in search.directions.items()
    ]
    return {**{name: fields[name] for name in _SEARCH_FIELDS}, "objectives": objectives}


def _score_name(search: SearchInfo, best: TrialRecord | None) -> str:
    """Name of the score: the objective, the first of several, or KerasTuner's sum of them."""
    first = next(iter(search.directions))
    if len(search.directions) == 1 or best is None:
        return first
    value = lookup(best.measurements, first)
    return first if value == best.score else "signed sum of the objectives"


def _best_trial(search: SearchInfo, record: TrialRecord) -> dict[str, Any]:
    trial = ProjectLayout.of(search.directory).trial(record.trial_id)
    return {
        "trial_id": record.trial_id,
        "score": record.score,
        "values": configuration(record.values),
        "metrics": dict(record.metrics),
        "costs": dict(record.costs),
        "best_epoch": record.best_step + 1,
        "seconds": record.seconds,
        "run_id": load_run_id(trial.folder),
        "architecture": _architecture(trial),
        "diagram": _diagram(trial),
    }


def _run_pages(directory: str | os.PathLike[str]) -> dict[str, str] | None:
    """Where MLflow shows the runs; None if they were not logged."""
    pages = RunPages.of(directory)
    return None if pages is None else pages.to_dict()


def _dates(records: Sequence[TrialRecord]) -> dict[str, int | None]:
    """Start of the first and end of the last trial, in milliseconds since 1970 (UTC)."""
    return {
        "started_ms": min((record.started_ms for record in records), default=None),
        "ended_ms": max((record.ended_ms for record in records), default=None),
    }


def _utilization(search: SearchInfo, records: Sequence[TrialRecord]) -> float | None:
    board = Leaderboard(search)
    for record in records:
        board.add(record)
    return board.utilization


def learning_curves(search: SearchInfo, ranking: Sequence[TrialRecord]) -> dict[str, Any]:
    """The objective by epoch, averaged over executions, of the best trials.

    Args:
        search: The search, for its objective.
        ranking: Its ranked trials, the best first.

    Returns:
        ``metric``, and ``trials`` with ``trial_id``, ``first_epoch`` (from 1; epochs of the
        trials whose weights a trial inherited count) and ``values``.
    """
    metric = next(iter(search.directions))
    trials = []
    for record in ranking[:_CURVES]:
        columns = [[logs[metric] for logs in curve if metric in logs] for curve in record.curves]
        length = min(map(len, columns), default=0)
        if length:
            values = [
                math.fsum(column[epoch] for column in columns) / len(columns)
                for epoch in range(length)
            ]
            trials.append(
                {
                    "trial_id": record.trial_id,
                    "first_epoch": record.inherited_epochs + record.first_epoch + 1,
                    "values": values,
                }
            )
    return {"metric": metric, "trials": trials}


def _retrained(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    retraining = Retraining.load(directory)
    return None if retraining is None else retraining.summary()


def _architecture(trial: TrialLayout) -> dict[str, Any] | None:
    """The output of `Architecture.to_json`; None if the hypermodel does not describe itself."""
    try:
        return read_json(trial.architecture)
    except FileNotFoundError:
        return None


def _diagram(trial: TrialLayout) -> str | None:
    """The drawing of the layers as SVG; None for an architecture, which the page draws."""
    if trial.architecture.exists():
        return None
    try:
        return trial.picture.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _importance(
    search: SearchInfo, records: Sequence[TrialRecord], ranking: Sequence[TrialRecord]
) -> dict[str, Any]:
    """Importance from trials of equal length: the most frequent number of epochs."""
    lengths = collections.Counter(record.length for record in ranking)
    length = max(lengths, key=lambda length: (lengths[length], -length), default=0)
    trials = [record for record in ranking if record.length == length]
    result = importance(
        space_of(search, records),
        [record.values for record in trials],
        [record.score for record in trials if record.score is not None],
        maximise=search.direction == "max",
    )
    return {**result, "epochs": length if len(lengths) > 1 else None}


def costs(records: Sequence[TrialRecord], best: TrialRecord | None) -> list[dict[str, Any]]:
    """Costs of the finished trials: best trial, median, minimum, maximum and total.

    Args:
        records: The trials of a search.
        best: The best of them, or None.

    Returns:
        One mapping per cost, for the table of the report.
    """
    finished = [record for record in records if record.status == FINISHED]
    rows = [{**record.costs, "seconds": record.seconds} for record in finished]
    costs_of_best = {} if best is None else {**best.costs, "seconds": best.seconds}
    table = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        table.append(
            {
                "name": name,
                "best": costs_of_best.get(name),
                "median": statistics.median(values),
                "smallest": min(values),
                "largest": max(values),
                "total": math.fsum(values) if name.endswith("seconds") else None,
                "trials": len(values),
            }
        )
    return table


def failures(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Failed trials by cause; errors that differ only in numbers have the same cause."""
    causes: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == FAILED:
            error = record.error or "unknown"
            causes.setdefault(re.sub(r"\d+", "#", error), []).append(record)
    table: list[dict[str, Any]] = [
        {
            "error": group[0].error or "unknown",
            "count": len(group),
            "trial_ids": [record.trial_id for record in group[:_EXAMPLES]],
        }
        for group in causes.values()
    ]
    return sorted(table, key=lambda cause: -cause["count"])


def _placement(record: TrialRecord, field: str) -> object:
    """A field of the record's placement; None in records without one."""
    return getattr(record.placement, field, None)


def excluded(search: SearchInfo, records: Iterable[TrialRecord]) -> list[dict[str, Any]]:
    """Trials that do not count, because the program was changed after them, by reason.

    Args:
        search: The search, for its exclusions.
        records: All trials, in the order in which they ended.
    """
    reasons = search.exclusions.reasons
    by_reason: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.trial_id in reasons:
            by_reason.setdefault(reasons[record.trial_id], []).append(record)
    return [
        {
            "reason": reason,
            "trial_ids": [record.trial_id for record in group],
            "scores": [record.score for record in group],
        }
        for reason, group in by_reason.items()
    ]


def _trials(
    search: SearchInfo, records: Sequence[TrialRecord], ranking: Sequence[TrialRecord]
) -> dict[str, Any]:
    """One list per column, with the trials in the order in which they ended."""
    ranks = {record.trial_id: rank for rank, record in enumerate(ranking, start=1)}

    def columns(
        row_of: Callable[[TrialRecord], Mapping[str, object]],
    ) -> dict[str, list[object]]:
        rows = [row_of(record) for record in records]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    return {
        "trial_id": [record.trial_id for record in records],
        "status": [record.status for record in records],
        "score": [record.score for record in records],
        "rank": [ranks.get(record.trial_id) for record in records],
        "best_so_far": best_so_far(search, records),
        "rung": [record.rung for record in records],
        "started_ms": [record.started_ms for record in records],
        "ended_ms": [record.ended_ms for record in records],
        "seconds": [record.seconds for record in records],
        "worker": [_placement(record, "worker") for record in records],
        "node": [_placement(record, "node") for record in records],
        "device": [_placement(record, "device") for record in records],
        "queue_seconds": [_placement(record, "queue_seconds") for record in records],
        "idle_seconds": [_placement(record, "idle_seconds") for record in records],
        "run_id": [
            load_run_id(ProjectLayout.of(search.directory).trial(record.trial_id).folder)
            for record in records
        ],
        "parents": [list(record.parents) for record in records],
        "error": [record.error for record in records],
        "values": columns(lambda record: configuration(record.values)),
        "metrics": columns(lambda record: record.metrics),
        "costs": columns(lambda record: record.costs),
        "proxies": columns(lambda record: record.proxies),
    }

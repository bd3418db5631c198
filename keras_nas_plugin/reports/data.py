"""A search as plain data: what a report shows, and what `--json` prints."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.names import lookup
from keras_nas_plugin.files import read_json
from keras_nas_plugin.reports.calibration import calibration
from keras_nas_plugin.reports.curves import best_so_far, random_reference
from keras_nas_plugin.reports.fronts import front, objectives_of
from keras_nas_plugin.reports.importance import importance
from keras_nas_plugin.reports.lineage import lineage
from keras_nas_plugin.reports.space import described, space_of
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.tracking.records import (
    ARCHITECTURE,
    FAILED,
    FINISHED,
    KILLED,
    SearchInfo,
    TrialRecord,
    load_records,
    load_refusals,
    load_run_id,
)
from keras_nas_plugin.tracking.retraining import Retraining

#: Counts changes of the layout that readers of the JSON would notice.
FORMAT = 1
_SEARCH_FIELDS = "search_id name objective direction strategy max_trials".split()
# Examples of trials per cause of failure.
_EXAMPLES = 5


def report_data(directory: str | os.PathLike) -> dict[str, Any]:
    """Everything that a report shows, from the records on disk.

    Args:
        directory: The project folder of a search, running or ended.

    Returns:
        JSON-able, without NaN and infinities (they are None); `docs/report.md` lists what
        is in it. The same records give the same data.

    Raises:
        StateError: The folder holds no search, or a file of it cannot be read.
    """
    search = SearchInfo.load(directory)
    if search is None:
        raise StateError(
            "`directory` needs the project folder of a search, with search.json in it; "
            f"received {str(directory)!r}"
        )
    records = sorted(load_records(directory), key=lambda one: (one.ended_ms, one.trial_id))
    best = ranked(search, records)
    data = {
        "format": FORMAT,
        "search": {**_search(search), "space": described(search, records)},
        "score": _score_name(search, best),
        "counts": {
            status.lower(): sum(one.status == status for one in records)
            for status in (FINISHED, FAILED, KILLED)
        },
        "best": _winner(search, best[0]) if best else None,
        "retrained": _retrained(directory),
        "random_reference": random_reference(search, records),
        "front": front(search, best),
        "importance": _importance(search, records, best),
        "lineage": lineage(search, records, best[0] if best else None),
        "costs": costs(records, best[0] if best else None),
        "calibration": calibration(search, records),
        "failures": failures(records),
        "infeasible": dataclasses.asdict(load_refusals(directory)),
        "trials": _trials(search, records, best),
    }
    return finite(data)


def finite(data: Any) -> Any:
    """The same with lists for tuples, and None for NaN and infinities: JSON has neither."""
    if isinstance(data, Mapping):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def ranked(search: SearchInfo, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Ranked trials from the best to the worst; of equals the one that ended first."""
    standings = {one.trial_id: search.standing(one) for one in records}
    known = [one for one in records if standings[one.trial_id] is not None]
    return sorted(known, key=lambda one: standings[one.trial_id])


def _search(search: SearchInfo) -> dict[str, Any]:
    facts = dataclasses.asdict(search)
    wanted = [*_SEARCH_FIELDS, "settings", "environment", "datasets", "constraints"]
    objectives = [{"name": name, "direction": way} for name, way in objectives_of(search)]
    return {**{name: facts[name] for name in wanted}, "objectives": objectives}


def _score_name(search: SearchInfo, best: Sequence[TrialRecord]) -> str:
    """What the score is: the objective, the first of several, or KerasTuner's sum of them."""
    several = objectives_of(search)
    first = several[0][0]
    if len(several) == 1 or not best:
        return first
    value = lookup({**best[0].costs, **best[0].metrics}, first)
    return first if value == best[0].score else "signed sum of the objectives"


def _winner(search: SearchInfo, record: TrialRecord) -> dict[str, Any]:
    folder = Path(search.directory) / f"trial_{record.trial_id}"
    return {
        "trial_id": record.trial_id,
        "score": record.score,
        "values": configuration(record.values),
        "metrics": dict(record.metrics),
        "costs": dict(record.costs),
        "best_epoch": record.best_step + 1,
        "seconds": record.seconds,
        "run_id": load_run_id(folder),
        "architecture": _architecture(folder),
    }


def _retrained(directory: str | os.PathLike) -> dict[str, Any] | None:
    found = Retraining.load(directory)
    return None if found is None else found.summary()


def _architecture(folder: Path) -> dict[str, Any] | None:
    """The winner's graph as `Architecture.to_json` wrote it; None for other hypermodels."""
    try:
        return read_json(folder / ARCHITECTURE)
    except FileNotFoundError:
        return None


def _importance(
    search: SearchInfo, records: Sequence[TrialRecord], best: Sequence[TrialRecord]
) -> dict[str, Any]:
    """Of trials that were trained for equally long: as long as most of them."""
    lengths = collections.Counter(one.length for one in best)
    most = max(lengths, key=lambda length: (lengths[length], -length), default=0)
    chosen = [one for one in best if one.length == most]
    found = importance(
        space_of(search, records),
        [one.values for one in chosen],
        [one.score for one in chosen],
        maximise=search.direction == "max",
    )
    return {**found, "epochs": most if len(lengths) > 1 else None}


def costs(records: Sequence[TrialRecord], best: TrialRecord | None) -> list[dict[str, Any]]:
    """What the finished models cost: the winner's, the median and both ends; and all of it."""
    finished = [one for one in records if one.status == FINISHED]
    rows = [{**one.costs, "seconds": one.seconds} for one in finished]
    winner = {} if best is None else {**best.costs, "seconds": best.seconds}
    table = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        table.append(
            {
                "name": name,
                "best": winner.get(name),
                "median": statistics.median(values),
                "smallest": min(values),
                "largest": max(values),
                "total": math.fsum(values) if name.endswith("seconds") else None,
                "trials": len(values),
            }
        )
    return table


def failures(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Failed trials by cause: errors that differ in their numbers only are one cause."""
    causes: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status == FAILED:
            error = record.error or "unknown"
            causes.setdefault(re.sub(r"\d+", "#", error), []).append(record)
    table = [
        {
            "error": group[0].error or "unknown",
            "count": len(group),
            "trial_ids": [one.trial_id for one in group[:_EXAMPLES]],
        }
        for group in causes.values()
    ]
    return sorted(table, key=lambda one: -one["count"])


def _trials(
    search: SearchInfo, records: Sequence[TrialRecord], best: Sequence[TrialRecord]
) -> dict[str, Any]:
    """One list per column, trials in the order in which they ended."""
    places = {one.trial_id: place for place, one in enumerate(best, start=1)}

    def columns(each: Callable[[TrialRecord], Mapping[str, Any]]) -> dict[str, list[Any]]:
        rows = [each(one) for one in records]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    return {
        "trial_id": [one.trial_id for one in records],
        "status": [one.status for one in records],
        "score": [one.score for one in records],
        "rank": [places.get(one.trial_id) for one in records],
        "best_so_far": best_so_far(search, records),
        "rung": [one.rung for one in records],
        "seconds": [one.seconds for one in records],
        "parents": [list(one.parents) for one in records],
        "error": [one.error for one in records],
        "values": columns(lambda one: configuration(one.values)),
        "metrics": columns(lambda one: one.metrics),
        "costs": columns(lambda one: one.costs),
        "proxies": columns(lambda one: one.proxies),
    }

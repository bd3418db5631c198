"""The trials of a search as a table of pandas."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord, load_records

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    *("status", "score", "rank", "best_epoch", "started", "ended", "seconds"),
    *("worker", "node", "device", "queue_seconds", "error"),
)


def trials_dataframe(directory: str | os.PathLike[str]) -> pd.DataFrame:
    """The trials of a project folder that ended, one row each, in the order of their ids.

    Columns: ``status``, ``score``, ``rank`` (1 is the best; missing for trials that are not
    ranked), ``best_epoch`` (from 1), ``started`` and ``ended`` (UTC), ``seconds``, ``worker``,
    ``node``, ``device``, ``queue_seconds`` (see `Placement`), ``error``, then
    ``values.<hyperparameter>``, ``metrics.<metric>``, ``costs.<cost>`` and ``proxies.<proxy>``. A
    hyperparameter that is inactive in a trial is missing there. The index is the trial's id.

    Args:
        directory: The project folder; a folder without a search gives no rows.
    """
    search = SearchInfo.load(directory)
    return records_dataframe(search, load_records(directory) if search else ())


def records_dataframe(search: SearchInfo | None, records: Iterable[TrialRecord]) -> pd.DataFrame:
    """See `trials_dataframe`."""
    # Takes half a second to import.
    import pandas as pd

    trials = list(records)
    ranks: dict[str, int] = {}
    if search is not None:
        order = ranked(search, trials)
        ranks = {record.trial_id: rank for rank, record in enumerate(order, start=1)}
    rows = [_row(record, ranks.get(record.trial_id)) for record in trials]
    groups = ("values", "metrics", "costs", "proxies")
    names = [
        name
        for group in groups
        for name in dict.fromkeys(
            name for row in rows for name in row if name.startswith(f"{group}.")
        )
    ]
    index = pd.Index([record.trial_id for record in trials], name="trial_id", dtype="object")
    frame = pd.DataFrame(rows, index=index, columns=[*_COLUMNS, *names])
    for name in ("started", "ended"):
        frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True)
    return frame.astype({"rank": "Int64", "best_epoch": "Int64"})


def _row(record: TrialRecord, rank: int | None) -> dict[str, Any]:
    finished = record.score is not None
    placement = {} if record.placement is None else dataclasses.asdict(record.placement)
    return {
        "status": record.status,
        "score": record.score,
        "rank": rank,
        "best_epoch": record.best_step + 1 if finished else None,
        "started": record.started_ms,
        "ended": record.ended_ms,
        "seconds": record.seconds,
        **{name: placement.get(name) for name in ("worker", "node", "device", "queue_seconds")},
        "error": record.error,
        **{f"values.{name}": value for name, value in record.values.items()},
        **{f"metrics.{name}": value for name, value in record.metrics.items()},
        **{f"costs.{name}": value for name, value in record.costs.items()},
        **{f"proxies.{name}": value for name, value in record.proxies.items()},
    }

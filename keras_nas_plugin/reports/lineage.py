"""The lineage of the best trial: its ancestors, and what each step changed and gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.space.fidelity import configuration, fidelity_of


def lineage(
    search: SearchInfo, records: Sequence[TrialRecord], best: TrialRecord | None
) -> dict[str, Any]:
    """The line of descent from an initial trial to the best one.

    If a trial has two parents, the line follows the better one. Each step lists the decisions that
    differ from that parent, and whether their values come from the other parent or from a
    mutation. A promotion of a multi-fidelity search is also a step; it changes only the number of
    epochs. The line ends at ancestors that are not on disk, such as trials of an earlier search,
    whose ids are given.

    Args:
        search: The search, for its direction.
        records: All trials of the search.
        best: The trial at the end of the line; None for a search without ranked trials.

    Returns:
        As JSON types: ``steps`` from the oldest ancestor to the best trial, and a ``note`` or
        None.
    """
    if best is None:
        return {"steps": [], "note": "There is no best trial yet."}
    by_id = {record.trial_id: record for record in records}
    steps: list[dict[str, Any]] = []
    current: TrialRecord | None = best
    visited: set[str] = set()
    while current is not None and current.trial_id not in visited:
        visited.add(current.trial_id)
        ids = parents_of(current)
        parents = [by_id[parent_id] for parent_id in ids if parent_id in by_id]
        parents.sort(key=lambda record: _parent_key(search, record))
        steps.append(_step(search, current, ids, parents))
        current = parents[0] if parents else None
    steps.reverse()
    note = None
    if len(steps) == 1 and not steps[0]["parents"]:
        note = "The best trial was not derived from another trial, or its parents are unknown."
    return {"steps": steps, "note": note}


def parents_of(record: TrialRecord) -> tuple[str, ...]:
    """Ids of the trial whose training was continued, or of the parents of a trial's values."""
    fidelity = fidelity_of(record.values)
    if fidelity is not None and fidelity.parent is not None:
        return (fidelity.parent,)
    return record.parents


def _parent_key(search: SearchInfo, record: TrialRecord) -> tuple[bool, float]:
    """Sorts parents by score, those without a score last; constraints do not matter here."""
    if record.score is None:
        return True, 0.0
    return False, -record.score if search.direction == "max" else record.score


def _step(
    search: SearchInfo, record: TrialRecord, ids: Sequence[str], parents: Sequence[TrialRecord]
) -> dict[str, Any]:
    fidelity = fidelity_of(record.values)
    kind = "start"
    if ids:
        continued = fidelity is not None and fidelity.parent is not None
        kind = "promotion" if continued else "crossover" if len(ids) > 1 else "mutation"
    base = parents[0] if parents else None
    gain = None
    if base is not None and base.score is not None and record.score is not None:
        gain = (
            record.score - base.score if search.direction == "max" else base.score - record.score
        )
    return {
        "trial_id": record.trial_id,
        "kind": kind,
        "score": record.score,
        "parents": list(ids),
        "from": None if base is None else base.trial_id,
        "gain": gain,
        "changes": [] if base is None else _changes(record, base, parents[1:]),
    }


def _changes(
    record: TrialRecord, base: TrialRecord, other_parents: Sequence[TrialRecord]
) -> list[dict[str, Any]]:
    """Decisions in which a trial differs from a parent; None stands for inactive."""
    after, before = configuration(record.values), configuration(base.values)
    changes: list[dict[str, Any]] = []
    for name in dict.fromkeys([*before, *after]):
        if name in after and name in before and after[name] == before[name]:
            continue
        donors = [
            parent.trial_id for parent in other_parents if _agree_on(name, parent.values, after)
        ]
        changes.append(
            {
                "decision": name,
                "before": before.get(name),
                "after": after.get(name),
                "source": donors[0] if donors else "mutation",
            }
        )
    return changes


def _agree_on(name: str, first: Mapping[str, object], second: Mapping[str, object]) -> bool:
    """Whether a decision is inactive in both configurations or has the same value."""
    return (name in first) == (name in second) and first.get(name) == second.get(name)

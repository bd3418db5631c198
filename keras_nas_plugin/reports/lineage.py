"""How the winner came about: its ancestors, and what each step changed and brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord


def lineage(
    search: SearchInfo, records: Sequence[TrialRecord], winner: TrialRecord | None
) -> dict[str, Any]:
    """The line from an initial trial to the winner.

    Of two parents the line goes on with the better one; at each step the decisions that
    differ from it are listed, each with where its value came from: the other parent, or a
    mutation. A promotion of a multi-fidelity search is a step too, which changes nothing but
    how long was trained. Of ancestors that are not on disk (an earlier search's) the line
    says the id and ends.

    Args:
        search: Says which scores are better.
        records: All trials of the search.
        winner: Where the line ends; None for a search without one.

    Returns:
        JSON-able: ``steps`` from the oldest ancestor to the winner, and a ``note`` or None.
    """
    if winner is None:
        return {"steps": [], "note": "There is no winner yet."}
    known = {record.trial_id: record for record in records}
    steps: list[dict[str, Any]] = []
    here: TrialRecord | None = winner
    seen: set[str] = set()
    while here is not None and here.trial_id not in seen:
        seen.add(here.trial_id)
        ids = parents_of(here)
        parents = sorted(
            (known[one] for one in ids if one in known), key=lambda one: _worth(search, one)
        )
        steps.append(_step(search, here, ids, parents))
        here = parents[0] if parents else None
    steps.reverse()
    note = None
    if len(steps) == 1 and not steps[0]["parents"]:
        note = "The winner was not derived from another trial, or its parents were not noted."
    return {"steps": steps, "note": note}


def parents_of(record: TrialRecord) -> tuple[str, ...]:
    """Ids of the trials that one came from: whose training it continued, else whose values."""
    fidelity = fidelity_of(record.values)
    if fidelity is not None and fidelity.parent is not None:
        return (fidelity.parent,)
    return record.parents


def _worth(search: SearchInfo, record: TrialRecord) -> tuple[bool, float]:
    """Sorts parents, the best first."""
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
    record: TrialRecord, base: TrialRecord, others: Sequence[TrialRecord]
) -> list[dict[str, Any]]:
    """Decisions in which a trial differs from a parent; None stands for inactive."""
    now, before = configuration(record.values), configuration(base.values)
    changed = []
    for name in dict.fromkeys([*before, *now]):
        if name in now and name in before and now[name] == before[name]:
            continue
        donors = [one.trial_id for one in others if _has(one.values, name, now)]
        changed.append(
            {
                "decision": name,
                "before": before.get(name),
                "after": now.get(name),
                "source": donors[0] if donors else "mutation",
            }
        )
    return changed


def _has(values: Mapping[str, Any], name: str, wanted: Mapping[str, Any]) -> bool:
    return (name in values) == (name in wanted) and values.get(name) == wanted.get(name)

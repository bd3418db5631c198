"""The order of trials from the best to the worst, shared by everything that ranks records."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from keras_nas_plugin.evaluation.constraints import is_feasible
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, TrialRecord


class RankKey(NamedTuple):
    """A sort key that orders trials from the best to the worst.

    Scores of longer trainings rank before those of shorter ones, as in a multi-fidelity search;
    equal scores rank in the order in which the trials ended, as in the oracle's ledger.

    Attributes:
        minus_epochs: Total epochs in a multi-fidelity search, negated.
        minus_score: The oriented score, negated.
        ended_ms: End of the trial.
        id_length: Ids are padded with zeros; those of an enlarged search are longer.
        trial_id: The trial.
    """

    minus_epochs: int
    minus_score: float
    ended_ms: int
    id_length: int
    trial_id: str

    @property
    def oriented_score(self) -> float:
        """The score; negated if the search minimises it, so that larger is better."""
        return -self.minus_score

    @property
    def quality(self) -> tuple[int, float]:
        """The key without tie-breakers: equal for trials that are equally good."""
        return self.minus_epochs, self.minus_score


def violates_constraints(search: SearchInfo, record: TrialRecord) -> bool:
    """Whether a finished trial violates a constraint, which excludes it from the ranking.

    See `keras_nas_plugin.evaluation.constraints` for metrics that were not reported.
    """
    return not is_feasible(search.limits, record.measurements)


def records_that_count(search: SearchInfo, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that belong to the search as its program is now, in the same order.

    Args:
        search: The search.
        records: Its trials; those that a change of the program excludes are omitted.
    """
    return [record for record in records if record.trial_id not in search.exclusions]


def rank_key(search: SearchInfo, record: TrialRecord) -> RankKey | None:
    """Sort key of a trial.

    Only finished trials that count, with a finite score and all constraints satisfied, are ranked.

    Args:
        search: The search, for its direction and constraints.
        record: The trial.

    Returns:
        The key; None for a trial that is not ranked.
    """
    score = record.score
    if record.status != FINISHED or score is None or not math.isfinite(score):
        return None
    if record.trial_id in search.exclusions or violates_constraints(search, record):
        return None
    return RankKey(
        minus_epochs=-record.length,
        minus_score=-score if search.direction == "max" else score,
        ended_ms=record.ended_ms,
        id_length=len(record.trial_id),
        trial_id=record.trial_id,
    )


def ranked(search: SearchInfo, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Sort the ranked trials from the best to the worst; see `RankKey` for ties.

    Args:
        search: The search, for its direction and constraints.
        records: Its trials; those that are not ranked are omitted.
    """
    keys = ((rank_key(search, record), record) for record in records)
    pairs = [(key, record) for key, record in keys if key is not None]
    return [record for _, record in sorted(pairs, key=lambda pair: pair[0])]

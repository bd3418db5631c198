"""Statuses and best score of the trials of a search."""

from __future__ import annotations


def statuses(tuner):
    return [trial.status for _, trial in sorted(tuner.oracle.trials.items())]


def best_score(tuner):
    return tuner.oracle.get_best_trials(1)[0].score

"""Comparison of several searches: everything that its page shows and that `--json` prints."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import json_value
from keras_nas_plugin.records.ranking import rank_key, ranked, records_that_count
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FAILED, FINISHED, KILLED, TrialRecord, load_records
from keras_nas_plugin.reports.curves import best_so_far
from keras_nas_plugin.reports.fronts import front
from keras_nas_plugin.space.fidelity import configuration

#: Incremented when the layout changes in a way that readers of the JSON would notice.
FORMAT = 1
#: Level of the tests, after Holm's correction for the number of pairs.
ALPHA = 0.05
# Points of a curve over seconds; resamples of a permutation test that is not exact.
_POINTS, _RESAMPLES = 100, 9_999
# A gap between trials is a pause of the search if it is longer than this and than every trial.
_PAUSE_SECONDS = 60.0
# Settings in which repetitions of a search may differ.
_OF_A_REPETITION = ("seed", "budget_seconds")


@dataclasses.dataclass(frozen=True)
class _Search:
    """A search with the trials that count, in the order in which they ended."""

    info: SearchInfo
    records: tuple[TrialRecord, ...]

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> _Search:
        info = SearchInfo.load(directory)
        if info is None:
            raise StateError(
                "each of `directories` must be the project folder of a search, which contains "
                f"search.json; got {str(directory)!r}"
            )
        counted = records_that_count(info, load_records(directory))
        ended = (record for record in counted if record.status != KILLED)
        return cls(info, tuple(sorted(ended, key=lambda record: record.ended_ms)))

    @property
    def sign(self) -> float:
        return 1.0 if self.info.direction == "max" else -1.0

    def incumbents(self) -> np.ndarray:
        """The best score after each trial, failed or not, shape ``[trials]``; NaN before any."""
        scores, best = [], np.nan
        for score in best_so_far(self.info, self.records):
            best = best if score is None else score  # a failed trial leaves the best as it is
            scores.append(best)
        return np.array(scores, dtype=float)

    def seconds(self) -> np.ndarray:
        """Seconds of the search until the end of each trial, without pauses; ``[trials]``."""
        if not self.records:
            return np.empty(0)
        longest = max(record.seconds for record in self.records)
        pause = max(longest, _PAUSE_SECONDS)
        started = np.array(sorted(record.started_ms for record in self.records)) / 1e3
        ended = np.array([record.ended_ms for record in self.records]) / 1e3
        skipped = np.zeros(len(ended))
        busy_until = started[0]
        by_start = sorted(self.records, key=lambda record: record.started_ms)
        for record in by_start:
            gap = record.started_ms / 1e3 - busy_until
            if gap > pause:
                skipped[ended >= record.started_ms / 1e3] += gap
            busy_until = max(busy_until, record.ended_ms / 1e3)
        return ended - started[0] - skipped


def comparison_data(directories: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Compare searches with the same objective.

    Searches that differ only in their seed (and budget) form a group, whose curves are means over
    its searches. Groups are compared at the number of trials that every search has completed.

    Args:
        directories: Project folders of at least two searches, running or finished.

    Returns:
        JSON types; `docs/report.md` describes the keys.

    Raises:
        StateError: There are fewer than two folders, one of them contains no search, or the
            searches have different objectives.
    """
    if len(directories) < 2:
        raise StateError(f"`directories` must be at least two folders; got {len(directories)}")
    searches = [_Search.load(directory) for directory in directories]
    objectives = {tuple(search.info.directions.items()) for search in searches}
    if len(objectives) > 1:
        each = "; ".join(
            f"{search.info.name}: "
            + ", ".join(
                f"{name} ({direction})" for name, direction in search.info.directions.items()
            )
            for search in searches
        )
        raise StateError(f"`directories` must be searches with the same objective; got {each}")
    labels = _labels([search.info for search in searches])
    groups = _groups(searches)
    trials = min(len(search.records) for search in searches)
    curves = [_group(searches, labels, members) for members in groups]
    data = {
        "format": FORMAT,
        "objective": searches[0].info.objective,
        "direction": searches[0].info.direction,
        "searches": [
            _described(search, label) for search, label in zip(searches, labels, strict=True)
        ],
        "groups": curves,
        "tests": _tests(searches, groups, [curve["label"] for curve in curves], trials),
        "compared_trials": trials,
        "common": _common(searches),
        "differences": _differences([search.info for search in searches], labels),
    }
    return json_value(data)


def _labels(infos: Sequence[SearchInfo]) -> list[str]:
    """Names of the searches; of equal names, with their folders."""
    names = [info.name for info in infos]
    return [
        info.name if names.count(info.name) == 1 else f"{info.name} ({info.directory})"
        for info in infos
    ]


def _groups(searches: Sequence[_Search]) -> list[list[int]]:
    """Indices of the searches that are repetitions of each other."""
    groups: dict[str, list[int]] = {}
    for index, search in enumerate(searches):
        info = search.info
        settings = {
            name: value for name, value in info.settings.items() if name not in _OF_A_REPETITION
        }
        key = json.dumps([info.strategy, info.space, settings, info.constraints], default=str)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _described(search: _Search, label: str) -> dict[str, Any]:
    info, ranking = search.info, ranked(search.info, search.records)
    seconds = search.seconds()
    return {
        "label": label,
        "name": info.name,
        "directory": info.directory,
        "search_id": info.search_id,
        "strategy": info.strategy,
        "seed": info.settings.get("seed"),
        "max_trials": info.max_trials,
        "finished": sum(record.status == FINISHED for record in search.records),
        "failed": sum(record.status == FAILED for record in search.records),
        "seconds": float(seconds.max()) if len(seconds) else 0.0,
        "best": None
        if not ranking
        else {
            "trial_id": ranking[0].trial_id,
            "score": ranking[0].score,
            "values": configuration(ranking[0].values),
            "costs": dict(ranking[0].costs),
        },
        "front": front(info, ranking),
    }


def _group(
    searches: Sequence[_Search], labels: Sequence[str], members: Sequence[int]
) -> dict[str, Any]:
    """A group with its best score so far over trials and over seconds."""
    chosen = [searches[index] for index in members]
    incumbents = [search.incumbents() for search in chosen]
    label = labels[members[0]]
    if len(members) > 1:
        label = f"{chosen[0].info.strategy}, {len(members)} searches ({label}, ...)"
    trials = min(map(len, incumbents))
    by_trial = np.array([scores[:trials] for scores in incumbents]).reshape(len(members), trials)
    return {
        "label": label,
        "searches": list(members),
        "over_trials": _curve(np.arange(1, trials + 1), by_trial),
        "over_seconds": _over_seconds(chosen, incumbents),
    }


def _over_seconds(searches: Sequence[_Search], incumbents: Sequence[np.ndarray]) -> dict[str, Any]:
    """The curves at common points in time, up to the end of the shortest search."""
    ends = [search.seconds() for search in searches]
    if not all(map(len, ends)):
        return _curve(np.empty(0), np.empty((len(searches), 0)))
    last = min(float(seconds.max()) for seconds in ends)
    if len(searches) == 1:
        points = np.unique(ends[0])
    else:
        first = max(float(seconds.min()) for seconds in ends)
        points = np.linspace(min(first, last), last, _POINTS)
    rows = []
    for seconds, scores in zip(ends, incumbents, strict=True):
        position = np.searchsorted(seconds, points, side="right") - 1
        rows.append(np.where(position < 0, np.nan, scores[np.maximum(position, 0)]))
    return _curve(points, np.array(rows))


def _curve(points: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Mean, minimum and maximum over searches; points at which a search has no score are left out.

    Args:
        points: Numbers of trials or seconds, shape ``[points]``.
        scores: The best score so far, shape ``[searches, points]``.
    """
    complete = np.isfinite(scores).all(axis=0)
    points, scores = points[complete], scores[:, complete]
    return {
        "at": points.tolist(),
        "mean": scores.mean(axis=0).tolist(),
        "low": scores.min(axis=0).tolist() if scores.size else [],
        "high": scores.max(axis=0).tolist() if scores.size else [],
    }


def _tests(
    searches: Sequence[_Search],
    groups: Sequence[Sequence[int]],
    labels: Sequence[str],
    trials: int,
) -> list[dict[str, Any]]:
    """A test for each pair of groups, with p-values corrected by Holm's method."""
    tests = [
        {
            "first": labels[first],
            "second": labels[second],
            **_test(
                [searches[index] for index in groups[first]],
                [searches[index] for index in groups[second]],
                trials,
            ),
        }
        for first, second in itertools.combinations(range(len(groups)), 2)
    ]
    tested = sorted((test for test in tests if test["p"] is not None), key=lambda test: test["p"])
    largest = 0.0
    for rank, test in enumerate(tested):
        largest = max(largest, min(1.0, test["p"] * (len(tested) - rank)))
        test["p_corrected"] = largest
    for test in tests:
        corrected = test.setdefault("p_corrected", None)
        significant = corrected is not None and corrected <= ALPHA
        better = None
        if significant and test["difference"]:
            better = test["first"] if test["difference"] > 0 else test["second"]
        test["better"] = better
    return tests


def _test(first: Sequence[_Search], second: Sequence[_Search], trials: int) -> dict[str, Any]:
    """Compare two groups after a number of trials.

    With at least two searches each, a permutation test of the difference of the mean best scores:
    it says which group of searches is better. Otherwise the Mann-Whitney U test of the scores of
    the single trials: it says in which search a trial is better, not which search ends better.

    Returns:
        ``test``; ``difference`` of the best scores, positive where the first is better; ``p``,
        None where the scores do not suffice; ``smallest_p`` that is possible.
    """
    from scipy import stats

    sign = first[0].sign
    best = [
        np.array([sign * search.incumbents()[trials - 1] for search in group])
        if trials
        else np.array([np.nan])
        for group in (first, second)
    ]
    difference = float(np.mean(best[0]) - np.mean(best[1]))
    result: dict[str, Any] = {"difference": difference, "p": None, "smallest_p": None}
    if min(len(first), len(second)) > 1:
        result["test"] = "permutation"
        if np.isfinite(difference):
            test = stats.permutation_test(
                best,
                lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
                vectorized=True,
                n_resamples=_RESAMPLES,
                rng=np.random.default_rng(0),
            )
            result["p"] = float(test.pvalue)
            result["smallest_p"] = 2 / math.comb(len(first) + len(second), len(first))
        return result
    result["test"] = "Mann-Whitney"
    scores = [np.array(_scores(group, trials)) for group in (first, second)]
    if min(map(len, scores)) > 1:
        result["p"] = float(stats.mannwhitneyu(scores[0], scores[1]).pvalue)
        result["difference"] = float(np.median(scores[0]) - np.median(scores[1]))
    return result


def _scores(group: Sequence[_Search], trials: int) -> list[float]:
    """Oriented scores of the first trials of a group, without those that are not ranked."""
    keys = (
        rank_key(search.info, record) for search in group for record in search.records[:trials]
    )
    return [key.oriented_score for key in keys if key is not None]


def _common(searches: Sequence[_Search]) -> dict[str, Any]:
    """Configurations that at least two searches trained for the same number of epochs."""
    scores: dict[str, dict[int, TrialRecord]] = {}
    for index, search in enumerate(searches):
        epochs = search.info.settings.get("epochs")
        for record in ranked(search.info, search.records):
            values = configuration(record.values)
            length = record.length or epochs
            key = json.dumps([sorted(values.items()), length], default=str)
            scores.setdefault(key, {}).setdefault(index, record)
    shared = [trials for trials in scores.values() if len(trials) > 1]
    sign = searches[0].sign

    def quality(trials: dict[int, TrialRecord]) -> float:
        return -float(np.mean([sign * (record.score or 0.0) for record in trials.values()]))

    return {
        "configurations": len(scores),
        "shared": [
            {
                "values": configuration(next(iter(trials.values())).values),
                "trial_ids": [
                    trials[index].trial_id if index in trials else None
                    for index in range(len(searches))
                ],
                "scores": [
                    trials[index].score if index in trials else None
                    for index in range(len(searches))
                ],
            }
            for trials in sorted(shared, key=quality)
        ],
    }


def _differences(infos: Sequence[SearchInfo], labels: Sequence[str]) -> list[str]:
    """What makes scores of these searches hard to compare, one sentence per kind."""
    kinds = {
        "data": lambda info: [(d.context, d.digest) for d in info.datasets],
        "spaces": lambda info: info.space,
        "epochs": lambda info: info.settings.get("epochs"),
        "constraints": lambda info: info.constraints,
        "precisions": lambda info: info.environment.get("precision"),
        "devices": lambda info: info.environment.get("device"),
    }
    sentences = []
    for kind, read in kinds.items():
        values = [json.dumps(read(info), default=str) for info in infos]
        if len(set(values)) > 1:
            differing = [
                label for label, value in zip(labels, values, strict=True) if value != values[0]
            ]
            sentences.append(f"{labels[0]} and {', '.join(differing)} have different {kind}.")
    return sentences

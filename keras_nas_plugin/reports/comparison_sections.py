"""The sections of a comparison of searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.reports import comparison_figures as figures
from keras_nas_plugin.reports.comparison import ALPHA
from keras_nas_plugin.reports.elements import Section, number, table
from keras_nas_plugin.reports.svg import to_svg
from keras_nas_plugin.wording import counted

Data = Mapping[str, Any]


def verdict(data: Data) -> str:
    """Which search is better, in a sentence or two.

    Args:
        data: The result of `comparison_data`.
    """
    trials = counted(data["compared_trials"], "trial")
    if not data["tests"]:
        return (
            f"The searches are repetitions of one search with other seeds; each completed at "
            f"least {trials}."
        )
    sentences = [_verdict(test, trials) for test in data["tests"]]
    return " ".join([*sentences, *(f"Note: {note}" for note in data["differences"])])


def _verdict(test: Data, trials: str) -> str:
    pair = f"{test['first']} and {test['second']}"
    if test["p"] is None:
        return f"{pair} cannot be compared after {trials}: too few of them have a score."
    p = number(test["p_corrected"])
    if test["test"] == "permutation":
        what = f"mean best score after {trials}"
        note = ""
        if test["smallest_p"] > ALPHA:
            note = f" With so few searches, no p-value is below {number(test['smallest_p'])}."
    else:
        what = f"median score of the first {trials}"
        note = (
            " This compares single trials; to compare what searches reach, repeat each with "
            "several seeds."
        )
    if test["better"] is None:
        return f"The {what} does not differ significantly between {pair} (p = {p}).{note}"
    worse = test["second"] if test["better"] == test["first"] else test["first"]
    gain = number(abs(test["difference"]))
    return f"{test['better']} is better than {worse} by {gain} in the {what} (p = {p}).{note}"


def sections(data: Data) -> list[Section]:
    """All sections of a comparison.

    Must be called inside `svg.drawing`, which sets the style of the figures.

    Args:
        data: The result of `comparison_data`.
    """
    return [
        _searches(data),
        _incumbents(data, "trials", "Best score so far, over trials", "completed trials"),
        _incumbents(data, "seconds", "Best score so far, over seconds", "seconds"),
        _fronts(data),
        _tests(data),
        _common(data),
    ]


def _searches(data: Data) -> Section:
    rows = [
        (
            search["label"],
            search["strategy"],
            search["seed"],
            search["finished"],
            search["failed"],
            search["seconds"],
            None if search["best"] is None else search["best"]["score"],
            None if search["best"] is None else search["best"]["trial_id"],
            None if search["best"] is None else search["best"]["costs"].get("parameters"),
        )
        for search in data["searches"]
    ]
    heading = ["search", "strategy", "seed", "finished", "failed", "seconds"]
    heading += [f"best {data['objective']}", "best trial", "parameters"]
    text = "Seconds are wall-clock time from the first trial on, without pauses."
    return Section("searches", "Searches", text, None, [table("Searches", heading, rows)])


def _incumbents(data: Data, unit: str, title: str, label: str) -> Section:
    over = f"over_{unit}"
    text = "The best score of the trials that had ended."
    if any(len(group["searches"]) > 1 for group in data["groups"]):
        text += (
            " Searches that differ only in their seed are one line: their mean, with a band from "
            "the worst to the best of them."
        )
    if not any(group[over]["at"] for group in data["groups"]):
        return Section(unit, title, "No trial has a score.")
    rows = [
        (group["label"], at, *(group[over][key][index] for key in ("mean", "low", "high")))
        for group in data["groups"]
        for index, at in _changes(group[over])
    ]
    heading = ["search", label, "mean", "minimum", "maximum"]
    svg = to_svg(figures.draw_incumbents(data, over, label), unit, title, text)
    return Section(unit, title, text, svg, [table("Improvements", heading, rows)])


def _changes(curve: Data) -> list[tuple[int, float]]:
    """Index and position of the points at which the mean changes."""
    means: Sequence[float] = curve["mean"]
    return [
        (index, at)
        for index, at in enumerate(curve["at"])
        if index == 0 or means[index] != means[index - 1]
    ]


def _fronts(data: Data) -> Section:
    title, axes = "Pareto fronts", figures.fronts_axes(data)
    if not axes:
        return Section("fronts", title, "The searches have no objectives and costs in common.")
    names = [axis["name"] for axis in axes]
    text = f"The trials of each search that are not dominated in {' and '.join(names)}."
    rows = [
        (search["label"], point["trial_id"], *point["values"][:2])
        for search in data["searches"]
        for point in search["front"]["points"]
        if point["front"]
    ]
    svg = to_svg(figures.draw_fronts(data), "fronts", title, text)
    return Section("fronts", title, text, svg, [table(title, ["search", "trial", *names], rows)])


def _tests(data: Data) -> Section:
    text = (
        "With at least two searches on each side: a permutation test of the difference of the "
        "mean best scores. Otherwise: the Mann-Whitney U test of the scores of single trials. "
        "Corrected: by Holm's method for the number of pairs. A positive difference favours the "
        "first search."
    )
    rows = [
        (
            test["first"],
            test["second"],
            test["test"],
            test["difference"],
            test["p"],
            test["p_corrected"],
        )
        for test in data["tests"]
    ]
    heading = ["first", "second", "test", "difference", "p", "p, corrected"]
    tables = [table("Pairs", heading, rows)] if rows else []
    return Section("tests", "Which is better", verdict(data) + " " + text, None, tables)


def _common(data: Data) -> Section:
    shared, title = data["common"]["shared"], "Configurations in common"
    count = counted(data["common"]["configurations"], "configuration")
    text = (
        f"Of {count}, {len(shared)} {'was' if len(shared) == 1 else 'were'} trained by more than "
        "one search."
    )
    rows = [
        (
            ", ".join(f"{name}={number(value)}" for name, value in trials["values"].items()),
            *trials["scores"],
        )
        for trials in shared
    ]
    labels = [search["label"] for search in data["searches"]]
    tables = [table("Scores", ["configuration", *labels], rows)] if rows else []
    return Section("common", title, text, None, tables, wide=True)

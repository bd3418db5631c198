"""The sections of a report: text, figure and tables of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.reports import figures
from keras_nas_plugin.reports.architecture_svg import architecture_svg
from keras_nas_plugin.reports.elements import (
    Link,
    Section,
    Table,
    duration,
    number,
    percent,
    table,
    time_text,
)
from keras_nas_plugin.reports.model_diagram import embedded
from keras_nas_plugin.reports.supernet_weights import weights_section
from keras_nas_plugin.reports.svg import to_svg
from keras_nas_plugin.tracking.mlflow.links import RunPages
from keras_nas_plugin.wording import counted

# Below this out-of-bag R² the importance is not reliable.
_MIN_EXPLAINED = 0.1
# Trials in the table beside the parallel coordinates.
_BEST = 20
# Characters of a run's id that are shown when it is a link.
_RUN_ID = 8

Data = Mapping[str, Any]


def sections(data: Data) -> list[Section]:
    """All sections of a report.

    Must be called inside `svg.drawing`, which sets the style of the figures.

    Args:
        data: The result of `report_data`.
    """
    if data["best"] is None:
        return [
            *_failures(data),
            *_excluded(data),
            *([_timeline(data)] if data["trials"]["score"] else []),
            *_supernet(data),
            _search(data),
        ]
    return [
        _best_trial(data),
        _progress(data),
        _curves(data),
        _trials(data),
        _front(data),
        _importance(data),
        _parallel(data),
        _lineage(data),
        _timeline(data),
        _costs(data),
        *_calibration(data),
        *_supernet(data),
        *_failures(data),
        *_excluded(data),
        _search(data),
    ]


def _progress(data: Data) -> Section:
    reference, trials, best = data["random_reference"], data["trials"], data["best"]
    objective = data["score"]
    position = trials["rank"].index(1) + 1
    text = (
        f"The best {objective} is {number(best['score'])}, reached by trial {best['trial_id']}, "
        f"the {_ordinal(position)} of {len(trials['rank'])} completed trials."
    )
    improvements = [
        (step, trials["trial_id"][step - 1], score)
        for step, score in enumerate(trials["best_so_far"], start=1)
        if score is not None and (step == 1 or score != trials["best_so_far"][step - 2])
    ]
    columns = ["completed trials", "trial", objective]
    tables = [table("Improvements", columns, improvements)]
    if reference["note"] is not None:
        text = f"{text} {reference['note']}"
    else:
        text = (
            f"{text} The dashed line is the expected best score of random search, estimated from "
            f"the {reference['trials']} random trials of this search; it ends after that many "
            "trials. The band contains the middle 90 % of bootstrap samples."
        )
        if reference["failed"]:
            failed = counted(reference["failed"], "random trial")
            text += f" Counted as the worst score because of failure: {failed}."
        rows = zip(*(reference[key] for key in ("n", "expected", "low", "high")), strict=True)
        heading = ["trials", "expected best", "5 %", "95 %"]
        tables.append(table("Random search", heading, rows))
    title = "Best score so far"
    svg = to_svg(figures.draw_progress(data), "progress", title, text)
    return Section("progress", title, text, svg, tables)


def _curves(data: Data) -> Section:
    curves, title = data["curves"]["trials"], "Learning curves"
    metric = data["curves"]["metric"]
    if not curves:
        return Section("curves", title, f"The trials have no values of {metric} by epoch.")
    text = (
        f"{metric} by epoch of the best {counted(len(curves), 'trial')} with a curve; the thick "
        "line is the best trial."
    )
    rows = [
        (curve["trial_id"], epoch, value)
        for curve in curves
        for epoch, value in enumerate(curve["values"], start=curve["first_epoch"])
    ]
    svg = to_svg(figures.draw_curves(data), "curves", title, text)
    tables = [table(title, ["trial", "epoch", metric], rows)]
    return Section("curves", title, text, svg, tables)


def _trials(data: Data) -> Section:
    trials, title = data["trials"], "Trials"
    order = sorted(
        range(len(trials["trial_id"])),
        key=lambda index: (trials["rank"][index] is None, trials["rank"][index] or index),
    )
    rows = [
        (
            trials["trial_id"][index],
            trials["rank"][index],
            trials["status"][index].lower(),
            trials["score"][index],
            time_text(trials["started_ms"][index]),
            trials["seconds"][index],
            run_link(data, trials["run_id"][index]),
            ", ".join(
                f"{name}={number(column[index])}"
                for name, column in trials["values"].items()
                if column[index] is not None
            ),
        )
        for index in order
    ]
    heading = ["trial", "rank", "status", data["score"], "started (UTC)", "seconds", "MLflow run"]
    text = f"All {counted(len(rows), 'trial')}, best first; trials without a rank come last."
    return Section(
        "trials", title, text, None, [table(title, [*heading, "values"], rows)], wide=True
    )


def run_link(data: Data, run_id: str | None) -> Link | str | None:
    """A link to a run in MLflow, shown as the first characters of its id."""
    if run_id is None or data["run_pages"] is None:
        return run_id
    return Link(run_id[:_RUN_ID], RunPages(**data["run_pages"]).page(run_id))


def _timeline(data: Data) -> Section:
    trials, title = data["trials"], "Timeline"
    used = data["utilization"]
    share = "" if used is None else f", {used:.0%} of the workers' time"
    text = (
        f"From {time_text(data['dates']['started_ms'])} to "
        f"{time_text(data['dates']['ended_ms'])} (UTC). Each bar is a trial, each row a worker. "
        f"All trials together took {duration(sum(trials['seconds']))}{share}."
    )
    svg = to_svg(figures.draw_timeline(data), "timeline", title, text)
    return Section("timeline", title, text, svg)


def _front(data: Data) -> Section:
    front, title = data["front"], "Pareto front"
    if front["note"] is not None:
        return Section("front", title, front["note"])
    axes = [axis["name"] for axis in front["axes"]]
    optimal = [point for point in front["points"] if point["front"]]
    text = (
        f"Of {counted(len(front['points']), 'trial')}, {len(optimal)} "
        f"{'is' if len(optimal) == 1 else 'are'} not dominated in {', '.join(axes[:-1])} and "
        f"{axes[-1]}."
    )
    if len(axes) > 2:
        text += f" The figure shows {axes[0]} and {axes[1]}; the table shows all objectives."
    hidden = len(front["points"]) - int(figures.in_figure(front).sum())
    if hidden:
        text += f" Far worse in {axes[0]} than the others, and not in the figure: {hidden}."
    rows = sorted(
        ([point["trial_id"], *point["values"]] for point in optimal), key=lambda row: row[2]
    )
    svg = to_svg(figures.draw_front(data), "front", title, text)
    return Section("front", title, text, svg, [table(title, ["trial", *axes], rows)])


def _importance(data: Data) -> Section:
    importance, title = data["importance"], "Importance of the decisions"
    if importance["note"] is not None:
        return Section("importance", title, importance["note"])
    text = _reliability(importance)
    if importance["clipped"]:
        count = counted(importance["clipped"], "score")
        text += f" Clipped, because far worse than the others: {count}."
    if importance["epochs"] is not None:
        epochs = counted(importance["epochs"], "epoch")
        text += f" Based on the trials that were trained for {epochs} only."
    rows: list[Sequence[object]] = [
        (
            decision["name"],
            decision["condition"],
            percent(decision["share"]),
            percent(decision["low"]),
            percent(decision["high"]),
            _best_value(decision, data["search"]["direction"]),
        )
        for decision in importance["decisions"]
    ]
    heading = ["decision", "active if", "share", "5 %", "95 %", "best on average"]
    tables = [table("Main effects", heading, rows)]
    if importance["pairs"]:
        rows = [
            (" × ".join(pair["names"]), *(percent(pair[key]) for key in ("share", "low", "high")))
            for pair in importance["pairs"]
        ]
        tables.append(table("Interactions", ["decisions", "share", "5 %", "95 %"], rows))
    hidden = max(0, len(importance["decisions"]) - figures.BARS)
    if hidden:
        text += f" Not in the figure, but in the table: {counted(hidden, 'decision')}."
    if constant := _constant(data):
        text += f" Not analysed, because they have a single value: {', '.join(constant)}."
    svg = to_svg(figures.draw_importance(data), "importance", title, text)
    return Section("importance", title, text, svg, tables)


def _constant(data: Data) -> list[str]:
    """Decisions of the space that the importance leaves out: those with one value."""
    analysed = {decision["name"] for decision in data["importance"]["decisions"]}
    names = dict.fromkeys(config["name"] for config in data["search"]["space"])
    return [name for name in names if name not in analysed]


def _reliability(importance: Data) -> str:
    """The most important decision, and how reliable the forest is."""
    explained, first = max(importance["explained"], 0.0), importance["decisions"][0]
    if explained < _MIN_EXPLAINED:
        text = (
            f"These shares are not reliable: the forest explains only {percent(explained)} of "
            "the variance of held-out trials. "
        )
    else:
        text = (
            f"{first['name']} alone explains {percent(first['share'])} of the variance of the "
            f"score over the space. The forest explains {percent(explained)} of the variance of "
            "held-out trials; the lower this value, the less reliable the shares. "
        )
    return (
        f"{text}Functional analysis of variance (fANOVA) with {importance['trees']} trees, fitted "
        f"to {counted(importance['trials'], 'trial')}; thin lines contain the middle 90 % of the "
        "trees."
    )


def _best_value(decision: Data, direction: str) -> object:
    best = max if direction == "max" else min
    effects = decision["effects"]
    return decision["values"][effects.index(best(effects))]


def _parallel(data: Data) -> Section:
    trials, title = data["trials"], "Parallel coordinates"
    text = (
        "Each line is a trial; the thick line is the best trial, blue lines are the best 10 %. "
        "Where a line passes through “off”, the decision is inactive."
    )
    names = list(trials["values"])
    shown = figures.parallel_decisions(data)
    missing = [name for name in names if name not in shown]
    if missing:
        text += (
            " The figure shows the most important decisions; these are in the table only: "
            f"{', '.join(missing)}."
        )
    if not names:
        return Section("parallel", title, "The space has no decisions.")
    order = [index for index, rank in enumerate(trials["rank"]) if rank is not None]
    order.sort(key=lambda index: trials["rank"][index])
    rows = [
        (
            trials["trial_id"][index],
            trials["score"][index],
            *(trials["values"][name][index] for name in names),
        )
        for index in order[:_BEST]
    ]
    best = table(f"The best {counted(len(rows), 'trial')}", ["trial", "score", *names], rows)
    svg = to_svg(figures.draw_parallel(data), "parallel", title, text)
    return Section("parallel", title, text, svg, [best])


def _lineage(data: Data) -> Section:
    lineage, title = data["lineage"], "Lineage of the best trial"
    if lineage["note"] is not None:
        return Section("lineage", title, lineage["note"])
    steps = lineage["steps"]
    text = (
        f"From trial {steps[0]['trial_id']} to the best trial in "
        f"{counted(len(steps) - 1, 'step')}."
    )
    if steps[0]["parents"]:
        text += f" Its ancestors are not on disk: trial {', '.join(steps[0]['parents'])}."
    largest = max(steps, key=lambda step: step["gain"] or 0.0)
    if largest["gain"]:
        changes = "; ".join(_change(change) for change in largest["changes"]) or largest["kind"]
        text += (
            f" Trial {largest['trial_id']} gained the most, {number(largest['gain'])}: {changes}."
        )
    if len(steps) > figures.STEPS:
        text += f" The figure shows the {figures.STEPS} steps with the largest changes of score."
    text += (
        " Of two parents the lineage follows the better one. Scores of single trainings are noisy."
    )
    rows = [
        (
            step["trial_id"],
            step["kind"],
            ", ".join(step["parents"]),
            step["score"],
            step["gain"],
            "; ".join(_change(change) for change in step["changes"]),
        )
        for step in steps
    ]
    heading = ["trial", "operator", "parents", "score", "gain", "changes"]
    svg = to_svg(figures.draw_lineage(data), "lineage", title, text)
    return Section("lineage", title, text, svg, [table("Steps", heading, rows)])


def _change(change: Data) -> str:
    text = f"{change['decision']}: {number(change['before'])} → {number(change['after'])}"
    return text if change["source"] == "mutation" else f"{text} (from {change['source']})"


def _best_trial(data: Data) -> Section:
    best, title = data["best"], "Best trial"
    text = f"Trial {best['trial_id']}, at epoch {best['best_epoch']}."
    tables = [
        table(caption, [heading, "value"], best[key].items())
        for caption, heading, key in (
            ("Decisions", "decision", "values"),
            ("Metrics", "metric", "metrics"),
            ("Costs", "cost", "costs"),
        )
        if best[key]
    ]
    if data["retrained"] is not None:
        tables.append(_retrained(data["retrained"]))
    description = f"The architecture of trial {best['trial_id']}, from its inputs to its output."
    if best["architecture"] is None:
        if best["diagram"] is None:
            return Section("best", title, text, None, tables)
        svg = embedded(best["diagram"], description)
        return Section("best", title, text, svg, tables, wide=True)
    svg = architecture_svg(best["architecture"], "best", "Architecture", description)
    return Section("best", title, text, svg, tables, wide=True)


def _retrained(retraining: Data) -> Table:
    measured_on = retraining["measured_on"]
    rows_used = f"on {measured_on} data" if measured_on else "(not evaluated)"
    seeds = retraining["seeds"]
    scores = zip(seeds, retraining["scores"] or [None] * len(seeds), strict=True)
    rows: list[Sequence[object]] = [("searched model", retraining["searched_score"])]
    rows += [(f"retrained, seed {seed}", score) for seed, score in scores]
    if retraining["standard_deviation"] is not None:
        rows.append(("mean of the retrained models", retraining["mean"]))
        rows.append(("standard deviation", retraining["standard_deviation"]))
    caption = f"Trial {retraining['trial_id']} retrained on training and validation data"
    return table(caption, ["model", f"{retraining['metric']} {rows_used}"], rows)


def _costs(data: Data) -> Section:
    rows = [
        [cost[key] for key in ("name", "best", "median", "smallest", "largest", "total")]
        for cost in data["costs"]
    ]
    heading = ["cost", "best trial", "median", "minimum", "maximum", "total"]
    text = "Costs of the finished trials; seconds are the wall-clock time of a trial."
    return Section("costs", "Costs", text, None, [table("Costs", heading, rows)])


def _calibration(data: Data) -> list[Section]:
    calibration, title = data["calibration"], "Calibration of the proxies"
    if not calibration["proxies"]:
        return (
            [Section("calibration", title, calibration["note"])] if calibration["trials"] else []
        )
    best = calibration["proxies"][0]
    text = (
        f"{best['name']} ranked the {calibration['trials']} trials best: Spearman's ρ is "
        f"{number(best['spearman'])}, with a 95 % bootstrap interval from {number(best['low'])} "
        f"to {number(best['high'])}. Rank 1 is the best; on the dashed line, predicted and "
        "observed ranks are equal."
    )
    rows: list[Sequence[object]] = [
        (proxy["name"], proxy["spearman"], proxy["low"], proxy["high"])
        for proxy in calibration["proxies"]
    ]
    tables = [table("Rank correlation", ["proxy", "Spearman's ρ", "2.5 %", "97.5 %"], rows)]
    predicted = (proxy["predicted"] for proxy in calibration["proxies"])
    ranks = zip(calibration["trial_ids"], calibration["observed"], *predicted, strict=True)
    names = [proxy["name"] for proxy in calibration["proxies"]]
    by_rank = sorted(ranks, key=lambda row: row[1])
    tables.append(table("Ranks", ["trial", "observed", *names], by_rank))
    svg = to_svg(figures.draw_calibration(data), "calibration", title, text)
    return [Section("calibration", title, text, svg, tables)]


def _supernet(data: Data) -> list[Section]:
    return [] if data["supernet"] is None else [weights_section(data["supernet"])]


def _failures(data: Data) -> list[Section]:
    causes, infeasible = data["failures"], data["infeasible"]
    if not causes and not infeasible["count"]:
        return []
    text, tables = "", []
    if causes:
        text = f"{counted(sum(cause['count'] for cause in causes), 'trial')} failed."
        rows = [
            (cause["error"], cause["count"], ", ".join(cause["trial_ids"])) for cause in causes
        ]
        tables.append(table("Failures by cause", ["error", "trials", "examples"], rows))
    if infeasible["count"]:
        candidates = counted(infeasible["count"], "candidate")
        text += f" Infeasible, and therefore not trained: {candidates}."
        by_constraint = infeasible["by_constraint"].items()
        columns = ["constraint", "candidates"]
        tables.append(table("Infeasible candidates by constraint", columns, by_constraint))
    return [Section("failures", "Failures", text.strip(), None, tables)]


def _excluded(data: Data) -> list[Section]:
    """Trials that a change of the program excludes, which are in no other section."""
    groups, title = data["excluded"], "Trials that do not count"
    if not groups:
        return []
    rows = [
        (trial_id, score, group["reason"])
        for group in groups
        for trial_id, score in zip(group["trial_ids"], group["scores"], strict=True)
    ]
    text = (
        f"The program was changed after {counted(len(rows), 'trial')}, which no other part of "
        "this report includes."
    )
    tables = [table(title, ["trial", data["score"], "reason"], rows)]
    return [Section("excluded", title, text, None, tables)]


def _search(data: Data) -> Section:
    search = data["search"]
    limits = [(constraint["name"], _limits(constraint)) for constraint in search["constraints"]]
    datasets = [
        (f"{dataset['name']} ({dataset['context']})", dataset["digest"])
        for dataset in search["datasets"]
    ]
    tables = [
        table(caption, ["name", "value"], rows)
        for caption, rows in (
            ("Settings", search["settings"].items()),
            ("Constraints", limits),
            ("Datasets, by digest", datasets),
            ("Environment", search["environment"].items()),
        )
        if rows
    ]
    text = f"{search['strategy']}, search {search['search_id']}."
    return Section("search", "Search configuration", text, None, tables)


def _limits(constraint: Data) -> str:
    bounds = (("at least", constraint.get("min")), ("at most", constraint.get("max")))
    return ", ".join(f"{words} {number(bound)}" for words, bound in bounds if bound is not None)


def _ordinal(count: int) -> str:
    """Format an ordinal number.

    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 22, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    if count % 100 in (11, 12, 13):
        return f"{count}th"
    return f"{count}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th') }"

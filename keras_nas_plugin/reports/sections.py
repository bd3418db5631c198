"""The sections of a report: what each says in words, in a picture and in tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.reports import figures
from keras_nas_plugin.reports.drawn import architecture_svg
from keras_nas_plugin.reports.svg import to_svg

#: Rows of a table in the page, at most; the numbers below the page have them all.
ROWS = 100
# A forest that explains less than this of unseen trials has learned next to nothing.
_USELESS = 0.1
# Trials, and their decisions, in the table beside the parallel coordinates.
_BEST = 20

Data = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns and rows of text; of long ones the first rows."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int = 0


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        key: Its anchor, and the beginning of the ids in it.
        title: Its heading.
        text: What there is to say, in sentences.
        svg: Its picture, if there is something to draw.
        tables: Its numbers; below a picture they are folded away.
        wide: Whether the picture keeps its own size and scrolls.
    """

    key: str
    title: str
    text: str
    svg: str | None = None
    tables: Sequence[Table] = ()
    wide: bool = False


def number(value: Any) -> str:
    """A value as people read it.

    >>> number(0.123456), number(1234567.0), number(None), number(True)
    ('0.1235', '1,234,567', '–', 'True')
    """
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) < 1e15 else str(value)


def percent(share: float) -> str:
    """A share in percent: ``12.3 %``."""
    return f"{100 * share:.1f} %"


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of values, of which at most `ROWS` rows are shown."""
    every = [[number(value) for value in row] for row in rows]
    return Table(caption, columns, every[:ROWS], max(0, len(every) - ROWS))


def sections(data: Data) -> list[Section]:
    """All sections of a search's report; call within `svg.drawing`."""
    if data["best"] is None:
        return [*_failures(data), _facts(data)]
    parts = [_progress, _front, _importance, _parallel, _lineage, _winner, _costs]
    rest = [*_calibration(data), *_failures(data), _facts(data)]
    return [*(part(data) for part in parts), *rest]


def _progress(data: Data) -> Section:
    reference, trials, best = data["random_reference"], data["trials"], data["best"]
    objective = data["score"]
    where = trials["rank"].index(1) + 1
    text = (
        f"The best {objective} is {number(best['score'])}, of trial {best['trial_id']}, "
        f"the {_ordinal(where)} of {len(trials['rank'])} that ended."
    )
    steps = [
        (at, trials["trial_id"][at - 1], score)
        for at, score in enumerate(trials["best_so_far"], start=1)
        if score is not None and (at == 1 or score != trials["best_so_far"][at - 2])
    ]
    tables = [table("Each improvement", ["trials that ended", "trial", objective], steps)]
    if reference["note"] is not None:
        text = f"{text} {reference['note']}"
    else:
        text = (
            f"{text} The dashed line is the expected best of random search, from the "
            f"{reference['trials']} random trials of this search; it ends where they do. The "
            "band is the middle 90 % of bootstrap samples of them."
        )
        if reference["failed"]:
            text += f" Of them {reference['failed']} failed, which counts as the worst score."
        columns = [reference[key] for key in ("n", "expected", "low", "high")]
        heading = ["trials", "expected best", "5 %", "95 %"]
        tables.append(table("Random search", heading, zip(*columns, strict=True)))
    title = "Best score so far"
    svg = to_svg(figures.draw_progress(data), "progress", title, text)
    return Section("progress", title, text, svg, tables)


def _front(data: Data) -> Section:
    found, title = data["front"], "Pareto front"
    if found["note"] is not None:
        return Section("front", title, found["note"])
    axes = [axis["name"] for axis in found["axes"]]
    best = [point for point in found["points"] if point["front"]]
    text = (
        f"{counted(len(found['points']), 'trial')}, of which {len(best)} "
        f"{'is' if len(best) == 1 else 'are'} beaten by no other in {', '.join(axes[:-1])} and "
        f"{axes[-1]} together."
    )
    if len(axes) > 2:
        text += f" The picture shows {axes[0]} and {axes[1]}; the table shows all."
    beyond = len(found["points"]) - int(figures.in_picture(found).sum())
    if beyond:
        text += f" Far worse in {axes[0]} than the rest, and not in the picture: {beyond}."
    rows = sorted(([one["trial_id"], *one["values"]] for one in best), key=lambda row: row[2])
    svg = to_svg(figures.draw_front(data), "front", title, text)
    return Section("front", title, text, svg, [table(title, ["trial", *axes], rows)])


def _importance(data: Data) -> Section:
    found, title = data["importance"], "Importance of each decision"
    if found["note"] is not None:
        return Section("importance", title, found["note"])
    text = _trust(found)
    if found["clipped"]:
        many = counted(found["clipped"], "score")
        text += f" Brought in, for being far worse than the rest: {many}."
    if found["epochs"] is not None:
        text += f" Only trials that were trained for {counted(found['epochs'], 'epoch')} count."
    rows = [
        (
            one["name"],
            one["condition"],
            percent(one["share"]),
            percent(one["low"]),
            percent(one["high"]),
            _best_value(one, data["search"]["direction"]),
        )
        for one in found["decisions"]
    ]
    heading = ["decision", "only where", "share", "5 %", "95 %", "best on average"]
    tables = [table("Decisions", heading, rows)]
    if found["pairs"]:
        rows = [
            (" × ".join(one["names"]), *(percent(one[key]) for key in ("share", "low", "high")))
            for one in found["pairs"]
        ]
        tables.append(table("Two together", ["decisions", "share", "5 %", "95 %"], rows))
    svg = to_svg(figures.draw_importance(data), "importance", title, text)
    return Section("importance", title, text, svg, tables)


def _trust(found: Data) -> str:
    """What the shares say, or that they say nothing, and what they rest on."""
    explained, first = max(found["explained"], 0.0), found["decisions"][0]
    if explained < _USELESS:
        text = (
            f"These shares mean little: the forest explains {percent(explained)} of the variance "
            "of trials that it has not seen. "
        )
    else:
        text = (
            f"{first['name']} alone accounts for {percent(first['share'])} of the variance of the "
            f"score over the space. The forest explains {percent(explained)} of the variance of "
            "trials that it has not seen; the less, the less this picture means. "
        )
    return (
        f"{text}Functional analysis of variance of {found['trees']} trees, fitted to "
        f"{counted(found['trials'], 'trial')}; thin lines are the middle 90 % of the trees."
    )


def _best_value(decision: Data, direction: str) -> Any:
    choose = max if direction == "max" else min
    effects = decision["effects"]
    return decision["values"][effects.index(choose(effects))]


def _parallel(data: Data) -> Section:
    trials, title = data["trials"], "Decisions of the trials"
    text = (
        "Each line is a trial; the thick one is the winner, blue ones are the best tenth. A line "
        "through “off” has no such decision."
    )
    names = list(trials["values"])
    if not names:
        return Section("parallel", title, "The space has no decisions.")
    order = [at for at, rank in enumerate(trials["rank"]) if rank is not None]
    order.sort(key=lambda at: trials["rank"][at])
    rows = [
        (trials["trial_id"][at], trials["score"][at], *(trials["values"][n][at] for n in names))
        for at in order[:_BEST]
    ]
    few = table(f"The best {len(rows)}", ["trial", "score", *names], rows)
    svg = to_svg(figures.draw_parallel(data), "parallel", title, text)
    return Section("parallel", title, text, svg, [few])


def _lineage(data: Data) -> Section:
    found, title = data["lineage"], "Lineage of the winner"
    if found["note"] is not None:
        return Section("lineage", title, found["note"])
    steps = found["steps"]
    text = f"From trial {steps[0]['trial_id']} to the winner in {counted(len(steps) - 1, 'step')}."
    if steps[0]["parents"]:
        text += f" Before it: trial {', '.join(steps[0]['parents'])}, which is not on disk."
    most = max(steps, key=lambda one: one["gain"] or 0.0)
    if most["gain"]:
        changed = "; ".join(_change(one) for one in most["changes"]) or most["kind"]
        text += f" Trial {most['trial_id']} brought the most, {number(most['gain'])}: {changed}."
    if len(steps) > figures.STEPS:
        text += f" The picture shows the {figures.STEPS} steps that changed the score the most."
    text += " Of two parents the line follows the better one. Each score has its training's noise."
    rows = [
        (
            one["trial_id"],
            one["kind"],
            ", ".join(one["parents"]),
            one["score"],
            one["gain"],
            "; ".join(_change(change) for change in one["changes"]),
        )
        for one in steps
    ]
    heading = ["trial", "by", "parents", "score", "better by", "what changed"]
    svg = to_svg(figures.draw_lineage(data), "lineage", title, text)
    return Section("lineage", title, text, svg, [table("Steps", heading, rows)])


def _change(change: Data) -> str:
    text = f"{change['decision']}: {number(change['before'])} → {number(change['after'])}"
    return text if change["source"] == "mutation" else f"{text} (from {change['source']})"


def _winner(data: Data) -> Section:
    best, title = data["best"], "The winner"
    text = f"Trial {best['trial_id']}, at epoch {best['best_epoch']}."
    tables = [
        table(caption, [caption.lower(), "value"], best[key].items())
        for caption, key in (("Decisions", "values"), ("Metrics", "metrics"), ("Costs", "costs"))
        if best[key]
    ]
    if data["retrained"] is not None:
        tables.append(_retrained(data["retrained"]))
    if best["architecture"] is None:
        return Section("winner", title, text, None, tables)
    about = f"The architecture of trial {best['trial_id']}, from its inputs to its output."
    svg = architecture_svg(best["architecture"], "winner", "Architecture of the winner", about)
    return Section("winner", title, text, svg, tables, wide=True)


def _retrained(done: Data) -> Table:
    known = f"on {done['measured_on']} rows" if done["measured_on"] else "(not measured)"
    scores = zip(done["seeds"], done["scores"] or [None] * len(done["seeds"]), strict=True)
    rows = [("searched", done["searched_score"])]
    rows += [(f"retrained, seed {seed}", score) for seed, score in scores]
    if done["standard_deviation"] is not None:
        rows += [("mean of the retrained", done["mean"])]
        rows += [("standard deviation", done["standard_deviation"])]
    caption = f"Trial {done['trial_id']} retrained on training and validation data"
    return table(caption, ["model", f"{done['metric']} {known}"], rows)


def _costs(data: Data) -> Section:
    rows = [
        (one["name"], one["best"], one["median"], one["smallest"], one["largest"], one["total"])
        for one in data["costs"]
    ]
    heading = ["cost", "winner", "median", "smallest", "largest", "all trials"]
    text = "Of the trials that finished; seconds are wall clock from start to end of a trial."
    return Section("costs", "Costs", text, None, [table("Costs", heading, rows)])


def _calibration(data: Data) -> list[Section]:
    found, title = data["calibration"], "Calibration of the proxies"
    if not found["proxies"]:
        return [Section("calibration", title, found["note"])] if found["trials"] else []
    best = found["proxies"][0]
    text = (
        f"{best['name']} ranked the {found['trials']} trials best: Spearman's ρ "
        f"{number(best['spearman'])}, 95 % interval {number(best['low'])} to "
        f"{number(best['high'])} (bootstrap). Rank 1 is the best; on the dashed line a "
        "prediction is right."
    )
    rows = [(one["name"], one["spearman"], one["low"], one["high"]) for one in found["proxies"]]
    tables = [table("Rank correlation", ["proxy", "Spearman's ρ", "2.5 %", "97.5 %"], rows)]
    predicted = (one["predicted"] for one in found["proxies"])
    ranks = zip(found["trial_ids"], found["observed"], *predicted, strict=True)
    names = [one["name"] for one in found["proxies"]]
    rows = sorted(ranks, key=lambda row: row[1])
    tables.append(table("Ranks", ["trial", "observed", *names], rows))
    svg = to_svg(figures.draw_calibration(data), "calibration", title, text)
    return [Section("calibration", title, text, svg, tables)]


def _failures(data: Data) -> list[Section]:
    causes, refused = data["failures"], data["infeasible"]
    if not causes and not refused["count"]:
        return []
    text, tables = "", []
    if causes:
        text = f"{counted(sum(one['count'] for one in causes), 'trial')} failed."
        rows = [(one["error"], one["count"], ", ".join(one["trial_ids"])) for one in causes]
        tables.append(table("Failures by cause", ["error", "trials", "for example"], rows))
    if refused["count"]:
        many = counted(refused["count"], "candidate")
        text += f" Not trained, for it would break a constraint: {many}."
        rows = list(refused["by_constraint"].items())
        tables.append(table("Broken constraints", ["constraint", "candidates"], rows))
    return [Section("failures", "Failures", text.strip(), None, tables)]


def _facts(data: Data) -> Section:
    search = data["search"]
    limits = [(one["name"], _limits(one)) for one in search["constraints"]]
    datasets = [(f"{one['name']} ({one['context']})", one["digest"]) for one in search["datasets"]]
    tables = [
        table(caption, ["name", "value"], rows)
        for caption, rows in (
            ("Settings", search["settings"].items()),
            ("Constraints", limits),
            ("Data, by digest", datasets),
            ("Environment", search["environment"].items()),
        )
        if rows
    ]
    text = f"{search['strategy']}, search {search['search_id']}."
    return Section("search", "The search", text, None, tables)


def _limits(limit: Data) -> str:
    ends = (("at least", limit.get("min")), ("at most", limit.get("max")))
    return ", ".join(f"{words} {number(end)}" for words, end in ends if end is not None)


def _ordinal(count: int) -> str:
    """1st, 2nd, 3rd, 11th.

    >>> [_ordinal(n) for n in (1, 2, 3, 4, 11, 22, 113)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd', '113th']
    """
    if count % 100 in (11, 12, 13):
        return f"{count}th"
    return f"{count}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(count % 10, 'th') }"

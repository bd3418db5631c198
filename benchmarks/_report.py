"""Reports of the results: text for a terminal, Markdown for `docs/strategies.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]


def text(results: Results) -> str:
    """All results as text for a terminal with 120 columns."""
    lines: list[str] = []
    for table, result in results["tables"].items():
        lines += [*_table_lines(table, result), ""]
    if results["speed"]:
        counts = [key for key in next(iter(results["speed"].values())) if key != "own"]
        lines.append("median milliseconds per proposal, by number of finished trials")
        lines.append(f"  {'':28s}" + "".join(f"{int(count):>10,d}" for count in counts))
        for title, times in results["speed"].items():
            cells = "".join(f"{times[count] * 1e3:10.1f}" for count in counts)
            lines.append(f"  {title:28s}{cells}   ({times['own']} trials proposed by the oracle)")
        lines.append("")
    if results["bars"]:
        lines.append("targets")
        for bar in results["bars"]:
            lines.append(f"  {bar['verdict']:19s} {bar['claim']}: {bar['measured']}")
    for title in results["missing"]:
        lines.append(f"  MISSING             {title}: no such oracle in keras_nas_plugin.oracles")
    return "\n".join(lines)


def _table_lines(table: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Accuracy on NAS-Bench-201, normalised regret elsewhere."""
    nas = result["family"] == "nas"
    key, digits = ("checkpoints", 3) if nas else ("regret", 4)
    if nas:
        exact = ", ".join(f"{mean:.2f} ({at})" for at, mean in result["random_exact"].items())
        yield f"{table}: optimum {result['optimum']:.2f}; random search, exact: {exact}"
    else:
        ends = f"0 is {result['optimum']:.4g}, 1 is {result['median']:.4g} or worse"
        yield f"{table} ({result['family']}): normalised regret in {result['metric']}; {ends}"
    counts = sorted({int(c) for row in result["rows"] for c in row["checkpoints"]})
    heads = "".join(f"{count:>18d}" for count in counts) + (f"{'to r@300':>10s}" if nas else "")
    yield f"  {'':28s}{heads}{'ms':>8s}{'reps':>6s}"
    for row in result["rows"]:
        cells = [f"{cell_of(row[key].get(str(count)), digits):>18s}" for count in counts]
        cells += [f"{_reached(row):>10s}"] if nas else []
        cells.append(f"{row['seconds_per_proposal'] * 1e3:8.1f}{row['repetitions']:6d}")
        yield f"  {row['title']:28s}" + "".join(cells)


def cell_of(estimate: Mapping[str, float] | None, digits: int) -> str:
    if estimate is None:
        return "-"
    mean, error = estimate["mean"], estimate["error"]
    return f"{mean:.{digits}f} ± " + ("?" if error is None else f"{error:.{digits}f}")


def _reached(row: Mapping[str, Any]) -> str:
    first = row["evaluations_to_random_at_300"]
    return f"> {row['evaluations']}" if first is None else str(first)


# ------------------------------------------------------------------ Markdown


def markdown(results: Results) -> str:
    """Tables of accuracy, regret, milliseconds per proposal and targets."""
    parts = []
    for table, result in results["tables"].items():
        if result["family"] == "nas":
            parts.append(_accuracy_table(table, result))
    hpo_results = {
        t: result for t, result in results["tables"].items() if result["family"] != "nas"
    }
    if hpo_results:
        parts.append(_regret_table(hpo_results))
    if results["speed"]:
        parts.append(_speed_table(results["speed"]))
    if results["bars"]:
        parts.append(bars_table(results["bars"]))
    return "\n\n".join(parts)


def _accuracy_table(table: str, result: Mapping[str, Any]) -> str:
    counts = sorted({int(c) for row in result["rows"] for c in row["checkpoints"]})
    heads = [table, *map(str, counts), "to random at 300", "ms per proposal", "repetitions"]
    rows = [
        [
            row["title"],
            *(cell_of(row["checkpoints"].get(str(count)), 2) for count in counts),
            _reached(row),
            f"{row['seconds_per_proposal'] * 1e3:.1f}",
            str(row["repetitions"]),
        ]
        for row in result["rows"]
    ]
    exact = result["random_exact"]
    rows.append(["random search, exact", *(f"{exact[str(c)]:.2f}" for c in counts), "300", "", ""])
    return table_of(heads, rows)


def _regret_table(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Normalised regret at the last checkpoint that all rows have, by table."""
    titles = list(dict.fromkeys(r["title"] for result in tables.values() for r in result["rows"]))
    count = min(
        max(map(int, row["checkpoints"])) for result in tables.values() for row in result["rows"]
    )
    rows = []
    for table, result in tables.items():
        by_title = {row["title"]: row for row in result["rows"]}
        rows.append([table, *(_regret(by_title.get(title), count) for title in titles)])
    return table_of([f"regret at {count}", *titles], rows)


def _regret(row: Mapping[str, Any] | None, count: int) -> str:
    return cell_of(None if row is None else row["regret"].get(str(count)), 3)


def _speed_table(speed: Mapping[str, Mapping[str, float]]) -> str:
    counts = [key for key in next(iter(speed.values())) if key != "own"]
    rows = [
        [title, *(f"{times[count] * 1e3:.1f}" for count in counts)]
        for title, times in speed.items()
    ]
    return table_of(["ms per proposal after", *(f"{int(c):,} trials" for c in counts)], rows)


def bars_table(bars: Sequence[Mapping[str, str]]) -> str:
    """Table of the targets, the measurements and the verdicts."""
    rows = [[bar["claim"], bar["measured"], bar["verdict"]] for bar in bars]
    return table_of(["target", "measured", "verdict"], rows)


def table_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table_of(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

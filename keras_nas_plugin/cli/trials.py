"""`keras-nas trials`: the finished trials of a search."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.results import number_text, plain, ranked, trial_result, values_text
from keras_nas_plugin.tracking.records import load_records


@click.command()
@project_options
@click.option("--limit", type=click.IntRange(min=1), help="Show only the best N.")
@click.option("--failed", is_flag=True, help="Show failed trials and their errors instead.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def trials(
    directory: str, project_name: str | None, limit: int | None, failed: bool, as_json: bool
) -> None:
    """Show the finished trials of a search, best first.

    Example: keras-nas trials --limit 10
    """
    search = find_search(directory, project_name)
    records = list(load_records(search.directory))
    chosen = [r for r in records if r.status == "FAILED"] if failed else ranked(search, records)
    chosen = chosen[:limit]
    if as_json:
        results = [trial_result(search, record) for record in chosen]
        click.echo(json.dumps(plain(results), indent=2))
        return
    rows = []
    for rank, record in enumerate(chosen, start=1):
        result = record.error if failed else f"{record.score:.6g}"
        parameters = number_text(record.costs.get("parameters", ""))
        rows.append(
            (str(rank), record.trial_id, result or "", parameters, f"{record.seconds:.1f}")
            + (values_text(dict(record.values)),)
        )
    heading = ("rank", "trial", "error" if failed else search.objective, "parameters")
    print_table((*heading, "seconds", "values"), rows)
    click.echo(f"{len(chosen)} of {len(records)} trials of {search.name}", err=True)


def print_table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns on standard output; in a pipe as wide as they need to be."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in heading:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=100_000)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))

"""`keras-nas trials`: the finished trials of a search."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.results import excluded_text, number_text, trial_result, values_text
from keras_nas_plugin.files import json_value
from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.trial import FAILED, load_records


@click.command()
@project_options
@click.option("--limit", type=click.IntRange(min=1), help="List only the first N.")
@click.option(
    "--failed",
    is_flag=True,
    help="List failed trials, their errors and the lines of code instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def trials(
    directory: str, project_name: str | None, limit: int | None, failed: bool, as_json: bool
) -> None:
    """List the finished trials of a search, best first.

    Example: keras-nas trials --limit 10
    """
    search = find_search(directory, project_name)
    records = list(load_records(search.directory))
    if failed:
        shown = [record for record in records if record.status == FAILED][:limit]
    else:
        shown = ranked(search, records)[:limit]
    if as_json:
        results = [trial_result(search, record) for record in shown]
        click.echo(json.dumps(json_value(results), indent=2))
        return
    rows: list[tuple[str, ...]] = []
    for rank, record in enumerate(shown, start=1):
        columns = (
            (record.error or "", str(record.location or ""))
            if failed
            else (f"{record.score:.6g}", number_text(record.costs.get("parameters", "")))
        )
        rows.append(
            (str(rank), record.trial_id, *columns, f"{record.seconds:.1f}")
            + (values_text(dict(record.values)),)
        )
    heading = ("error", "where") if failed else (search.objective, "parameters")
    print_table(("rank", "trial", *heading, "seconds", "values"), rows)
    click.echo(f"{len(shown)} of {len(records)} trials of {search.name}", err=True)
    if len(search.exclusions):
        click.echo(excluded_text(len(search.exclusions)), err=True)


def print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on standard output; in a pipe, columns are as wide as their content."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in heading:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=100_000)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))

"""`keras-nas report`: a search as one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from keras_nas_plugin.cli.options import find_search, project_options

_OUT = "report.html"


@click.command()
@project_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help=f"The HTML file to write; {_OUT} unless `--json` is given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers behind the page.")
def report(directory: str, project_name: str | None, out: str | None, as_json: bool) -> int:
    """Write a search as one HTML file that needs no network.

    Curves, Pareto front, importance of each decision, lineage of the winner, costs and
    failures, from the records on disk; also while the search runs.

    Example: keras-nas report --project-name image_classification --out report.html
    """
    search = find_search(directory, project_name)
    # Imports numpy, which a command that only prints its help must not wait for.
    from keras_nas_plugin.reports import report_data

    data = report_data(search.directory)
    if out is not None or not as_json:
        _write(data, out or _OUT)
        click.echo(f"{out or _OUT}: the report of {search.name}", err=True)
    if as_json:
        click.echo(json.dumps(data, indent=2, allow_nan=False))
    if data["best"] is None:
        click.echo(f"No trial of {search.name} has finished.", err=True)
        return 3
    return 0


def _write(data: Mapping[str, Any], out: str) -> None:
    """Write the page.

    Raises:
        click.UsageError: The file cannot be written.
    """
    from keras_nas_plugin.reports.page import write_page

    try:
        write_page(data, out)
    except OSError as error:
        raise click.UsageError(
            f"`--out` needs a file that can be written; received {out!r}, "
            f"which gave: {error.strerror or error}"
        ) from error

"""`keras-nas report`: a search as one HTML page."""

from __future__ import annotations

import json

import click

from keras_nas_plugin.cli.options import find_search, project_options

_OUT = "report.html"


@click.command()
@project_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help=f"The HTML file to write. [default: {_OUT}, or none with --json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers of the report as JSON.")
def report(directory: str, project_name: str | None, out: str | None, as_json: bool) -> int:
    """Write the report of a search as one HTML file that needs no network.

    It shows training curves, the Pareto front, the importance of each decision, the lineage of
    the best trial, costs and failures. The search may still be running.

    Example: keras-nas report --project-name image_classification --out report.html
    """
    search = find_search(directory, project_name)
    # Imports numpy, which `--help` must not wait for.
    from keras_nas_plugin.reports import report_data

    data = report_data(search.directory)
    if out is not None or not as_json:
        from keras_nas_plugin.reports.page import page

        write_html(page(data), out or _OUT)
        click.echo(f"{out or _OUT}: the report of {search.name}", err=True)
    if as_json:
        click.echo(json.dumps(data, indent=2, allow_nan=False))
    if data["best"] is None:
        click.echo(f"No trial of {search.name} has finished.", err=True)
        return 3
    return 0


def write_html(html: str, out: str) -> None:
    """Write a page to the file that `--out` names.

    Raises:
        click.UsageError: The file cannot be written.
    """
    from keras_nas_plugin.reports.page import write_text

    try:
        write_text(html, out)
    except OSError as error:
        raise click.UsageError(
            f"`--out` must be a file that can be written; writing {out!r} failed: "
            f"{error.strerror or error}"
        ) from error

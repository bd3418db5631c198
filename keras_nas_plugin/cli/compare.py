"""`keras-nas compare`: several searches in one HTML page, or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from keras_nas_plugin.cli.options import DIRECTORY, find_search, usage_errors
from keras_nas_plugin.cli.report import write_html
from keras_nas_plugin.errors import StateError
from keras_nas_plugin.records.search import SearchInfo

_OUT = "comparison.html"


@click.command()
@click.argument("searches", nargs=-1, required=True, metavar="SEARCH SEARCH [SEARCH ...]")
@click.option("--directory", default=DIRECTORY, show_default=True, help="Folder of all searches.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help=f"The HTML file to write. [default: {_OUT}, or none with --json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(searches: tuple[str, ...], directory: str, out: str | None, as_json: bool) -> int:
    """Compare searches with the same objective.

    Each SEARCH is the name of a search in the directory, or a project folder. The page shows the
    best score so far of each search over trials and over seconds, their Pareto fronts, what they
    tried in common, and which one is better with its p-value. Searches that differ only in their
    seed are repetitions: they become one line with a band.

    Example: keras-nas compare evolution random --out comparison.html
    """
    if len(searches) < 2:
        raise click.UsageError(f"`SEARCH` must be at least two searches; got {len(searches)}")
    folders = [_folder(name, directory) for name in searches]
    if len(set(folders)) < len(folders):
        raise click.UsageError(f"`SEARCH` must be different searches; got {' '.join(searches)}")
    # Imports numpy, which `--help` must not wait for.
    from keras_nas_plugin.reports import comparison_data

    with usage_errors(StateError):
        data = comparison_data(folders)
    if out is not None or not as_json:
        from keras_nas_plugin.reports.page import comparison_page

        write_html(comparison_page(data), out or _OUT)
        click.echo(f"{out or _OUT}: the comparison of {len(folders)} searches", err=True)
    if as_json:
        click.echo(json.dumps(data, indent=2, allow_nan=False))
    else:
        from keras_nas_plugin.reports.comparison_sections import verdict

        click.echo(verdict(data))
    return 0


def _folder(name: str, directory: str) -> Path:
    """The project folder of a search that is named or given as a path."""
    if SearchInfo.load(name) is not None:
        return Path(name).resolve()
    return Path(find_search(directory, name).directory).resolve()

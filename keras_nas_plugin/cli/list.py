"""`keras-nas list`: the searches of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import click

from keras_nas_plugin.cli.options import DIRECTORY
from keras_nas_plugin.cli.results import number_text, search_result
from keras_nas_plugin.cli.trials import print_table
from keras_nas_plugin.files import json_value
from keras_nas_plugin.records.search import SearchInfo


@click.command("list")
@click.option("--directory", default=DIRECTORY, show_default=True, help="Folder of all searches.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_searches(directory: str, as_json: bool) -> int:
    """List the searches of a folder, the latest first.

    Example: keras-nas list --directory searches
    """
    files = sorted(
        Path(directory).glob("*/search.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    searches = [search for file in files if (search := SearchInfo.load(file.parent)) is not None]
    results = [search_result(search) for search in searches]
    if as_json:
        click.echo(json.dumps(json_value(results), indent=2))
        return 0
    if not results:
        click.echo(f"{directory} has no searches.", err=True)
        return 0
    rows = []
    for result in results:
        best, model = result["best"], result["model"]
        trials = result.get("trials_that_count", result["trials"])
        rows.append(
            (
                str(result["project"]),
                str(result["strategy"]),
                f"{trials['finished']} of {result['max_trials'] or '?'}",
                str(trials["failed"]),
                f"{result['objective']} ({result['direction']})",
                number_text(best["score"]) if best else "",
                best["trial_id"] if best else "",
                f"{model['name']} version {model['version']}" if model else "",
            )
        )
    heading = ("search", "strategy", "finished", "failed", "objective", "best", "trial", "model")
    print_table(heading, rows)
    return 0

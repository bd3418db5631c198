"""`keras-nas sync`: upload to MLflow the trials that a search could not log."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys

import click

from keras_nas_plugin.cli.options import find_search, project_options


@click.command()
@project_options
@click.option(
    "--tracking-uri", help="Tracking URI of MLflow. [default: that of the search]", metavar="URI"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def sync(directory: str, project_name: str | None, tracking_uri: str | None, as_json: bool) -> int:
    """Upload to MLflow the trials that a search could not log, and close abandoned runs.

    While a tracking server does not answer, trials are stored on disk. Resuming the search
    uploads them as well.

    Example: keras-nas sync --project-name image_classification
    """
    search = find_search(directory, project_name)
    # MLflow takes seconds to import.
    from keras_nas_plugin.tracking.mlflow.sync import sync as upload

    # MLflow prints addresses of runs; standard output is reserved for the result.
    with contextlib.redirect_stdout(sys.stderr):
        result = upload(search.directory, tracking_uri=tracking_uri)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    else:
        state = f"its run is {result.status}" if result.status else "it is still running"
        click.echo(
            f"{search.name}: {result.sent} stored trials uploaded to {result.tracking_uri}, "
            f"{result.waiting} not uploaded. The search has {result.trials} ended trials; {state}."
        )
    return 1 if result.waiting else 0

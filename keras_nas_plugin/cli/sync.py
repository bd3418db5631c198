"""`keras-nas sync`: send to MLflow what a search could not send."""

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
    "--tracking-uri", help="Where to; without it, where the search logged.", metavar="URI"
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def sync(directory: str, project_name: str | None, tracking_uri: str | None, as_json: bool) -> int:
    """Send to MLflow what a search could not send, and close runs that nobody goes on with.

    Trials wait on disk while a tracking server is away; resuming the search sends them too.

    Example: keras-nas sync --project-name image_classification
    """
    search = find_search(directory, project_name)
    # MLflow takes seconds to import.
    from keras_nas_plugin.tracking.sync import sync as send

    # MLflow prints addresses of runs; standard output belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        done = send(search.directory, tracking_uri=tracking_uri)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done)))
    else:
        state = f"the search's run is {done.status}" if done.status else "the search goes on"
        click.echo(
            f"{search.name}: {done.sent} waiting trials sent to {done.tracking_uri}, "
            f"{done.waiting} wait still; {done.trials} have ended, and {state}."
        )
    return 1 if done.waiting else 0

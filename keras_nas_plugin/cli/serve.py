"""`keras-nas serve`: what serves a registered model over HTTP, and a request for it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import click

from keras_nas_plugin.cli.options import store_options


@click.command()
@click.argument("target", metavar="NAME@ALIAS|NAME/VERSION")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5001,
    show_default=True,
    help="Port to listen on.",
)
@click.option("--request", "request_file", metavar="FILE", help="Write the request to this file.")
@click.option("--start", is_flag=True, help="Start the server, until it is interrupted.")
@store_options
def serve(
    *,
    target: str,
    host: str,
    port: int,
    request_file: str | None,
    start: bool,
    tracking_uri: str | None,
    registry_uri: str | None,
) -> None:
    """Print the command that serves a registered model, and a request that it answers.

    The server is MLflow's own (`mlflow models serve`), in this Python environment. It resolves an
    alias when it starts: restart it after a promotion.

    Example: keras-nas serve digits@champion --start
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with contextlib.redirect_stdout(sys.stderr):
        from keras_nas_plugin.registry.serving import serving_of
        from keras_nas_plugin.registry.versions import stored_version

        with stored_version(target, tracking_uri, registry_uri) as version:
            serving = serving_of(version, host, port)
    if request_file is not None:
        Path(request_file).write_text(json.dumps(serving.request), encoding="utf-8")
    click.echo(serving.command)
    click.echo(serving.curl(request_file))
    if not start:
        return
    # `uvicorn`, which MLflow starts, is installed next to the interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": serving.tracking_uri}
    if registry_uri is not None:
        environment["MLFLOW_REGISTRY_URI"] = registry_uri
    sys.stdout.flush()
    # The server takes the place of this process, so that signals reach it.
    os.execve(serving.program[0], serving.program, environment)

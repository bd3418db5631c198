"""`keras-nas predict`: predictions of a registered model for the raw rows of a file."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from keras_nas_plugin import quiet
from keras_nas_plugin.cli.options import store_options, usage_errors
from keras_nas_plugin.errors import ArgumentError


@click.command()
@click.argument("target", metavar="NAME@ALIAS|NAME/VERSION")
@click.argument("rows", metavar="FILE|FOLDER")
@click.option("-o", "--output", required=True, metavar="FILE", help="The CSV file to write.")
@click.option(
    "--chunk-rows",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Rows that are read and predicted at a time.",
)
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Column to copy to the output, such as an id; it is no input. Repeatable.",
)
@click.option(
    "--header/--no-header",
    default=True,
    help="Whether the first line of the file names the columns (default).",
)
@store_options
def predict(
    *,
    target: str,
    rows: str,
    output: str,
    chunk_rows: int,
    keep: tuple[str, ...],
    header: bool,
    tracking_uri: str | None,
    registry_uri: str | None,
) -> int:
    """Predict the rows of a CSV file, or the files of a folder, with a registered model.

    The model gets raw rows, as its server does: columns by name if its signature has names, else
    all columns in order. A folder has a file for each row: images, arrays (.npy) or sounds (.wav).
    With class names, the output has the class, its probability, and the probability of each class.

    Example: keras-nas predict digits@champion rows.csv -o predictions.csv
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with contextlib.redirect_stdout(sys.stderr), usage_errors(ArgumentError):
        with quiet.tensorflow_start():
            import keras  # noqa: F401
        from keras_nas_plugin.registry.predicting import predict_file
        from keras_nas_plugin.registry.versions import stored_version

        with stored_version(target, tracking_uri, registry_uri) as version:
            count = predict_file(
                version, rows, output, chunk_rows=chunk_rows, keep=keep, header=header
            )
            number = version.version
    click.echo(f"{output}: {count:,} rows predicted by version {number} of {target}")
    return 0

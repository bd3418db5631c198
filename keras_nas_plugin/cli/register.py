"""`keras-nas register`: the winner of a search as a version in the MLflow Model Registry."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.reopening import recipe_options, reopen, tracker_of, usage_errors
from keras_nas_plugin.cli.running import set_up_logging
from keras_nas_plugin.errors import TrackingError

if TYPE_CHECKING:
    from keras_nas_plugin.registry import RegisteredModel
    from keras_nas_plugin.tracking.records import SearchInfo


@click.command()
@click.argument("name")
@project_options
@click.option("--trial", "trial_id", metavar="ID", help="Another trial than the best.")
@click.option("--retrained", is_flag=True, help="The model that `keras-nas retrain` kept.")
@click.option("--alias", default="challenger", show_default=True, help="Of the version.")
@recipe_options
@click.option(
    "--input-example/--no-input-example",
    default=True,
    help="Store four rows of the data with the model (default). Whoever may read it sees them.",
)
@click.option("--tracking-uri", metavar="URI", help="[default: where the search logged]")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def register(
    *, name: str, directory: str, project_name: str | None, as_json: bool, **options: Any
) -> int:
    """Register the winner of a search as a version of the model NAME.

    The version gets signature, pinned requirements, architecture and a model card. Registering
    the same model again gives the version that exists.

    Example: keras-nas register digits-classifier --retrained
    """
    search = find_search(directory, project_name)
    set_up_logging()
    with contextlib.redirect_stdout(sys.stderr), usage_errors():
        model = _register(name, search, **options)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(model), indent=2))
    else:
        alias = f"models:/{model.name}@{model.alias} ({model.model_uri})"
        click.echo(f"Registered: {alias if model.alias else model.model_uri}")
        if model.alias is None:
            click.echo(
                f"It did not become {options['alias']}, since `keras-nas promote` has judged it "
                "already. MLflow's UI, or `MlflowClient.set_registered_model_alias`, has it "
                "judged again."
            )
    return 0


def _register(
    name: str,
    search: SearchInfo,
    *,
    trial_id: str | None,
    retrained: bool,
    alias: str,
    recipe: str | None,
    data: str | None,
    input_example: bool,
    tracking_uri: str | None,
) -> RegisteredModel:
    from keras_nas_plugin.evaluation.datasets import sample_rows
    from keras_nas_plugin.registry.register import check_alias, check_name
    from keras_nas_plugin.tracking.connection import connect

    try:
        check_name(name)
        check_alias(alias)
    except TrackingError as error:
        raise click.UsageError(str(error)) from error
    tracker = tracker_of(search, tracking_uri)
    connect(tracker.tracking_uri, tracker.registry_uri)  # before seconds of work
    opened = reopen(search, recipe=recipe, data=data, tracker=tracker)
    return opened.tuner.register_best(
        name,
        alias=alias,
        retrained=retrained,
        trial_id=trial_id,
        sample=sample_rows(opened.data["x"]),
        input_example=input_example,
    )

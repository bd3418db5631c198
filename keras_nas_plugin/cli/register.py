"""`keras-nas register`: register the best model of a search in the MLflow Model Registry."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.finished_search import (
    open_search,
    recipe_options,
    tracker_of,
)
from keras_nas_plugin.cli.options import (
    class_names_option,
    find_search,
    project_options,
    usage_errors,
)
from keras_nas_plugin.cli.running import set_up_logging
from keras_nas_plugin.errors import RetrainingError, TrackingError
from keras_nas_plugin.registry.aliases import CHALLENGER
from keras_nas_plugin.registry.names import check_alias, check_name

if TYPE_CHECKING:
    from keras_nas_plugin.records.search import SearchInfo
    from keras_nas_plugin.registry import RegisteredModel


@click.command()
@click.argument("name")
@project_options
@click.option("--trial", "trial_id", metavar="ID", help="The trial. [default: the best]")
@click.option(
    "--retrained", is_flag=True, help="Register the model that `keras-nas retrain` kept."
)
@click.option("--alias", default=CHALLENGER, show_default=True, help="Alias of the version.")
@recipe_options
@click.option(
    "--input-example/--no-input-example",
    default=True,
    help="Store four rows of the data with the model (default). Anyone who can read the model "
    "can read them.",
)
@class_names_option
@click.option(
    "--tracking-uri", metavar="URI", help="Tracking URI of MLflow. [default: that of the search]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def register(
    *, name: str, directory: str, project_name: str | None, as_json: bool, **options: Any
) -> int:
    """Register the best model of a search as a version of the model NAME.

    The version has a signature, pinned requirements, its architecture and a model card.
    Registering the same model again returns the existing version.

    Example: keras-nas register digits-classifier --retrained
    """
    search = find_search(directory, project_name)
    set_up_logging()
    with contextlib.redirect_stdout(sys.stderr), usage_errors(RetrainingError):
        model = _register(name, search, **options)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(model), indent=2))
    else:
        address = f"models:/{model.name}@{model.alias} ({model.model_uri})"
        click.echo(f"Registered: {address if model.alias else model.model_uri}")
        if model.alias is None:
            click.echo(
                f"It did not become {options['alias']}, since `keras-nas promote` has already "
                "judged it. To have it judged again, set the alias in MLflow's UI or by "
                "`MlflowClient.set_registered_model_alias`."
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
    data_function: str | None,
    input_example: bool,
    class_names: tuple[str, ...] | None,
    tracking_uri: str | None,
) -> RegisteredModel:
    from keras_nas_plugin.evaluation.datasets import example_rows, sample_rows
    from keras_nas_plugin.tracking.mlflow.client import connect
    from keras_nas_plugin.training.bookkeeping import Bookkeeping
    from keras_nas_plugin.training.fit_arguments import FitArguments

    with usage_errors(TrackingError):
        check_name(name)
        check_alias(alias)
    tracker = tracker_of(search, tracking_uri)
    connect(tracker.tracking_uri, tracker.registry_uri)  # fails before seconds of work
    finished = open_search(
        search, recipe=recipe, data=data, data_function=data_function, tracker=tracker
    )
    validation = None
    with Bookkeeping().step("the model card has no scores by class"):
        validation = FitArguments.bind((), finished.data, finished.tuner.hypermodel).splits()[1]
    return finished.tuner.register_best(
        name,
        alias=alias,
        retrained=retrained,
        trial_id=trial_id,
        sample=example_rows(finished.data["x"], sample_rows(finished.data["x"])),
        input_example=input_example,
        class_names=class_names or finished.class_names,
        validation_data=None if validation is None else (validation.x, validation.y),
    )

"""Open a finished search, for commands that build its models again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keras_nas_plugin.cli.held_out import part_of
from keras_nas_plugin.cli.options import data_options
from keras_nas_plugin.cli.recipe import class_names_of, split_arguments
from keras_nas_plugin.cli.recipe_reference import load_recipe
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.records.program import RecipeReference
from keras_nas_plugin.records.search import SearchInfo

if TYPE_CHECKING:
    from keras_nas_plugin import MLflowTracker, NASTuner

# Settings of a search that are arguments of `model.fit`.
_FIT_SETTINGS = ("batch_size", "shuffle")

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclasses.dataclass(frozen=True)
class FinishedSearch:
    """A search with its tuner and its data.

    Attributes:
        tuner: A tuner with the trials of the search; it runs no further trials.
        data: Arguments of `model.fit`.
        test_data: Rows that the search did not use, or None.
        class_names: Names of the classes in the user's file, or None.
    """

    tuner: NASTuner
    data: dict[str, Any]
    test_data: Any
    class_names: list[str] | None


def recipe_options(command: _Command) -> _Command:
    """Add the options `--recipe`, `--data` and `--data-function` to a command."""
    command = data_options(default="that of the search")(command)
    return click.option(
        "--recipe",
        metavar="FILE[:NAME]",
        help="The Python file with build_model(hp) and load_data(). [default: that of the search]",
    )(command)


def open_search(
    search: SearchInfo,
    *,
    recipe: str | None,
    data: str | None,
    data_function: str | None,
    tracker: MLflowTracker | None = None,
) -> FinishedSearch:
    """Open a search with its precision, data and devices.

    Args:
        search: The search.
        recipe: Value of `--recipe`.
        data: Value of `--data`.
        data_function: Value of `--data-function`.
        tracker: The tracker of the search.

    Returns:
        The search with its tuner and its data.

    Raises:
        click.UsageError: The file of the search is not known.
        RecipeError: The file cannot be used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Imported first, because this raises the error about a missing Keras backend.
    from keras_nas_plugin import NASTuner
    from keras_nas_plugin.retraining.read_only_oracle import ReadOnlyOracle

    reference = RecipeReference.read(search.directory)
    file = load_recipe(search, recipe, data_function, data)
    loaded = file.load()
    arguments, _ = split_arguments(loaded, reference.split_seed if reference else None)
    settings = search.settings
    tuner = NASTuner(
        file.hypermodel,
        ReadOnlyOracle(search),
        tracker=tracker,
        precision=search.environment.get("precision"),
        deterministic=bool(settings.get("deterministic")),
        dataset=arguments.pop("dataset", _dataset_name(search) or file.name),
        distribution_strategy=reference.distribute if reference else None,
        directory=os.path.dirname(search.directory) or ".",
        project_name=os.path.basename(search.directory),
    )
    arguments = {
        "verbose": 0,
        **{name: settings[name] for name in _FIT_SETTINGS if settings.get(name) is not None},
        **{name: value for name, value in arguments.items() if name != "epochs"},
    }
    names = class_names_of(file, loaded)
    return FinishedSearch(tuner, arguments, part_of(loaded, "test"), names)


def tracker_of(search: SearchInfo, tracking_uri: str | None) -> MLflowTracker:
    """The tracker of a search.

    Args:
        search: The search.
        tracking_uri: Where its runs are stored; None for the tracking URI of the search.

    Raises:
        TrackingError: The search was not tracked, or its tracking URI is not known.
    """
    from keras_nas_plugin import MLflowTracker
    from keras_nas_plugin.tracking.mlflow.sync import check_address

    settings = MLflowTracker.settings_of(search.directory)
    if settings is None:
        raise TrackingError(
            f"`--project-name` must be a search that was logged to MLflow; got {search.name!r}, "
            "which was not. Resume it with `keras-nas search ... --tracking-uri URI`, which logs "
            "its trials."
        )
    if tracking_uri is not None:
        settings = {**settings, "tracking_uri": tracking_uri}
    check_address(settings)
    return MLflowTracker(**settings)


def was_tracked(search: SearchInfo) -> bool:
    """Whether a search has runs in MLflow."""
    from keras_nas_plugin import MLflowTracker

    return MLflowTracker.settings_of(search.directory) is not None


def _dataset_name(search: SearchInfo) -> str | None:
    names = (dataset.name for dataset in search.datasets if dataset.context == "training")
    return next(names, None)

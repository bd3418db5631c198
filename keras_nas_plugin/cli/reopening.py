"""A search that is over, opened again for commands that build its models."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.held_out import part_of
from keras_nas_plugin.cli.origin import load_origin, load_recipe
from keras_nas_plugin.cli.recipe import fit_arguments
from keras_nas_plugin.errors import RetrainingError, TrackingError
from keras_nas_plugin.tracking.records import SearchInfo

if TYPE_CHECKING:
    from keras_nas_plugin import MLflowTracker, NASTuner

# Of a search's settings, those that are arguments of `model.fit`.
_FIT = ("batch_size", "shuffle")


@dataclasses.dataclass(frozen=True)
class Reopened:
    """A search with its tuner and its data.

    Attributes:
        tuner: Knows the trials, and proposes no more.
        data: Arguments of `model.fit`.
        test_data: What the search left alone; None where there is none.
    """

    tuner: NASTuner
    data: dict[str, Any]
    test_data: Any


def recipe_options(command: Callable) -> Callable:
    """`--recipe` and `--data`."""
    command = click.option(
        "--data", metavar="NAME", help="Name of its data function. [default: as in the search]"
    )(command)
    return click.option(
        "--recipe",
        metavar="FILE[:NAME]",
        help="The Python file with build_model(hp) and load_data(). [default: the search's]",
    )(command)


def reopen(
    search: SearchInfo, *, recipe: str | None, data: str | None, tracker: Any = None
) -> Reopened:
    """Open a search with the precision, data and devices that it had.

    Raises:
        click.UsageError: Its file is not known.
        RecipeError: Its file cannot be used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # First: without a Keras backend, this is what says so.
    from keras_nas_plugin import NASTuner
    from keras_nas_plugin.training.ended import EndedOracle

    origin = load_origin(search)
    file = load_recipe(search, recipe, data)
    loaded = file.load()
    arguments = fit_arguments(loaded)
    settings = search.settings
    tuner = NASTuner(
        file.hypermodel,
        EndedOracle(search),
        tracker=tracker,
        precision=search.environment.get("precision"),
        deterministic=bool(settings.get("deterministic")),
        dataset=arguments.pop("dataset", _name_of(search) or file.name),
        distribution_strategy=origin.distribute if origin else None,
        directory=os.path.dirname(search.directory) or ".",
        project_name=os.path.basename(search.directory),
    )
    arguments = {
        "verbose": 0,
        **{name: settings[name] for name in _FIT if settings.get(name) is not None},
        **{name: value for name, value in arguments.items() if name != "epochs"},
    }
    return Reopened(tuner, arguments, part_of(loaded, "test"))


def tracker_of(search: SearchInfo, tracking_uri: str | None) -> MLflowTracker:
    """The tracker of a search, with its address or another one.

    Raises:
        TrackingError: The search was not tracked, or nobody says where.
    """
    from keras_nas_plugin import MLflowTracker
    from keras_nas_plugin.tracking.sync import check_known

    settings = MLflowTracker.settings_of(search.directory)
    if settings is None:
        raise TrackingError(
            f"the search {search.name!r} needs runs in MLflow; it was not tracked. Resume it with "
            "`keras-nas search ... --tracking-uri URI`, which logs its trials."
        )
    if tracking_uri is not None:
        settings = {**settings, "tracking_uri": tracking_uri}
    check_known(settings)
    return MLflowTracker(**settings)


def was_tracked(search: SearchInfo) -> bool:
    """Whether a search has runs in MLflow."""
    from keras_nas_plugin import MLflowTracker

    return MLflowTracker.settings_of(search.directory) is not None


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """What cannot be retrained as asked is wrong usage."""
    try:
        yield
    except RetrainingError as error:
        raise click.UsageError(str(error)) from error


def _name_of(search: SearchInfo) -> str | None:
    return next((one.name for one in search.datasets if one.context == "training"), None)

"""`keras-nas export`: convert a model, and compare what the target's runtime predicts."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin import quiet
from keras_nas_plugin.cli.finished_search import open_search, tracker_of, was_tracked
from keras_nas_plugin.cli.held_out import SPLITS, held_out_data
from keras_nas_plugin.cli.options import (
    find_search,
    project_options,
    store_options,
    usage_errors,
)
from keras_nas_plugin.cli.recipe import DATA_FUNCTION, Recipe, load_arrays, split_arguments
from keras_nas_plugin.errors import ArgumentError, RecipeError, RetrainingError
from keras_nas_plugin.evaluation.names import EXPORT_FORMATS
from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.registry.search_data import data_of_version

if TYPE_CHECKING:
    import keras

    from keras_nas_plugin.export import ExportResult
    from keras_nas_plugin.records.search import SearchInfo
    from keras_nas_plugin.registry.versions import StoredVersion
    from keras_nas_plugin.tracking.mlflow.tracker import MLflowTracker

_BEST = "best"
_QUANTIZATIONS = sorted({q for names in EXPORT_FORMATS.values() for q in names if q})


@dataclasses.dataclass(frozen=True)
class _Source:
    """A model to export, the rows for it, and where the result is logged."""

    model: keras.Model
    name: str
    held_out: tuple[Any, Any] | None
    calibration: Any
    class_names: Any = None
    version: StoredVersion | None = None
    tracker: MLflowTracker | None = None
    run_id: str | None = None


@click.command()
@click.argument("target", metavar="NAME@ALIAS|NAME/VERSION|TRIAL")
@click.option(
    "--format",
    "format_name",
    required=True,
    type=click.Choice(list(EXPORT_FORMATS)),
    help="The format to convert to.",
)
@click.option(
    "--quantize",
    type=click.Choice(_QUANTIZATIONS),
    help="int8: weights and activations, with ranges from training rows. dynamic: weights. "
    "float16: half precision.",
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="Folder for the exported file. [default: exports/NAME/FORMAT]",
)
@click.option(
    "--data",
    metavar="FILE",
    help="Held-out rows to compare on: an .npz with x and y, or a recipe with test data. "
    "[default: those of the search for a trial, the input example for a version]",
)
@click.option("--data-function", metavar="NAME", help="Name of the data function in a recipe.")
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Which rows of the file to compare on.",
)
@click.option(
    "--calibration",
    metavar="FILE",
    help="Training rows for int8. [default: the training rows of the data]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Allowed difference of predictions. [default: that of the format]",
)
@click.option(
    "--max-metric-drop",
    type=float,
    help="Allowed loss of accuracy (relative increase of the error). [default: that of the "
    "format]",
)
@project_options
@click.option(
    "--recipe",
    metavar="FILE[:NAME]",
    help="For a trial: the file with build_model(hp). [default: that of the search]",
)
@click.option("--log/--no-log", default=True, help="Log to the model's run in MLflow (default).")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(
    *,
    target: str,
    format_name: str,
    quantize: str | None,
    output: str | None,
    tolerance: float | None,
    max_metric_drop: float | None,
    log: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Convert a model to another format, and check it in the runtime of that format.

    The model is a version in the registry (NAME@champion, NAME/3), or a trial of a search (its
    id, or `best`). The exported file is loaded by the format's own library, and must predict
    held-out rows as the Keras model does; size, latency and accuracy are measured. All of it is
    logged with the run that trained the model. A model that the format cannot hold is refused,
    with the layer that stands in the way and what to write instead.

    Example: keras-nas export digits@champion --format litert --quantize int8
    --data recipes/image_classification.py
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with (
        contextlib.redirect_stdout(sys.stderr),
        usage_errors(PromotionError, RetrainingError, ArgumentError),
    ):
        with quiet.tensorflow_start():
            import keras  # noqa: F401
        from keras_nas_plugin.export import export_model
        from keras_nas_plugin.export.exporting import label_of
        from keras_nas_plugin.export.table import exporter_of

        exporter_of(format_name, quantize)  # a missing library costs no seconds of loading
        label = label_of(format_name, quantize)
        with _source(target, quantize == "int8", **options) as source:
            result = export_model(
                source.model,
                format_name,
                Path(output or Path("exports", source.name, label)),
                quantize=quantize,
                data=source.held_out,
                calibration=source.calibration,
                tolerance=tolerance,
                max_metric_drop=max_metric_drop,
                class_names=source.class_names,
            )
            logged = _log(source, result) if log else None
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(result), "logged": logged}, indent=2))
    else:
        _print(result, logged)
    return 0


@contextlib.contextmanager
def _source(
    target: str,
    calibrates: bool,
    *,
    data: str | None,
    data_function: str | None,
    split: str,
    calibration: str | None,
    directory: str,
    project_name: str | None,
    recipe: str | None,
    tracking_uri: str | None,
    registry_uri: str | None,
) -> Iterator[_Source]:
    from keras_nas_plugin.registry.versions import is_version, stored_version

    function = data_function or DATA_FUNCTION
    given = _training_rows(calibration, function, held_out=False) if calibration else None
    if not is_version(target):
        search = find_search(directory, project_name)
        yield _trial(search, target, recipe, data, data_function, split, given, tracking_uri)
        return
    with stored_version(target, tracking_uri, registry_uri) as version:
        held_out = None
        if data is not None:
            recorded = functools.partial(
                data_of_version,
                version.name,
                version.version,
                tracking_uri=tracking_uri,
                registry_uri=registry_uri,
            )
            held_out = held_out_data(data, function=function, split=split, search_data=recorded)
            if calibrates and given is None:
                given = _training_rows(data, function, held_out=True)
        example = version.input_example() if held_out is None else None
        yield _Source(
            model=version.keras_model(),
            name=version.name,
            held_out=held_out if example is None else (example, None),
            calibration=given,
            class_names=version.class_names(),
            version=version,
            run_id=version.run_id,
        )


def _trial(
    search: SearchInfo,
    target: str,
    recipe: str | None,
    data: str | None,
    data_function: str | None,
    split: str,
    calibration: object,
    tracking_uri: str | None,
) -> _Source:
    from keras_nas_plugin.retraining.results import SearchResults
    from keras_nas_plugin.training.costing import export_rows
    from keras_nas_plugin.training.fit_arguments import FitArguments

    tracker = tracker_of(search, tracking_uri) if was_tracked(search) else None
    opened = open_search(
        search, recipe=recipe, data=data, data_function=data_function, tracker=tracker
    )
    results = SearchResults(opened.tuner, tracker)
    trial = results.finished_trial(None if target == _BEST else target)
    rows = export_rows(FitArguments.bind((), opened.data, opened.tuner.hypermodel))
    held_out = opened.test_data if split == "test" else None
    if held_out is None:
        held_out = None if rows.x is None else (rows.x, rows.y)
        if split == "test" and held_out is not None:
            click.echo("There are no test rows: validation rows are compared.", err=True)
    model = opened.tuner.load_model(trial)
    return _Source(
        model=model,
        name=f"{search.name}-{trial.trial_id}",
        held_out=held_out,
        calibration=rows.calibration if calibration is None else calibration,
        class_names=opened.class_names,
        tracker=tracker,
        run_id=None if tracker is None else tracker.find_run(search, trial.trial_id),
    )


def _training_rows(path: str, function: str, *, held_out: bool) -> Any:
    """The first training inputs of a file, to calibrate with.

    Args:
        path: An `.npz` file or a recipe.
        function: Name of the data function of the recipe.
        held_out: Whether the rows of an `.npz` file without further parts are held out.
    """
    from keras_nas_plugin.evaluation.datasets import sample_rows
    from keras_nas_plugin.export.exporting import CALIBRATION_ROWS

    is_npz = path.endswith(".npz")
    loaded = load_arrays(Path(path)) if is_npz else Recipe(path, function).load()
    if held_out and is_npz and hasattr(loaded[0], "shape"):
        raise RecipeError(
            "`--calibration` must be a file with training rows for `--quantize int8`, since all "
            f"rows of {path!r} are held out; got none"
        )
    return sample_rows(split_arguments(loaded, None)[0]["x"], CALIBRATION_ROWS)


def _log(source: _Source, result: ExportResult) -> str | None:
    """Log an export to the run of its model; where it is among the artifacts, or None."""
    from keras_nas_plugin.export.exporting import DESCRIPTION
    from keras_nas_plugin.registry.versions import log_export, tag_export
    from keras_nas_plugin.tracking.mlflow.client import connect

    if source.run_id is None:
        click.echo("The model has no run in MLflow: nothing is logged.", err=True)
        return None
    if source.version is not None:
        uri = source.version.tracking_uri
        client = connect(uri, source.version.registry_uri)
    elif source.tracker is not None:
        uri = source.tracker.tracking_uri
        client = connect(uri, source.tracker.registry_uri)
    else:
        return None
    paths = [result.path, Path(result.folder, DESCRIPTION)]
    folder = log_export(client, uri, source.run_id, result.label, paths)
    if source.version is not None:
        summary = {**result.figures(), "artifact": folder, "run_id": source.run_id}
        tag_export(client, source.version, result.format, result.label, summary)
    return folder


def _print(result: ExportResult, logged: str | None) -> None:
    click.echo(f"{result.label}: {result.path} ({result.bytes:,} bytes, {result.runtime})")
    click.echo(
        f"  largest difference {result.largest_difference:.2g}, mean "
        f"{result.mean_difference:.2g} on {result.rows:,} rows"
    )
    if result.metric is not None:
        click.echo(f"  {result.metric} {result.score:.4f} (Keras {result.keras_score:.4f})")
    click.echo(
        f"  latency {result.latency_p50_ms:.3f} ms (p95 {result.latency_p95_ms:.3f} ms), one row, "
        "one thread"
    )
    if logged is not None:
        click.echo(f"  logged to the run of the model: {logged}")

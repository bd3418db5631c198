"""`keras-nas search`: search the architectures of a user's file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.executors import ExecutorChoice, executor_options
from keras_nas_plugin.cli.init import searched_file, source_options
from keras_nas_plugin.cli.options import (
    DIRECTORY,
    Duration,
    class_names_option,
    data_options,
    find_search,
    usage_errors,
)
from keras_nas_plugin.cli.recipe import (
    DATA_FUNCTION,
    Recipe,
    class_names_of,
    locate,
    split_arguments,
)
from keras_nas_plugin.cli.recipe_reference import reference_to
from keras_nas_plugin.cli.results import (
    excluded_text,
    number_text,
    search_result,
    trial_result,
    values_text,
)
from keras_nas_plugin.cli.running import exit_code, interruptible, set_up_logging
from keras_nas_plugin.cli.split import SPLIT_SEED
from keras_nas_plugin.cli.strategy import (
    OracleSettings,
    build_oracle,
    parse_objectives,
    strategy_options,
)
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.evaluation.names import EXPORTED
from keras_nas_plugin.files import json_value
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.program import RecipeReference, digest_of
from keras_nas_plugin.records.search import InfeasibleSummary
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.registry.aliases import CHALLENGER
from keras_nas_plugin.registry.names import check_alias, check_name
from keras_nas_plugin.tracking.mlflow.client import public_uri

if TYPE_CHECKING:
    from keras_nas_plugin import MLflowTracker, NASTuner

logger = logging.getLogger("keras_nas_plugin")

_FAILED, _NO_TRIAL = 1, 3
_STOP_REASONS = {
    "budget": ", the budget is used up",
    "infeasible": ", no further candidate satisfies the constraints",
}
_PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(OracleSettings):
    """All options of the command."""

    file: str
    data: str | None
    data_function: str | None
    objectives: tuple[str, ...]
    direction: str | None
    measure: tuple[str, ...]
    latency_table: str | None
    batch_size: int | None
    executions_per_trial: int
    inherit: str | None
    inherit_epochs: int | None
    max_model_size: int | None
    budget: float | None
    precision: str | None
    distribute: str | None
    deterministic: bool
    directory: str
    project_name: str | None
    experiment: str | None
    tracking: bool
    register: str | None
    alias: str
    class_names: tuple[str, ...] | None
    as_json: bool
    on_change: str
    retry_failed: bool
    executor_choice: ExecutorChoice


@click.command()
@click.argument("file", metavar="FILE[:NAME]")
@source_options
@data_options(default="FILE")
@strategy_options
@click.option(
    "--measure",
    multiple=True,
    type=click.Choice(["latency", "energy", *EXPORTED]),
    metavar="COST",
    help="Measure this for each trial's model: latency, energy, or a property of the exported "
    "model such as litert_int8_bytes or litert_int8_accuracy. Repeatable.",
)
@click.option(
    "--latency-table",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Latencies of operations on a device, for the cost device_latency_ms.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Epochs of each trial; for `halving` and `hyperband`, the maximum.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Rows per step. [default: as in Keras]",
)
@click.option(
    "--executions-per-trial",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of trainings of each trial; their scores are averaged.",
)
@click.option(
    "--inherit",
    type=click.Choice(["parent"]),
    help="Start trials from the weights of the trial that the strategy derived them from.",
)
@click.option(
    "--inherit-epochs",
    type=click.IntRange(min=1),
    help="Epochs of trials that start so. [default: --epochs]",
)
@click.option(
    "--max-model-size",
    type=click.IntRange(min=1),
    help="Maximum number of trainable parameters; larger models fail.",
)
@click.option("--budget", type=Duration(), help="Wall-clock limit, for example 90s, 30m or 1h30m.")
@executor_options
@click.option("--precision", type=click.Choice(_PRECISIONS), help="Keras dtype policy.")
@click.option("--distribute", type=click.Choice(["mirrored"]), help="Use all GPUs for each trial.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the proposals.")
@click.option("--deterministic", is_flag=True, help="Make training reproducible as well (slower).")
@click.option("--directory", default=DIRECTORY, show_default=True, help="Folder of all searches.")
@click.option("--project-name", help="Name of the search. [default: the name of FILE]")
@click.option(
    "--resume/--overwrite",
    "resume",
    default=True,
    help="Resume an earlier search of that name (default), or delete it first.",
)
@click.option(
    "--on-change",
    type=click.Choice(["continue", "error"]),
    default="continue",
    show_default=True,
    help="What to do if the search space, epochs or data are not those of the earlier search: "
    "continue as FILE is now, or end with the differences.",
)
@click.option("--retry-failed", is_flag=True, help="First run the failed trials again.")
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="Tracking URI of MLflow. [default: as in MLflow]",
)
@click.option("--experiment", help="MLflow experiment. [default: the name of the search]")
@click.option("--tracking/--no-tracking", default=True, help="Log trials to MLflow (default).")
@click.option("--register", metavar="NAME", help="Register the best model under this name.")
@click.option(
    "--alias", default=CHALLENGER, show_default=True, help="Alias of the registered model."
)
@class_names_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."
)
@click.pass_context
def search(context: click.Context, *, resume: bool, **options: Any) -> int:
    """Search the architectures of FILE, a Python file with build_model(hp) and load_data().

    FILE:NAME uses another function, or a HyperModel, instead of build_model. FILE may also be the
    name of a recipe of this package, or data as for `keras-nas init`: their recipe is written
    first.

    Example: keras-nas search recipes/image_classification.py --max-trials 12 --epochs 3
    """
    default = context.get_parameter_source("max_trials") is click.core.ParameterSource.DEFAULT
    fields = [field.name for field in dataclasses.fields(ExecutorChoice)]
    choice = ExecutorChoice(**{name: options.pop(name) for name in fields})
    source = {name: options.pop(name) for name in ("target", "task", "time", "horizon")}
    settings = Settings(
        overwrite=not resume, max_trials_given=not default, executor_choice=choice, **options
    )
    if settings.register and not settings.tracking:
        raise click.UsageError(
            "`--register` must not be combined with `--no-tracking`, since it needs MLflow; "
            "got both"
        )
    if settings.class_names and settings.register is None:
        raise click.UsageError(
            "`--class-names` must be combined with `--register`, since they are stored with the "
            "registered model; got no `--register`"
        )
    if settings.inherit_epochs and settings.inherit is None:
        raise click.UsageError(
            "`--inherit-epochs` must be combined with `--inherit parent`; got no `--inherit`"
        )
    settings.executor_choice.check()
    settings = dataclasses.replace(settings, file=searched_file(settings.file, **source))
    if settings.register is not None:
        with usage_errors(TrackingError):  # before anything is trained
            check_name(settings.register)
            check_alias(settings.alias)
    command = _resume_command(context)
    set_up_logging()
    with interruptible() as signals:
        try:
            # Keras and user code print; standard output is reserved for the result.
            with contextlib.redirect_stdout(sys.stderr):
                result = _run(settings, command)
        except KeyboardInterrupt:
            click.echo(
                f"\nInterrupted. All finished trials are kept; to resume the search:\n  {command}",
                err=True,
            )
            return exit_code(signals)
    if settings.as_json:
        click.echo(json.dumps(json_value(result), indent=2))
    else:
        _print_result(result)
    if result["error"]:
        click.echo(f"Error: {result['error']}\nTo try again:\n  {command}", err=True)
        return _FAILED
    return 0 if result["best"] else _NO_TRIAL


def _resume_command(context: click.Context) -> str:
    """The command that resumes this search, with a tracking URI from the environment.

    It contains no password: terminals and MLflow store the command.
    """
    once = ("--overwrite", "--resume", "--retry-failed")
    words = [word for word in sys.argv[1:] if word not in once]
    source = context.get_parameter_source("tracking_uri")
    uri = context.params["tracking_uri"]
    if source is click.core.ParameterSource.ENVIRONMENT and public_uri(uri) == uri:
        words += ["--tracking-uri", uri]
    if uri:
        words = [word.replace(uri, public_uri(uri)) for word in words]
    return shlex.join(["keras-nas", *words, "--resume"])


def _run(settings: Settings, command: str) -> dict[str, Any]:
    locate(settings.file)  # fails before seconds of imports
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from rich.console import Console

    # Imported first, because this raises the error about a missing Keras backend.
    from keras_nas_plugin import Inheritance, MLflowTracker, NASTuner
    from keras_nas_plugin.registry.interface import checked_class_names
    from keras_nas_plugin.tracking.progress import ProgressDisplay

    recipe = Recipe(settings.file, settings.data_function or DATA_FUNCTION, settings.data)
    objective = parse_objectives(
        settings.objectives, settings.direction, recipe.objective or "val_loss"
    )
    project_name = settings.project_name or recipe.name
    oracle = build_oracle(settings, objective, Path(settings.directory) / project_name)
    tracker = None
    if settings.tracking:
        experiment = settings.experiment or project_name
        tracker = MLflowTracker(experiment, tracking_uri=settings.tracking_uri)
    split_seed = _resumed_split_seed(settings, recipe, Path(settings.directory) / project_name)
    loaded = recipe.load()
    data, split = split_arguments(loaded, split_seed)
    if split is not None:
        click.echo(str(split), err=True)
    class_names = settings.class_names or class_names_of(recipe, loaded)
    if settings.register and class_names is not None:
        checked_class_names(class_names)  # before anything is trained
    display = ProgressDisplay(Console(stderr=True), settings.epochs, settings.budget)
    tuner = NASTuner(
        recipe.hypermodel,
        oracle=oracle,
        tracker=tracker,
        listeners=[display],
        measure=_measure(settings),
        precision=settings.precision,
        deterministic=settings.deterministic,
        budget=settings.budget,
        dataset=data.pop("dataset", recipe.name),
        # Stored where others can read it; it contains no password.
        resume_command=command,
        executions_per_trial=settings.executions_per_trial,
        inherit=Inheritance(settings.inherit_epochs) if settings.inherit else None,
        max_model_size=settings.max_model_size,
        distribution_strategy=settings.distribute,
        directory=settings.directory,
        project_name=project_name,
        overwrite=settings.overwrite,
        on_change=settings.on_change,
        retry_failed=settings.retry_failed,
        executor=settings.executor_choice.settings(),
    )
    if split is not None:
        tuner.data_settings = split.settings()
    reference = reference_to(recipe, distribute=settings.distribute, split_seed=split_seed)
    reference.save(tuner.project_dir)
    if settings.executor_choice.has_workers:
        recipe.pickle_by_value()
        data = recipe.loaded_in_workers(data, split_seed)
    arguments = {"epochs": settings.epochs, "verbose": 0, **data}
    if settings.batch_size is not None:
        arguments["batch_size"] = settings.batch_size
    tuner.search(**arguments)
    return _result(settings, tuner, tracker, class_names)


def _measure(settings: Settings) -> list[Any]:
    """The costs to measure: names, and the table of a device."""
    if settings.latency_table is None:
        return [*settings.measure]
    from keras_nas_plugin.export.latency_table import LatencyTable

    return [*settings.measure, LatencyTable.load(settings.latency_table)]


def _resumed_split_seed(settings: Settings, recipe: Recipe, folder: Path) -> int | None:
    """Seed of the validation rows; warns if the file of a resumed search has changed.

    All new searches draw the same rows, so that their scores can be compared. A search that is
    resumed keeps its own.
    """
    existing = None if settings.overwrite else RecipeReference.read(folder)
    if existing is None:
        return SPLIT_SEED
    if Path(existing.file) == recipe.path.resolve() and existing.digest != digest_of(recipe.path):
        logger.warning(
            "%s has changed since the search was run last. Other spaces, data and settings are "
            "noticed, but other models of the same space are not: if the change makes scores "
            "incomparable, start again with --overwrite or another --project-name.",
            recipe.path,
        )
    return existing.split_seed


def _result(
    settings: Settings,
    tuner: NASTuner,
    tracker: MLflowTracker | None,
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Register the best model if requested, and collect the results of the search."""
    folder, problem = Path(tuner.project_dir), None
    best = _best(tuner)
    if settings.register and best is not None:
        try:
            tuner.register_best(settings.register, alias=settings.alias, class_names=class_names)
        except TrackingError as error:
            problem = str(error)
    search = find_search(settings.directory, folder.name)
    result = search_result(search)
    result["best"] = None if best is None else trial_result(search, best)
    result["error"] = problem
    result["stopped_by"] = tuner.stopped_by
    result["ui_command"] = tracker.ui_command() if tracker else None
    result["view_url"] = tracker.view_url if tracker else None
    result["searches_view_url"] = tracker.searches_view_url if tracker else None
    report = ProjectLayout.of(folder).report
    result["report"] = str(report) if report.exists() else None
    return result


def _best(tuner: NASTuner) -> TrialRecord | None:
    """The best trial according to its oracle, which respects constraints and fidelities."""
    best = tuner.oracle.get_best_trials(1)
    # KerasTuner's own oracles return failed trials if too few completed.
    if not best or best[0].status != "COMPLETED":
        return None
    return TrialRecord.load(tuner.get_trial_dir(best[0].trial_id))


def _print_result(result: Mapping[str, Any]) -> None:
    counts, best = result["trials"], result["best"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    reason = _STOP_REASONS.get(result["stopped_by"], "")
    trials = "1 trial" if counts["finished"] == 1 else f"{counts['finished']} trials"
    click.echo(f"{trials} finished{failed}{reason}.")
    if result["infeasible"]["count"]:
        click.echo(str(InfeasibleSummary(**result["infeasible"])))
    if result.get("excluded"):
        click.echo(excluded_text(result["excluded"]))
    if best is None:
        if counts["failed"]:
            click.echo(
                "`keras-nas trials --failed` shows the errors. Fix them, then run again with "
                "--retry-failed."
            )
        return
    click.echo(f"Best: trial {best['trial_id']}, {result['objective']} {best['score']:.4f}")
    click.echo(f"  {values_text(best['values'])}")
    costs = ", ".join(f"{name} {number_text(value)}" for name, value in best["costs"].items())
    click.echo(f"  {costs}")
    if result["model"]:
        model = result["model"]
        click.echo(f"Registered: models:/{model['name']}@{model['alias']} ({model['model_uri']})")
    if result["ui_command"]:
        click.echo(f"Compare trials: {result['ui_command']}")
    if result["view_url"]:
        click.echo(f"  charts: {result['view_url']}")
    if result["searches_view_url"]:
        click.echo(f"Compare searches: {result['searches_view_url']}")
    if result["report"]:
        click.echo(f"Report: {result['report']}")

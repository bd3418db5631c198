"""`keras-nas search`: run a search over a user's file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from keras_nas_plugin.cli.options import DIRECTORY, Duration
from keras_nas_plugin.cli.origin import save_origin
from keras_nas_plugin.cli.recipe import Recipe, locate
from keras_nas_plugin.cli.results import (
    number_text,
    plain,
    search_result,
    trial_result,
    values_text,
)
from keras_nas_plugin.cli.running import exit_code, interruptible, set_up_logging
from keras_nas_plugin.cli.strategy import build_oracle, parse_objectives, strategy_options
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.tracking.connection import public_uri
from keras_nas_plugin.tracking.records import REPORT, Refused, SearchInfo, TrialRecord

_FAILED, _NO_TRIAL = 1, 3
_ENDS = {
    "budget": ", the budget is used up",
    "infeasible": ", nothing else that keeps the constraints was found",
}
_PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the command was told."""

    file: str
    data: str
    strategy: str
    source: str | None
    max_trials: int
    max_trials_given: bool
    objectives: tuple[str, ...]
    direction: str | None
    warm_start: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    measure: tuple[str, ...]
    epochs: int
    batch_size: int | None
    executions_per_trial: int
    max_model_size: int | None
    budget: float | None
    precision: str | None
    distribute: str | None
    seed: int | None
    deterministic: bool
    directory: str
    project_name: str | None
    overwrite: bool
    tracking_uri: str | None
    experiment: str | None
    tracking: bool
    register: str | None
    alias: str
    as_json: bool


@click.command()
@click.argument("file", metavar="FILE[:NAME]")
@click.option("--data", default="load_data", show_default=True, help="Name of the data function.")
@strategy_options
@click.option(
    "--measure",
    multiple=True,
    type=click.Choice(["latency", "energy"]),
    help="Measure this of each trial's model. Repeatable.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1))
@click.option("--executions-per-trial", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--max-model-size", type=click.IntRange(min=1), help="Most trainable parameters.")
@click.option("--budget", type=Duration(), help="Wall clock, for example 90s, 30m or 1h30m.")
@click.option("--precision", type=click.Choice(_PRECISIONS), help="Keras dtype policy.")
@click.option("--distribute", type=click.Choice(["mirrored"]), help="Use all GPUs per trial.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same proposals.")
@click.option("--deterministic", is_flag=True, help="Also the same trainings (slower).")
@click.option("--directory", default=DIRECTORY, show_default=True, help="Folder of all searches.")
@click.option("--project-name", help="The search's name. [default: that of FILE]")
@click.option(
    "--resume/--overwrite",
    "resume",
    default=True,
    help="Go on with an earlier search of that name (default), or delete it.",
)
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="[default: MLflow's own]")
@click.option("--experiment", help="MLflow experiment. [default: the search's name]")
@click.option("--tracking/--no-tracking", default=True, help="Log trials to MLflow (default).")
@click.option("--register", metavar="NAME", help="Register the best model under this name.")
@click.option("--alias", default="challenger", show_default=True, help="Of the registered model.")
@click.option("--json", "as_json", is_flag=True, help="Result as JSON on standard output.")
@click.pass_context
def search(context: click.Context, *, resume: bool, **options: Any) -> int:
    """Search the architectures of FILE, a Python file with build_model(hp) and load_data().

    FILE:NAME takes another function, or a HyperModel, instead of build_model. Recipes that
    come with the package are found by name.

    Example: keras-nas search recipes/image_classification.py --max-trials 12 --epochs 3
    """
    default = context.get_parameter_source("max_trials") is click.core.ParameterSource.DEFAULT
    settings = Settings(overwrite=not resume, max_trials_given=not default, **options)
    if settings.register and not settings.tracking:
        raise click.UsageError("`--register` needs MLflow; received `--no-tracking`")
    command = _resume_command(context)
    set_up_logging()
    with interruptible() as signals:
        try:
            # Keras and user code print; standard output belongs to the result.
            with contextlib.redirect_stdout(sys.stderr):
                result = _run(settings, command, signals)
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. All finished trials are kept; this goes on with the search:\n"
                f"  {command}",
                err=True,
            )
            return exit_code(signals)
    if settings.as_json:
        click.echo(json.dumps(plain(result), indent=2))
    else:
        _print_result(result)
    if result["error"]:
        click.echo(f"Error: {result['error']}\nTry again with:\n  {command}", err=True)
        return _FAILED
    return 0 if result["best"] else _NO_TRIAL


def _resume_command(context: click.Context) -> str:
    """What goes on with this search; an address from the environment becomes part of it.

    A password in an address does not: terminals keep logs.
    """
    words = [word for word in sys.argv[1:] if word not in ("--overwrite", "--resume")]
    source = context.get_parameter_source("tracking_uri")
    uri = context.params["tracking_uri"]
    if source is click.core.ParameterSource.ENVIRONMENT and public_uri(uri) == uri:
        words += ["--tracking-uri", uri]
    if uri:
        words = [word.replace(uri, public_uri(uri)) for word in words]
    return shlex.join(["keras-nas", *words, "--resume"])


def _run(settings: Settings, command: str, signals: list[int]) -> dict[str, Any]:
    locate(settings.file)  # before seconds of imports
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from rich.console import Console

    # First: without a Keras backend, this is what says so.
    from keras_nas_plugin import MLflowTracker, NASTuner
    from keras_nas_plugin.cli.progress import Interrupter, ProgressDisplay

    recipe = Recipe(settings.file, settings.data)
    default = recipe.objective or "val_loss"
    objective = parse_objectives(settings.objectives, settings.direction, default)
    project_name = settings.project_name or recipe.name
    oracle = build_oracle(settings, objective, Path(settings.directory) / project_name)
    tracker = None
    if settings.tracking:
        experiment = settings.experiment or project_name
        tracker = MLflowTracker(experiment, tracking_uri=settings.tracking_uri)
    data = recipe.fit_arguments()
    display = ProgressDisplay(Console(stderr=True), settings.epochs, settings.budget)
    tuner = NASTuner(
        recipe.hypermodel,
        oracle=oracle,
        tracker=tracker,
        listeners=[display, Interrupter(signals)],
        measure=settings.measure,
        precision=settings.precision,
        deterministic=settings.deterministic,
        budget=settings.budget,
        dataset=data.pop("dataset", recipe.name),
        # Stored where others read it: without a password.
        resume_command=command,
        executions_per_trial=settings.executions_per_trial,
        max_model_size=settings.max_model_size,
        distribution_strategy=settings.distribute,
        directory=settings.directory,
        project_name=project_name,
        overwrite=settings.overwrite,
    )
    save_origin(tuner.project_dir, recipe, distribute=settings.distribute)
    arguments = {"epochs": settings.epochs, "verbose": 0, **data}
    if settings.batch_size is not None:
        arguments["batch_size"] = settings.batch_size
    tuner.search(**arguments)
    return _result(settings, tuner, tracker)


def _result(settings: Settings, tuner: Any, tracker: Any) -> dict[str, Any]:
    """Register the best model if wanted, and gather what the search came to."""
    folder, problem = Path(tuner.project_dir), None
    best = _best(tuner)
    if settings.register and best is not None:
        try:
            tuner.register_best(settings.register, alias=settings.alias)
        except TrackingError as error:
            problem = str(error)
    search = SearchInfo.load(folder)
    result = search_result(search)
    result["best"] = None if best is None else trial_result(search, best)
    result["error"] = problem
    result["stopped_by"] = tuner.stopped_by
    result["ui_command"] = tracker.ui_command() if tracker else None
    result["view_url"] = tracker.view_url if tracker else None
    report = folder / REPORT
    result["report"] = str(report) if report.exists() else None
    return result


def _best(tuner: Any) -> TrialRecord | None:
    """The best trial as its oracle sees it, which knows of constraints and of epochs."""
    best = tuner.oracle.get_best_trials(1)
    # KerasTuner's own oracles fill up with trials that failed.
    if not best or best[0].status != "COMPLETED":
        return None
    return TrialRecord.load(tuner.get_trial_dir(best[0].trial_id))


def _print_result(result: dict[str, Any]) -> None:
    counts, best = result["trials"], result["best"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    reason = _ENDS.get(result["stopped_by"], "")
    click.echo(f"{counts['finished']} trials finished{failed}{reason}.")
    if result["infeasible"]["count"]:
        click.echo(str(Refused(**result["infeasible"])))
    if best is None:
        if counts["failed"]:
            click.echo("`keras-nas trials --failed` says why. Mend it and start over: --overwrite")
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
    if result["report"]:
        click.echo(f"Report: {result['report']}")

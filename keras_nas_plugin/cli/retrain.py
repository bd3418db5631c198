"""`keras-nas retrain`: train the best model again on all data."""

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
    was_tracked,
)
from keras_nas_plugin.cli.options import find_search, project_options, usage_errors
from keras_nas_plugin.cli.running import exit_code, interruptible, set_up_logging
from keras_nas_plugin.errors import RetrainingError
from keras_nas_plugin.files import json_value
from keras_nas_plugin.records.retraining import HELD_OUT, RetrainConfig, Retraining

if TYPE_CHECKING:
    from keras_nas_plugin.records.search import SearchInfo

_NOT_LOGGED = 1


@click.command()
@project_options
@click.option(
    "--trial", "trial_id", metavar="ID", help="The trial to retrain. [default: the best]"
)
@recipe_options
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=RetrainConfig.seeds,
    show_default=True,
    help="Number of models to train, each with its own seed.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Seed of the first model. [default: that of the search]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs of each training. [default: as many as the trial took to its best epoch]",
)
@click.option(
    "--hold-out",
    type=float,
    metavar="FRACTION",
    help="Without test data: measure on this part of the validation rows instead of training on "
    "them.",
)
@click.option("--overwrite", is_flag=True, help="Delete previously retrained models first.")
@click.option(
    "--tracking-uri", metavar="URI", help="Tracking URI of MLflow. [default: that of the search]"
)
@click.option("--tracking/--no-tracking", default=True, help="Log runs to MLflow (default).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def retrain(
    directory: str,
    project_name: str | None,
    trial_id: str | None,
    recipe: str | None,
    data: str | None,
    data_function: str | None,
    tracking_uri: str | None,
    tracking: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train the best model of a search again, on its training and validation data together.

    The data come from the recipe of the search. If it has test data, the searched and the
    retrained models are measured on them. Running the command again trains only models that are
    missing.

    Example: keras-nas retrain --project-name image_classification --seeds 3
    """
    search = find_search(directory, project_name)
    set_up_logging()
    with interruptible() as signals:
        try:
            with contextlib.redirect_stdout(sys.stderr), usage_errors(RetrainingError):
                tracked = tracking and (tracking_uri is not None or was_tracked(search))
                tracker = tracker_of(search, tracking_uri) if tracked else None
                config = RetrainConfig(**options)
                opened = open_search(
                    search, recipe=recipe, data=data, data_function=data_function, tracker=tracker
                )
                result = opened.tuner.retrain_best(
                    config=config, trial_id=trial_id, test_data=opened.test_data, **opened.data
                )
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. Finished models are kept; the same command trains the others.",
                err=True,
            )
            return exit_code(signals)
    if as_json:
        click.echo(json.dumps(json_value(_json_result(result)), indent=2))
    else:
        _print(search, result)
    if tracked and not all(model.run_id for model in result.models):
        click.echo(
            "Error: some models were not logged to MLflow; the same command logs them.", err=True
        )
        return _NOT_LOGGED
    return 0


def _json_result(result: Retraining) -> dict[str, Any]:
    return {
        **dataclasses.asdict(result),
        "metric": result.metric,
        "scores": result.scores,
        "mean": result.mean,
        "standard_deviation": result.deviation,
    }


def _print(search: SearchInfo, result: Retraining) -> None:
    several = len(result.models) > 1
    seeds = f"{len(result.models)} seeds" if several else f"seed {result.kept.seed}"
    rows = f" on {result.rows:,} rows" if result.rows else ""
    epochs = ""
    if result.epochs:
        epochs = f" for {result.epochs} epoch{'' if result.epochs == 1 else 's'}"
    click.echo(
        f"{search.name}: trial {result.trial_id} retrained{rows} (training and validation)"
        f"{epochs}, {seeds}"
    )
    table = _table(result)
    width = max(len(label) for label, _, _ in table)
    for label, value, remark in table:
        number = "unknown" if value is None else f"{value:.4g}"
        click.echo(f"  {label:<{width}}  {number:>8}  {remark}".rstrip())
    for remark in result.remarks:
        click.echo(remark)
    if result.measured_on is None:
        click.echo(
            "There are no test data, and a score on training rows does not show how good a model "
            "is: return a third split from load_data(), or use --hold-out 0.2."
        )
    if result.searched_is_better:
        click.echo(
            "The searched model is better on these rows: `keras-nas register NAME`, without "
            "--retrained, registers it."
        )
    if result.measured_on == HELD_OUT:
        click.echo(
            "The search chose the architecture and the number of epochs by the held-out rows: "
            "both models score higher on them than on new rows."
        )
    for model in result.models:
        if model.run_id:
            click.echo(f"MLflow run of seed {model.seed}: {model.run_id}")


def _table(result: Retraining) -> list[tuple[str, float | None, str]]:
    """Label, score and remark of the searched and the retrained models."""
    table = [
        (
            f"searched, {result.objective}",
            result.searched.get(result.objective),
            "on validation rows, by which it was chosen: optimistic",
        )
    ]
    if result.measured_on is None:
        return [*table, (f"retrained, {result.metric}", None, "")]
    rows = f"{result.measured_on} rows"
    if result.measured_rows:
        rows = f"{result.measured_rows:,} {rows}"
    searched_score = result.searched_scores.get(result.metric)
    table.append((f"searched, {result.metric}", searched_score, f"on {rows}"))
    for index, model in enumerate(result.models):
        mark = ", kept" if index == 0 and len(result.models) > 1 else ""
        score = model.scores.get(result.metric)
        table.append((f"retrained, {result.metric}", score, f"on {rows}, seed {model.seed}{mark}"))
    if result.deviation is not None:
        spread = f"mean of {len(result.models)} seeds, standard deviation {result.deviation:.2g}"
        table.append((f"retrained, {result.metric}", result.mean, spread))
    return table

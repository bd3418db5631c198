"""`keras-nas retrain`: the winner, trained again on all data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.reopening import (
    recipe_options,
    reopen,
    tracker_of,
    usage_errors,
    was_tracked,
)
from keras_nas_plugin.cli.results import plain
from keras_nas_plugin.cli.running import exit_code, interruptible, set_up_logging
from keras_nas_plugin.tracking.retraining import HELD_OUT, Retraining

if TYPE_CHECKING:
    from keras_nas_plugin.tracking.records import SearchInfo

_NOT_LOGGED = 1


@click.command()
@project_options
@click.option("--trial", "trial_id", metavar="ID", help="Another trial than the best.")
@recipe_options
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many trainings."
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Of the first training. [default: the search's]"
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="How long. [default: as long as the trial needed to its best epoch]",
)
@click.option(
    "--hold-out",
    type=float,
    metavar="FRACTION",
    help="Without test data: measure on this part of the validation rows, and do not learn them.",
)
@click.option("--overwrite", is_flag=True, help="Delete what was retrained before.")
@click.option("--tracking-uri", metavar="URI", help="[default: where the search logged]")
@click.option("--tracking/--no-tracking", default=True, help="Log runs to MLflow (default).")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def retrain(
    directory: str,
    project_name: str | None,
    recipe: str | None,
    data: str | None,
    tracking_uri: str | None,
    tracking: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train the winner of a search again, on its training and validation data together.

    The data are those of the file that was searched. Where it has test data, the searched and
    the retrained models are measured on them. Calling it again trains what is missing.

    Example: keras-nas retrain --project-name image_classification --seeds 3
    """
    search = find_search(directory, project_name)
    set_up_logging()
    with interruptible() as signals:
        try:
            with contextlib.redirect_stdout(sys.stderr), usage_errors():
                tracked = tracking and (tracking_uri is not None or was_tracked(search))
                tracker = tracker_of(search, tracking_uri) if tracked else None
                opened = reopen(search, recipe=recipe, data=data, tracker=tracker)
                done = opened.tuner.retrain_best(
                    test_data=opened.test_data, **options, **opened.data
                )
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. What was retrained is kept; the same command trains the rest.",
                err=True,
            )
            return exit_code(signals)
    if as_json:
        click.echo(json.dumps(plain(_result(done)), indent=2))
    else:
        _print(search, done)
    if tracked and not all(model.run_id for model in done.models):
        click.echo("Error: MLflow has not got all of it; the same command sends it.", err=True)
        return _NOT_LOGGED
    return 0


def _result(done: Retraining) -> dict[str, Any]:
    return {
        **dataclasses.asdict(done),
        "metric": done.metric,
        "scores": done.scores,
        "mean": done.mean,
        "standard_deviation": done.deviation,
    }


def _print(search: SearchInfo, done: Retraining) -> None:
    seeds = f"{len(done.models)} seeds" if len(done.models) > 1 else f"seed {done.kept.seed}"
    rows = f" on {done.rows:,} rows" if done.rows else ""
    epochs = f" for {done.epochs} epochs" if done.epochs else ""
    click.echo(
        f"{search.name}: trial {done.trial_id} retrained{rows} (training and validation)"
        f"{epochs}, {seeds}"
    )
    table = _table(search, done)
    width = max(len(what) for what, _, _ in table)
    for what, value, remark in table:
        number = "unknown" if value is None else f"{value:.4g}"
        click.echo(f"  {what:<{width}}  {number:>8}  {remark}".rstrip())
    for remark in done.remarks:
        click.echo(remark)
    if done.measured_on is None:
        click.echo(
            "There are no test data, and rows that a model learned from say nothing of it: return "
            "a third split from load_data(), or give --hold-out 0.2."
        )
    if done.measured_on == HELD_OUT:
        click.echo(
            "The held-out rows chose the searched model, its architecture and its epochs: both "
            "models look better on them than on new rows."
        )
    for model in done.models:
        if model.run_id:
            click.echo(f"MLflow run of seed {model.seed}: {model.run_id}")


def _table(search: SearchInfo, done: Retraining) -> list[tuple[str, float | None, str]]:
    """The searched and the retrained score side by side."""
    chosen = done.searched.get(done.objective)
    table = [
        (f"searched, {done.objective}", chosen, "on validation rows, which chose it: optimistic")
    ]
    if done.measured_on is None:
        return [*table, (f"retrained, {done.metric}", None, "")]
    where = f"on {done.measured_on} rows"
    if done.measured_rows:
        where = f"on {done.measured_rows:,} {done.measured_on} rows"
    table.append((f"searched, {done.metric}", done.searched_scores.get(done.metric), where))
    for number, model in enumerate(done.models):
        kept = ", kept" if number == 0 and len(done.models) > 1 else ""
        score = model.scores.get(done.metric)
        table.append((f"retrained, {done.metric}", score, f"{where}, seed {model.seed}{kept}"))
    if done.deviation is not None:
        spread = f"mean of {len(done.models)} seeds, standard deviation {done.deviation:.2g}"
        table.append((f"retrained, {done.metric}", done.mean, spread))
    return table

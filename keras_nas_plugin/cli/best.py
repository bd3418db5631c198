"""`keras-nas best`: the winner of a search."""

from __future__ import annotations

import json
import sys

import click

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.results import number_text, plain, search_result


@click.command()
@project_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def best(directory: str, project_name: str | None, as_json: bool) -> int:
    """Show the winner of a search: values, metrics, MLflow run, retraining, model version.

    Example: keras-nas best --project-name image_classification
    """
    search = find_search(directory, project_name)
    result = search_result(search)
    if as_json:
        click.echo(json.dumps(plain(result), indent=2))
        return 0 if result["best"] else 3
    winner, model = result["best"], result["model"]
    if winner is None:
        click.echo(f"No trial of {search.name} has finished.", err=True)
        return 3
    click.echo(f"{search.name}: trial {winner['trial_id']}, the best of {_count(result)}")
    click.echo(f"  {search.objective}: {winner['score']:.6g} (epoch {winner['best_epoch']})")
    for title in ("values", "metrics", "costs"):
        click.echo(f"{title}:")
        for name, value in winner[title].items():
            click.echo(f"  {name}: {number_text(value)}")
    click.echo(f"run id: {winner['run_id'] or 'not tracked'}")
    if result["retrained"]:
        click.echo(f"retrained: {_retrained(result['retrained'], winner['trial_id'])}")
    if model is None:
        click.echo("model: not registered")
    else:
        note = "" if model["trial_id"] == winner["trial_id"] else f" (trial {model['trial_id']})"
        alias = f"@{model['alias']}" if model["alias"] else ""
        click.echo(f"model: {model['name']}{alias} version {model['version']}{note}")
    sys.stdout.flush()
    return 0


def _count(result: dict) -> str:
    counts = result["trials"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{counts['finished']} finished trials{failed}"


def _retrained(done: dict, winner: str) -> str:
    note = "" if done["trial_id"] == winner else f" (trial {done['trial_id']})"
    if done["mean"] is None:
        return f"not measured on rows that it did not learn from{note}"
    where = f"{done['measured_on']} rows"
    if done["measured_rows"]:
        where = f"{done['measured_rows']:,} {where}"
    many = f"seed {done['seeds'][0]}"
    if done["standard_deviation"] is not None:
        deviation = number_text(done["standard_deviation"])
        many = f"mean of {len(done['seeds'])} seeds, standard deviation {deviation}"
    searched = "unknown" if done["searched_score"] is None else number_text(done["searched_score"])
    return (
        f"{done['metric']} {number_text(done['mean'])} on {where} ({many}); "
        f"the searched model there: {searched}{note}"
    )

"""`keras-nas best`: the best trial of a search."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from keras_nas_plugin.cli.options import find_search, project_options
from keras_nas_plugin.cli.results import excluded_text, number_text, search_result
from keras_nas_plugin.files import json_value


@click.command()
@project_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def best(directory: str, project_name: str | None, as_json: bool) -> int:
    """Show the best trial of a search: values, metrics, MLflow run, retraining, model version.

    Example: keras-nas best --project-name image_classification
    """
    search = find_search(directory, project_name)
    result = search_result(search)
    if as_json:
        click.echo(json.dumps(json_value(result), indent=2))
        return 0 if result["best"] else 3
    trial, model = result["best"], result["model"]
    if trial is None:
        click.echo(f"No trial of {search.name} has finished.", err=True)
        if result.get("excluded"):
            click.echo(excluded_text(result["excluded"]), err=True)
        return 3
    click.echo(f"{search.name}: trial {trial['trial_id']}, the best of {_count_text(result)}")
    if result.get("excluded"):
        click.echo(f"  {excluded_text(result['excluded'])}")
    click.echo(f"  {search.objective}: {trial['score']:.6g} (epoch {trial['best_epoch']})")
    for title in ("values", "metrics", "costs"):
        click.echo(f"{title}:")
        for name, value in trial[title].items():
            click.echo(f"  {name}: {number_text(value)}")
    click.echo(f"run id: {trial['run_id'] or 'not tracked'}")
    if result["retrained"]:
        click.echo(f"retrained: {_retraining_text(result['retrained'], trial['trial_id'])}")
    if model is None:
        click.echo("model: not registered")
    else:
        note = "" if model["trial_id"] == trial["trial_id"] else f" (trial {model['trial_id']})"
        alias = f"@{model['alias']}" if model["alias"] else ""
        click.echo(f"model: {model['name']}{alias} version {model['version']}{note}")
    sys.stdout.flush()
    return 0


def _count_text(result: Mapping[str, Any]) -> str:
    counts = result["trials"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    return f"{counts['finished']} finished trials{failed}"


def _retraining_text(retraining: Mapping[str, Any], best_trial: str) -> str:
    trial_id, score = retraining["trial_id"], retraining["searched_score"]
    note = "" if trial_id == best_trial else f" (trial {trial_id})"
    if retraining["mean"] is None:
        return f"not measured, since all rows were used for training{note}"
    rows = f"{retraining['measured_on']} rows"
    if retraining["measured_rows"]:
        rows = f"{retraining['measured_rows']:,} {rows}"
    seeds = f"seed {retraining['seeds'][0]}"
    if retraining["standard_deviation"] is not None:
        deviation = number_text(retraining["standard_deviation"])
        seeds = f"mean of {len(retraining['seeds'])} seeds, standard deviation {deviation}"
    searched = "unknown" if score is None else number_text(score)
    return (
        f"{retraining['metric']} {number_text(retraining['mean'])} on {rows} ({seeds}); "
        f"the searched model on these rows: {searched}{note}"
    )

"""`keras-nas promote`: from challenger to champion."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_nas_plugin.cli.held_out import SPLITS, held_out_data
from keras_nas_plugin.cli.strategy import Limit

if TYPE_CHECKING:
    from keras_nas_plugin.registry.verdict import Verdict

_METRICS = ("accuracy", "loss", "mae", "mse")
_METHODS = ("auto", "mcnemar", "bootstrap")
_REFUSED = 1


class Requirement(Limit):
    """A limit on a metric or a cost; the bytes of the saved model too, as ``size<=4MB``."""

    name = "requirement"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """See `click.ParamType.convert`."""
        if isinstance(value, str) and value.lstrip().startswith("size"):
            limit = super().convert(value.replace("size", "memory", 1), param, ctx)
            return dataclasses.replace(limit, name="size")
        return super().convert(value, param, ctx)


@click.command()
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    help="Held-out rows: an .npz with x and y, or a recipe whose load_data() has test data.",
)
@click.option("--data-function", default="load_data", show_default=True, help="In a recipe.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True)
@click.option(
    "--metric",
    type=click.Choice(_METRICS),
    help="What is compared. [default: accuracy for classes, else mse]",
)
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default="auto",
    show_default=True,
    help="Paired test; auto is McNemar's where the metric is 0 or 1 for each row.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Level of the test.")
@click.option(
    "--min-improvement",
    type=float,
    default=0.0,
    show_default=True,
    help="Has to be exceeded, in units of the metric. Negative: may be worse by less than this.",
)
@click.option(
    "--require",
    "thresholds",
    type=Requirement(),
    multiple=True,
    metavar="METRIC>=NUMBER",
    help="Limit, also <=, on a metric or on latency, size, params, flops or memory. Repeatable.",
)
@click.option("--max-class-drop", type=float, help="Most that a class may lose, such as 0.02.")
@click.option("--smoke-test/--no-smoke-test", default=True, help="Load in a fresh process too.")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--resamples", type=click.IntRange(min=99), default=9999, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the bootstrap.")
@click.option("--why", default="", help="The reason, kept with the verdict.")
@click.option("--by", help="Who promotes. [default: user@host]")
@click.option("--dry-run", is_flag=True, help="Judge only; write nothing.")
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="[default: MLflow's own]")
@click.option("--registry-uri", envvar="MLFLOW_REGISTRY_URI", help="[default: the same place]")
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON on standard output.")
def promote(
    *, name: str, data: str, data_function: str, split: str, as_json: bool, **options: Any
) -> int:
    """Make the challenger of the registered model NAME its champion, if it passes.

    It has to load in a fresh process, keep every --require, beat the champion in a paired test
    on held-out rows, and keep every class. Without a champion, a --require on a metric decides.
    The verdict is stored with the version. Refused: exit code 1, and nothing moves.

    Example: keras-nas promote digits --data recipes/image_classification.py
    --require 'accuracy>=0.9' --require 'latency<=20ms' --max-class-drop 0.05
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Keras, MLflow and the recipe print; standard output belongs to the verdict.
    with contextlib.redirect_stdout(sys.stderr):
        verdict = _promote(name, data, data_function, split, options)
    if as_json:
        click.echo(json.dumps(verdict.to_dict(), indent=2))
    else:
        _print(verdict, dry_run=options["dry_run"])
    return 0 if verdict.passed else _REFUSED


def _promote(
    name: str, data: str, data_function: str, split: str, options: dict[str, Any]
) -> Verdict:
    from keras_nas_plugin.registry import PromotionError
    from keras_nas_plugin.registry import promote as promote_model

    x, y = held_out_data(data, function=data_function, split=split)
    try:
        return promote_model(name, x=x, y=y, data_name=Path(data).name, **options)
    except PromotionError as error:
        raise click.UsageError(str(error)) from error


def _print(verdict: Verdict, *, dry_run: bool) -> None:
    against = f"champion version {verdict.champion}" if verdict.champion else "no champion"
    click.echo(f"{verdict.name}: challenger version {verdict.version} against {against}")
    for finding in verdict.findings:
        mark = "passed " if finding.passed else "refused"
        click.echo(f"  {mark}  {finding.name}: {finding.message}")
    click.echo(_outcome(verdict, dry_run=dry_run))


def _outcome(verdict: Verdict, *, dry_run: bool) -> str:
    stays = f"version {verdict.champion} stays" if verdict.champion else "there still is none"
    if verdict.finished_earlier:
        ends = "would be finished" if dry_run else "is finished now"
        return f"The promotion of version {verdict.version} was interrupted; it {ends}."
    if not verdict.passed:
        return f"Refused by {', '.join(verdict.refused_by)}; champion: {stays}."
    if dry_run:
        return f"Would become champion: version {verdict.version}. Nothing was written."
    return f"Champion: version {verdict.version} (models:/{verdict.name}@champion)"

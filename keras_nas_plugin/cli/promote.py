"""`keras-nas promote`: make the challenger of a registered model its champion."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from keras_nas_plugin.cli.held_out import SPLITS, held_out_data
from keras_nas_plugin.cli.options import store_options, usage_errors
from keras_nas_plugin.cli.recipe import DATA_FUNCTION, function_in
from keras_nas_plugin.cli.strategy import Limit
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.registry.gates.base import Direction, Method, MetricName, PromotionError
from keras_nas_plugin.registry.promotion_policy import PromotionPolicy

if TYPE_CHECKING:
    from keras_nas_plugin.registry.verdict import Verdict

_REFUSED = 1


class Requirement(Limit):
    """A limit on a metric or a cost, or on the bytes of the saved model, such as ``size<=4MB``."""

    name = "requirement"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Constraint:
        """See `click.ParamType.convert`."""
        if isinstance(value, str) and value.lstrip().startswith("size"):
            limit = super().convert(value.replace("size", "memory", 1), param, ctx)
            return dataclasses.replace(limit, name="size")
        return super().convert(value, param, ctx)


class MetricOption(click.ParamType):
    """The name of a metric, or ``FILE.py:FUNCTION``; a file is read by the command."""

    name = "metric"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        names = get_args(MetricName)
        if value not in names and not value.partition(".py:")[2]:
            self.fail(
                f"must be {', '.join(names)}, or FILE.py:FUNCTION with a function of labels and "
                f"predictions; got {value!r}",
                param,
                ctx,
            )
        return value


@click.command()
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="FILE",
    help="Held-out rows: an .npz with x and y, or a recipe whose load_data() has test data.",
)
@click.option(
    "--data-function",
    default=DATA_FUNCTION,
    show_default=True,
    help="Name of the data function in a recipe.",
)
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Which rows of the file to use. Validation rows favour the challenger; those that the "
    "search drew from all rows are drawn again.",
)
@click.option(
    "--metric",
    type=MetricOption(),
    metavar="NAME|FILE.py:FUNCTION",
    help=f"The metric to compare: {', '.join(get_args(MetricName))}, or a function of labels and "
    "predictions. [default: accuracy for classes, else mse]",
)
@click.option(
    "--direction",
    type=click.Choice(get_args(Direction)),
    help="Whether larger or smaller is better; required for a function.",
)
@click.option(
    "--method",
    type=click.Choice(get_args(Method)),
    default=PromotionPolicy.method,
    show_default=True,
    help="Paired test. auto: McNemar's if the metric is 0 or 1 for each row.",
)
@click.option(
    "--alpha",
    type=float,
    default=PromotionPolicy.alpha,
    show_default=True,
    help="Significance level of the test.",
)
@click.option(
    "--min-improvement",
    type=float,
    default=PromotionPolicy.min_improvement,
    show_default=True,
    help="Improvement that must be exceeded, in units of the metric. A negative value allows the "
    "challenger to be worse by less than that.",
)
@click.option(
    "--require",
    "thresholds",
    type=Requirement(),
    multiple=True,
    metavar="METRIC>=NUMBER",
    help="Limit, also <=, on a metric or on latency, size, params, flops or memory. Repeatable.",
)
@click.option(
    "--max-class-drop",
    type=float,
    default=PromotionPolicy.max_class_drop,
    help="Largest allowed fall of any class's accuracy, such as 0.02. [default: not compared]",
)
@click.option(
    "--smoke-test/--no-smoke-test",
    default=PromotionPolicy.smoke_test,
    show_default=True,
    help="Whether to load the model in a fresh process.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=99),
    default=PromotionPolicy.resamples,
    show_default=True,
    help="Number of bootstrap samples.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=PromotionPolicy.seed,
    show_default=True,
    help="Seed of the bootstrap.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Rows per step of prediction. [default: as in Keras]",
)
@click.option("--why", default="", help="The reason, stored with the verdict.")
@click.option("--by", help="Who requests it. [default: user@host]")
@click.option("--dry-run", is_flag=True, help="Judge only; write nothing.")
@store_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the verdict as JSON on standard output."
)
def promote(
    *,
    name: str,
    data: str,
    data_function: str,
    split: str,
    metric: str | None,
    direction: Direction | None,
    batch_size: int | None,
    why: str,
    by: str | None,
    dry_run: bool,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
    **conditions: Any,
) -> int:
    """Make the challenger of the registered model NAME its champion, if it passes every gate.

    The challenger must load in a fresh process, satisfy every --require and beat the champion in a
    paired test on held-out rows; with --max-class-drop, no class may get much worse. Without a
    champion, a --require on a metric decides. The verdict is stored with the version. If the
    challenger is refused, no alias moves and the exit code is 1.

    Example: keras-nas promote digits --data recipes/image_classification.py
    --require 'accuracy>=0.9' --require 'latency<=20ms' --max-class-drop 0.05
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Keras, MLflow and the recipe print; standard output is reserved for the verdict.
    with contextlib.redirect_stdout(sys.stderr), usage_errors(PromotionError):
        from keras_nas_plugin.registry import promote as promote_model
        from keras_nas_plugin.registry.search_data import data_of_challenger

        verdict = promote_model(
            name,
            held_out_data(
                data,
                function=data_function,
                split=split,
                search_data=functools.partial(
                    data_of_challenger,
                    name,
                    tracking_uri=tracking_uri,
                    registry_uri=registry_uri,
                ),
            ),
            policy=PromotionPolicy(
                metric=_metric(metric, direction), direction=direction, **conditions
            ),
            data_name=Path(data).name,
            batch_size=batch_size,
            why=why,
            by=by,
            dry_run=dry_run,
            tracking_uri=tracking_uri,
            registry_uri=registry_uri,
        )
    if as_json:
        click.echo(json.dumps(verdict.to_dict(), indent=2))
    else:
        _print(verdict, dry_run=dry_run)
    return 0 if verdict.passed else _REFUSED


def _metric(metric: str | None, direction: str | None) -> Any:
    """The name of a metric, or the function that the command line names.

    Raises:
        click.UsageError: A function has no direction.
        RecipeError: There is no such function.
    """
    if metric is None or metric in get_args(MetricName):
        return metric
    if direction is None:
        raise click.UsageError(
            f"`--direction` must be max or min if `--metric` is a function; got only {metric!r}"
        )
    return function_in(metric)


def _print(verdict: Verdict, *, dry_run: bool) -> None:
    against = f"champion version {verdict.champion}" if verdict.champion else "no champion"
    click.echo(f"{verdict.name}: challenger version {verdict.version} against {against}")
    for finding in verdict.findings:
        mark = "passed " if finding.passed else "refused"
        click.echo(f"  {mark}  {finding.name}: {finding.message}")
    click.echo(_outcome(verdict, dry_run=dry_run))


def _outcome(verdict: Verdict, *, dry_run: bool) -> str:
    unchanged = f"version {verdict.champion} stays" if verdict.champion else "there is still none"
    if verdict.finished_earlier:
        state = "would be completed" if dry_run else "is complete now"
        return f"The promotion of version {verdict.version} was interrupted; it {state}."
    if not verdict.passed:
        return f"Refused by {', '.join(verdict.refused_by)}; champion: {unchanged}."
    if dry_run:
        return f"Would become champion: version {verdict.version}. Nothing was written."
    return f"Champion: version {verdict.version} (models:/{verdict.name}@champion)"

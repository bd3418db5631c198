"""`keras-nas rollback`: back to the champion before."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import Any

import click


@click.command()
@click.argument("name")
@click.option("--why", default="", help="The reason, kept in the version's tags.")
@click.option("--by", help="Who rolls back. [default: user@host]")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="[default: MLflow's own]")
@click.option("--registry-uri", envvar="MLFLOW_REGISTRY_URI", help="[default: the same place]")
@click.option("--json", "as_json", is_flag=True, help="What was done as JSON.")
def rollback(*, name: str, as_json: bool, **options: Any) -> int:
    """Give the registered model NAME its previous champion back.

    The version that is left loses the alias and gets no other. Again: one promotion further back.

    Example: keras-nas rollback digits --why "misreads sevens since Monday"
    """
    from keras_nas_plugin.registry import PromotionError
    from keras_nas_plugin.registry import rollback as roll_back

    with contextlib.redirect_stdout(sys.stderr):
        try:
            done = roll_back(name, **options)
        except PromotionError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done), indent=2))
    else:
        verb = "Would be champion" if done.dry_run else "Champion"
        click.echo(f"{verb}: version {done.champion} of {name} again, instead of {done.left}")
    return 0

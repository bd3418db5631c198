"""`keras-nas rollback`: restore the previous champion."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from typing import Any

import click

from keras_nas_plugin.cli.options import store_options, usage_errors
from keras_nas_plugin.registry.gates.base import PromotionError


@click.command()
@click.argument("name")
@click.option("--why", default="", help="The reason, stored in the version's tags.")
@click.option("--by", help="Who requests it. [default: user@host]")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def rollback(*, name: str, as_json: bool, **options: Any) -> int:
    """Restore the previous champion of the registered model NAME.

    The current champion loses its alias and gets no other. A second rollback undoes the promotion
    before the last one.

    Example: keras-nas rollback digits --why "misreads sevens since Monday"
    """
    from keras_nas_plugin.registry import rollback as roll_back

    with contextlib.redirect_stdout(sys.stderr), usage_errors(PromotionError):
        outcome = roll_back(name, **options)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(outcome), indent=2))
    else:
        verb = "Would be champion" if outcome.dry_run else "Champion"
        click.echo(
            f"{verb}: version {outcome.champion} of {name} again, instead of {outcome.left}"
        )
    return 0

"""`keras-nas init`: write a recipe for your own data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.files import write_text
from keras_nas_plugin.starters.base import TASKS, Draft, Request
from keras_nas_plugin.starters.writing import literal

_Command = Callable[..., Any]


def source_options(function: _Command) -> _Command:
    """The options of the recipe of a file or folder of data."""
    for option in (
        click.option(
            "--time",
            metavar="COLUMN",
            help="Column of times: train on the past, validate and test on what follows.",
        ),
        click.option("--horizon", type=click.IntRange(min=1), help="Steps to forecast."),
        click.option(
            "--task",
            type=click.Choice(TASKS),
            help="What to learn. [default: guessed from SOURCE]",
        ),
        click.option("--target", metavar="COLUMN", help="Column of a table to predict."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@source_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The Python file to write. [default: the name of SOURCE]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def init(
    source: Path,
    *,
    target: str | None,
    task: str | None,
    time: str | None,
    horizon: int | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a recipe for SOURCE: a Python file with load_data() and build_model(hp).

    SOURCE is a table (.csv, .tsv, .parquet), series with labels (.ts, .npz, .parquet), a folder
    with a folder of images, .txt or .wav files for each class, or a folder with images/ and
    masks/ or boxes (boxes.csv, COCO, Pascal VOC, YOLO).

    Example: keras-nas init penguins.csv --target species
    """
    file = default_output(source) if output is None else output
    draft = write_recipe(
        Request(source, target, task, time, horizon, file), replace=overwrite or not file.exists()
    )
    if as_json:
        result = {
            "recipe": str(file),
            "task": draft.task,
            "summary": draft.summary,
            "guesses": list(draft.guesses),
            "findings": list(draft.findings),
        }
        click.echo(json.dumps(result, indent=2))
        return
    report(draft, err=False)
    click.echo(f"Recipe: {file}. To search it:\n  keras-nas search {file}")


def default_output(source: Path) -> Path:
    """The recipe of a source, in the current folder."""
    stem = source.resolve().name.split(".")[0] if source.is_file() else source.resolve().name
    name = re.sub(r"\W+", "_", stem).strip("_") or "recipe"
    return Path(f"{name}.py")


def write_recipe(request: Request, *, replace: bool) -> Draft:
    """Write the recipe of a request to its output.

    Args:
        request: What is asked for.
        replace: Whether the file may be written.

    Raises:
        SourceError: No recipe can be written for the data, or the file may not be written.
    """
    from keras_nas_plugin.starters.kinds import draft_recipe

    if not replace:
        raise SourceError(
            f"`--output` must be a new file; {str(request.output)!r} exists. "
            "--overwrite replaces it"
        )
    if request.output.suffix != ".py":
        raise SourceError(
            f"`--output` must be a Python file ending in .py; got {str(request.output)!r}"
        )
    draft = draft_recipe(request)
    try:
        write_text(request.output, draft.recipe)
    except OSError as error:
        raise SourceError(
            f"`--output` must be a file that can be written; {str(request.output)!r}: "
            f"{error.strerror or error}"
        ) from error
    return draft


def report(draft: Draft, *, err: bool) -> None:
    """Print what was guessed and noticed.

    Args:
        draft: The recipe.
        err: Whether on standard error.
    """
    click.echo(f"{draft.task.capitalize()}: {draft.summary}.", err=err)
    for sentence in (*draft.guesses, *draft.findings):
        click.echo(f"  {sentence}", err=err)


def searched_file(file: str, **options: Any) -> str:
    """The recipe to search: a Python file itself, or the recipe of other data, which is written.

    A recipe that exists is used as it is, so that a search can be resumed, and edited.

    Args:
        file: The argument of `keras-nas search`.
        options: Values of the options of `source_options`.

    Raises:
        SourceError: No recipe can be written for the data, or the one that exists is for another
            target.
        click.UsageError: The options do not apply to a Python file.
    """
    source = Path(file)
    if not source.exists() or source.suffix == ".py":
        given = [f"`--{name}`" for name, value in options.items() if value is not None]
        if given:
            raise click.UsageError(
                f"{' and '.join(given)} must be combined with a table or a folder of data; got "
                f"the recipe {file!r}"
            )
        return file
    output = default_output(source)
    if output.exists():
        _check_target(file, output, options.get("target"))
        click.echo(
            f"Recipe: {output}, which exists and is used as it is. To write it again: "
            f"keras-nas init {file} --overwrite",
            err=True,
        )
    else:
        report(write_recipe(Request(source, **options, output=output), replace=True), err=True)
        click.echo(f"Recipe: {output}", err=True)
    return os.fspath(output)


def _check_target(file: str, output: Path, target: str | None) -> None:
    """Check that an existing recipe is for a target.

    Raises:
        SourceError: It is for another.
    """
    lines = re.findall(r"^TARGETS? = .*$", output.read_text("utf-8"), re.MULTILINE)
    if target is not None and lines and not any(literal(target) in line for line in lines):
        raise SourceError(
            f"`--target` must be that of the existing recipe {str(output)!r}; got {target!r}. "
            f"`keras-nas init {file} --target {target} -o FILE` writes another"
        )

"""The file that a search came from, kept for the commands that build its models again."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from pathlib import Path

import click

from keras_nas_plugin.cli.recipe import Recipe
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.tracking.records import SearchInfo

_FILE = "recipe.json"

_log = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a search's models and data come from.

    Attributes:
        file: Absolute path of the user's file.
        builder: The name in it that builds models; empty for the default.
        data: The name of its data function.
        digest: Of the file's content.
        distribute: `--distribute`.
    """

    file: str
    builder: str
    data: str
    digest: str
    distribute: str | None = None


def save_origin(folder: str | os.PathLike, recipe: Recipe, *, distribute: str | None) -> None:
    """Leave in a project folder what `load_recipe` needs."""
    origin = Origin(
        file=str(recipe.path.resolve()),
        builder=recipe.builder,
        data=recipe.data,
        digest=_digest(recipe.path),
        distribute=distribute,
    )
    write_json(Path(folder) / _FILE, dataclasses.asdict(origin))


def load_origin(search: SearchInfo) -> Origin | None:
    """What a search from the command line left; None for any other."""
    try:
        return Origin(**read_json(Path(search.directory) / _FILE))
    except FileNotFoundError:
        return None


def load_recipe(search: SearchInfo, target: str | None, data: str | None) -> Recipe:
    """The file that the models of a search are built from.

    Args:
        search: The search.
        target: `--recipe`; None for the file that it was started with.
        data: `--data`; None for the function that it was started with.

    Raises:
        click.UsageError: None is known, or it is not there any more.
        RecipeError: The file cannot be used.
    """
    origin = load_origin(search)
    if target is None:
        if origin is None:
            raise click.UsageError(
                f"`--recipe` needs FILE[:NAME], the Python file with build_model(hp) and "
                f"load_data(), because {search.name!r} was not started by `keras-nas search`; "
                "received none"
            )
        if not Path(origin.file).is_file():
            raise click.UsageError(
                f"`--recipe` needs FILE[:NAME], because the search's own file is gone: "
                f"{origin.file!r}"
            )
        target = f"{origin.file}:{origin.builder}" if origin.builder else origin.file
        if _digest(Path(origin.file)) != origin.digest:
            _log.warning(
                "%s has changed since the search: models may not be what was searched. "
                "`keras-nas retrain --overwrite` trains again what was retrained before.",
                origin.file,
            )
    return Recipe(target, data or (origin.data if origin else "load_data"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]

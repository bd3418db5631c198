"""Finds the recipe of a search for the commands that build its models again."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from keras_nas_plugin.cli.recipe import DATA_FUNCTION, Recipe
from keras_nas_plugin.records.program import RecipeReference, digest_of
from keras_nas_plugin.records.search import SearchInfo

logger = logging.getLogger("keras_nas_plugin")


def reference_to(
    recipe: Recipe, *, distribute: str | None, split_seed: int | None
) -> RecipeReference:
    """Create a reference to a recipe in its current state.

    Args:
        recipe: The recipe.
        distribute: Value of `--distribute`.
        split_seed: Seed of the validation rows.
    """
    return RecipeReference(
        file=str(recipe.path.resolve()),
        builder=recipe.builder,
        data=recipe.data,
        digest=digest_of(recipe.path),
        distribute=distribute,
        split_seed=split_seed,
        data_file=None if recipe.data_file is None else str(recipe.data_file.resolve()),
    )


def load_recipe(
    search: SearchInfo, target: str | None, function: str | None, data_file: str | None
) -> Recipe:
    """Load the file that the models of a search are built from.

    Args:
        search: The search.
        target: Value of `--recipe`; None for the file that the search was started with.
        function: Value of `--data-function`; None for that of the search.
        data_file: Value of `--data`; None for that of the search.

    Raises:
        click.UsageError: The search has no such file, or the file no longer exists.
        RecipeError: The file cannot be used.
    """
    reference = RecipeReference.read(search.directory)
    if target is None:
        target = _target(search, reference)
    stored = reference.data if reference else ""
    if data_file is None and reference is not None:
        data_file = reference.data_file
    return Recipe(target, function or stored or DATA_FUNCTION, data_file)


def _target(search: SearchInfo, reference: RecipeReference | None) -> str:
    """The recipe that a search was started with, as an argument of `Recipe`."""
    if reference is None:
        raise click.UsageError(
            f"`--recipe` must be FILE[:NAME], the Python file with build_model(hp) and "
            f"load_data(): the program of {search.name!r} cannot be imported; got none"
        )
    file = Path(reference.file)
    if not file.is_file():
        raise click.UsageError(
            f"`--recipe` must be FILE[:NAME], since the search's own file no longer exists: "
            f"{reference.file!r}"
        )
    if digest_of(file) != reference.digest:
        logger.warning(
            "%s has changed since the search: its models may differ from those that were "
            "searched. `keras-nas retrain --overwrite` retrains them.",
            reference.file,
        )
    return f"{reference.file}:{reference.builder}" if reference.builder else reference.file

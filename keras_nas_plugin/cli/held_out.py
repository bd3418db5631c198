"""Held-out data from a user's file: a recipe, or arrays in an `.npz` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.cli.recipe import Recipe, load_arrays
from keras_nas_plugin.errors import RecipeError

SPLITS = ("test", "validation")


def held_out_data(target: str, *, function: str, split: str) -> tuple[Any, Any]:
    """Inputs and labels of held-out rows.

    Args:
        target: ``FILE.npz`` with arrays ``x`` and ``y``, or a recipe as for `keras-nas search`.
        function: Name of the recipe's data function.
        split: ``"test"`` or ``"validation"``.

    Returns:
        Inputs and labels.

    Raises:
        RecipeError: The file cannot be read, or does not have these data.
    """
    if target.endswith(".npz"):
        return _from_arrays(Path(target))
    recipe = Recipe(target, function)
    part = part_of(recipe.load(), split)
    if part is None:
        hint = ""
        if split == "test":
            hint = (
                ". `--split validation` uses the rows by which the search chose the challenger, "
                "which favours it"
            )
        raise RecipeError(
            f"`{function}` in `{recipe.path}` must return {split} data; it returned none{hint}"
        )
    return _pair(part, recipe.path, split)


def _from_arrays(path: Path) -> tuple[Any, Any]:
    """The test rows of an `.npz` file, else all of its rows."""
    loaded = load_arrays(path)
    return loaded if hasattr(loaded[0], "shape") else loaded[-1]


def part_of(loaded: Any, split: str) -> Any:
    """The test or validation part of the data that a data function returned.

    Args:
        loaded: What the function returned: see `recipe.fit_arguments`.
        split: ``"test"`` or ``"validation"``.

    Returns:
        The part; None if the data do not have it.
    """
    if isinstance(loaded, Mapping):
        return loaded.get(f"{split}_data")
    if not isinstance(loaded, tuple | list) or len(loaded) not in (2, 3):
        return None
    if split == "test":
        return loaded[2] if len(loaded) == 3 else None
    # A plain (x, y) has no separate validation data: a search draws it from the rows.
    paired = isinstance(loaded[1], tuple | list) or hasattr(loaded[1], "element_spec")
    return loaded[1] if paired else None


def _pair(part: Any, path: Path, split: str) -> tuple[Any, Any]:
    if hasattr(part, "element_spec"):
        part = _concatenated(list(part.as_numpy_iterator()))
    if not isinstance(part, tuple | list) or len(part) < 2:
        raise RecipeError(
            f"`{path}` must return a pair (x, y) as {split} data; got {type(part).__name__}"
        )
    return part[0], part[1]


def _concatenated(batches: list[Any]) -> Any:
    """Concatenate batches of arrays in the same structure."""
    import numpy as np

    first = batches[0] if batches else None
    if isinstance(first, Mapping):
        return {key: _concatenated([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple | list):
        return [_concatenated([batch[i] for batch in batches]) for i in range(len(first))]
    if hasattr(first, "to_list"):  # ragged rows
        rows = [row for batch in batches for row in batch.to_list()]
        return np.array([*rows, None], dtype=object)[:-1]  # one object for each row
    return np.concatenate(batches) if batches else None

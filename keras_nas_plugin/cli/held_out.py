"""Held-out data from a user's file: a recipe, or arrays in an `.npz`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.cli.recipe import Recipe
from keras_nas_plugin.errors import RecipeError

SPLITS = ("test", "validation")


def held_out_data(target: str, *, function: str, split: str) -> tuple[Any, Any]:
    """Inputs and labels that neither model has seen.

    Args:
        target: ``FILE.npz`` with arrays ``x`` and ``y``, or a recipe, as `keras-nas search`
            takes it.
        function: Name of the recipe's data function.
        split: ``"test"``, or ``"validation"``.

    Raises:
        RecipeError: The file cannot be read, or has no such data.
    """
    if target.endswith(".npz"):
        return _from_arrays(Path(target))
    recipe = Recipe(target, function)
    part = part_of(recipe.load(), split)
    if part is None:
        hint = ""
        if split == "test":
            hint = (
                ". `--split validation` takes the rows that the search chose the challenger by, "
                "which favours it"
            )
        raise RecipeError(f"`{recipe.path}` needs {split} data in `{function}`; it has none{hint}")
    return _pair(part, recipe.path, split)


def _from_arrays(path: Path) -> tuple[Any, Any]:
    import numpy as np

    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except FileNotFoundError:
        raise RecipeError(f"`--data` needs an existing file; received {str(path)!r}") from None
    except (OSError, zipfile.BadZipFile, ValueError, TypeError, EOFError) as error:
        raise RecipeError(f"`--data` needs plain arrays in {str(path)!r}: {error}") from error
    missing = sorted({"x", "y"} - arrays.keys())
    if missing:
        raise RecipeError(
            f"`--data` needs the arrays x and y; {str(path)!r} lacks {' and '.join(missing)} and "
            f"holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    return arrays["x"], arrays["y"]


def part_of(loaded: Any, split: str) -> Any:
    """The test or validation part of what a data function returned; None where it has none."""
    if isinstance(loaded, Mapping):
        return loaded.get(f"{split}_data")
    if not isinstance(loaded, tuple | list) or len(loaded) not in (2, 3):
        return None
    if split == "test":
        return loaded[2] if len(loaded) == 3 else None
    # A plain (x, y) validates with its last fifth, which was not set apart for good.
    paired = isinstance(loaded[1], tuple | list) or hasattr(loaded[1], "element_spec")
    return loaded[1] if paired else None


def _pair(part: Any, path: Path, split: str) -> tuple[Any, Any]:
    if hasattr(part, "element_spec"):
        part = _concatenated(list(part.as_numpy_iterator()))
    if not isinstance(part, tuple | list) or len(part) < 2:
        raise RecipeError(
            f"`{path}` needs a pair (x, y) as {split} data; received {type(part).__name__}"
        )
    return part[0], part[1]


def _concatenated(batches: list[Any]) -> Any:
    """One structure of arrays out of many."""
    import numpy as np

    first = batches[0] if batches else None
    if isinstance(first, Mapping):
        return {key: _concatenated([batch[key] for batch in batches]) for key in first}
    if isinstance(first, tuple | list):
        return [_concatenated([batch[i] for batch in batches]) for i in range(len(first))]
    return np.concatenate(batches) if batches else None

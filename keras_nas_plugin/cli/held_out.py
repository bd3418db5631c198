"""Held-out data from a user's file: a recipe, or arrays in an `.npz` file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.cli.recipe import Recipe, load_arrays, split_arguments
from keras_nas_plugin.errors import RecipeError

logger = logging.getLogger("keras_nas_plugin")

if TYPE_CHECKING:
    from keras_nas_plugin.registry.search_data import SearchData

_TEST, _VALIDATION = "test", "validation"
SPLITS = (_TEST, _VALIDATION)


def held_out_data(
    target: str, *, function: str, split: str, search_data: Callable[[], SearchData]
) -> tuple[Any, Any]:
    """Inputs and labels of held-out rows.

    Validation rows that a search drew from all rows are drawn again.

    Args:
        target: ``FILE.npz`` with arrays ``x`` and ``y``, or a recipe as for `keras-nas search`.
        function: Name of the recipe's data function.
        split: ``"test"`` or ``"validation"``. The rows of an `.npz` file that holds no others
            than ``x`` and ``y`` are test rows.
        search_data: Returns what the search of the challenger recorded about its data; called
            for validation rows only.

    Returns:
        Inputs and labels.

    Raises:
        RecipeError: The file cannot be read, does not have these data, or has validation rows that
            the challenger was trained on.
        PromotionError: There is no challenger.
        TrackingError: The store does not answer, or rejects the request.
    """
    if target.endswith(".npz"):
        path = Path(target)
        loaded, source = load_arrays(path), f"`{path}` must hold"
        if split == _TEST and hasattr(loaded[0], "shape"):
            return _pair(loaded, path, split)
    else:
        recipe = Recipe(target, function)
        path, loaded = recipe.path, recipe.load()
        source = f"`{function}` in `{path}` must return"
    part = part_of(loaded, split)
    if split == _VALIDATION:
        search = search_data()
        if search.retrained:
            raise RecipeError(
                f"`--split` must be test for version {search.version}, which was retrained on "
                "training and validation rows together; got validation"
            )
        if search.retrained_champion is not None:
            logger.warning(
                "The champion, version %s, was retrained on the training and validation rows of "
                "its search: if these rows are among them, the comparison favours it.",
                search.retrained_champion,
            )
        part = _drawn_again(loaded, path, search) if part is None else part
    if part is None:
        hint = ""
        if split == _TEST:
            hint = (
                ". `--split validation` uses the rows by which the search chose the challenger, "
                "which favours it"
            )
        raise RecipeError(f"{source} {split} data; got none{hint}")
    return _pair(part, path, split)


def _drawn_again(loaded: object, path: Path, search: SearchData) -> tuple[Any, Any] | None:
    """The rows that the search drew from all rows, or took from their end, for validation.

    Returns:
        Inputs and labels; None if the search had no validation rows.

    Raises:
        RecipeError: Nothing is known about the data of the search, or these are others.
    """
    from keras_nas_plugin.training.fit_arguments import FitArguments

    if not search.digests:
        raise RecipeError(
            f"`{path}` must have validation data of its own, since the run of version "
            f"{search.version} in MLflow does not say which rows its search validated with; got "
            "none"
        )
    arguments, _ = split_arguments(loaded, search.split_seed)
    fit = FitArguments.bind((), arguments)
    for data in fit.describe(path.stem):
        if data.digest not in search.digests.get(data.context, ()):
            drawn = "" if search.split_seed is None else f" by the seed {search.split_seed}"
            raise RecipeError(
                f"`{path}` must have the rows of the search of version {search.version}, whose "
                f"validation rows are taken from them{drawn}; got {data.context} data with the "
                f"digest {data.digest} instead of "
                f"{' or '.join(sorted(search.digests.get(data.context, ['none'])))}"
            )
    validation = fit.splits()[1]
    return None if validation is None else (validation.x, validation.y)


def part_of(loaded: object, split: str) -> Any:
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
    # A plain (x, y) has no separate validation data: a search draws them from the rows.
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

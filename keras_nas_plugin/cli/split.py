"""The validation rows of a recipe that returns a single ``(x, y)``."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from keras_nas_plugin.errors import RecipeError
from keras_nas_plugin.registry.search_data import SPLIT_SEED_SETTING

#: Fraction of the rows that validates.
FRACTION = 0.2
#: Seed of the rows, the same for all searches.
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class RandomSplit:
    """Training and validation rows that were drawn from all rows.

    Attributes:
        training: Inputs and targets to train on.
        validation: Inputs and targets to validate on.
        seed: Seed of the draw.
        stratified: Whether each class has the same share of both.
        rows: Numbers of training and of validation rows.
    """

    training: tuple[Any, Any]
    validation: tuple[Any, Any]
    seed: int
    stratified: bool
    rows: tuple[int, int]

    def settings(self) -> dict[str, Any]:
        """The split as settings of the search."""
        return {
            "validation_rows": self.rows[1],
            SPLIT_SEED_SETTING: self.seed,
            "split_stratified": self.stratified,
        }

    def __str__(self) -> str:
        how = "drawn at random from each class" if self.stratified else "drawn at random"
        return (
            f"Validation: {self.rows[1]:,} of {sum(self.rows):,} rows, {how} (seed {self.seed})."
        )


def random_split(x: Any, y: Any, seed: int) -> RandomSplit | None:
    """Draw a fifth of the rows for validation; of each class a fifth, where labels are classes.

    Labels are classes if they are texts, booleans, one-hot rows, or few distinct integers. Where a
    class has too few rows, the rows are drawn from all classes together.

    Args:
        x: Inputs: an array, or a structure of arrays.
        y: Targets: an array, or a structure of arrays.
        seed: The same seed draws the same rows.

    Returns:
        The split, with the rows in random order; None if ``x`` has no rows to draw from.

    Raises:
        RecipeError: There is only one row.
    """
    from keras_nas_plugin.evaluation.data_quality import rows_of
    from keras_nas_plugin.evaluation.datasets import count_rows, map_arrays

    rows = count_rows(x)
    if rows is None or y is None or count_rows(y) != rows:
        return None
    if rows < 2:
        raise RecipeError(
            f"`load_data` must return rows to train on and rows to validate on; got {rows}"
        )
    training, validation, stratified = _indices(rows, _classes(y), seed)

    def part(indices: Any) -> tuple[Any, Any]:
        taken = functools.partial(rows_of, selection=indices)
        return map_arrays(taken, x), map_arrays(taken, y)

    sizes = len(training), len(validation)
    return RandomSplit(part(training), part(validation), seed, stratified, sizes)


def _classes(y: object) -> Any:
    """The class of each row, shape ``[n]``; None if the labels are not classes."""
    from keras_nas_plugin.evaluation.data_quality import classes_of
    from keras_nas_plugin.evaluation.datasets import is_structure

    return None if is_structure(y) else classes_of(y, certain=False)


def _indices(rows: int, classes: Any, seed: int) -> tuple[Any, Any, bool]:
    """Numbers of the training and the validation rows, and whether they are stratified."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    numbers = np.arange(rows)
    count = max(1, round(rows * FRACTION))
    split = functools.partial(train_test_split, numbers, test_size=count, random_state=seed)
    if classes is not None:
        sizes = np.unique(classes, return_counts=True)[1]
        if sizes.min() > 1 and len(sizes) <= min(count, rows - count):
            return (*split(stratify=classes), True)
    return (*split(), False)

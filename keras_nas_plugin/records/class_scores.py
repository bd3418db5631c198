"""Recall and precision of a classifier for each class, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """The scores of one class.

    Attributes:
        name: Its name; its number if it has no name.
        rows: Number of rows of this class.
        recall: Fraction of these rows that are predicted as this class; None without rows.
        precision: Fraction of the rows predicted as this class that belong to it; None if it is
            never predicted.
    """

    name: str
    rows: int
    recall: float | None
    precision: float | None


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """The scores of all classes.

    Attributes:
        rows: Number of rows that were measured.
        first: Whether there were more rows, of which these are the first.
        classes: The classes, in the order of the outputs.
    """

    rows: int
    first: bool
    classes: tuple[ClassScore, ...]

    def worst(self, count: int) -> tuple[ClassScore, ...]:
        """The classes of lowest recall, in the order of the outputs; those without rows last.

        Args:
            count: Maximum number of classes.
        """

        def badness(score: ClassScore) -> float:
            return 2.0 if score.recall is None else score.recall

        chosen = sorted(self.classes, key=badness)[:count]
        return tuple(score for score in self.classes if score in chosen)

    def named(self, names: Sequence[str] | None) -> ClassScores:
        """A copy with names of the classes, if there is one for each class.

        Args:
            names: The names in the order of the outputs, or None.
        """
        if names is None or len(names) != len(self.classes):
            return self
        pairs = zip(self.classes, names, strict=True)
        classes = (dataclasses.replace(score, name=name) for score, name in pairs)
        return dataclasses.replace(self, classes=tuple(classes))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ClassScores:
        """Create the scores from their JSON fields."""
        return cls(**{**data, "classes": tuple(ClassScore(**item) for item in data["classes"])})

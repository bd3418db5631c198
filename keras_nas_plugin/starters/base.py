"""The interface of starters, which recognise data of one kind and write recipes for them."""

from __future__ import annotations

import abc
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.executors.memory import available_bytes
from keras_nas_plugin.starters.writing import constant, literal

CLASSIFICATION, REGRESSION, FORECAST = "classification", "regression", "forecast"
DETECTION, SEGMENTATION = "detection", "segmentation"
TRANSLATION, GENERATION = "translation", "generation"
#: All tasks that `keras-nas init` can be asked for.
TASKS = (
    CLASSIFICATION,
    REGRESSION,
    DETECTION,
    SEGMENTATION,
    FORECAST,
    TRANSLATION,
    GENERATION,
)

# Share of the available memory that the loaded data may take: training needs the rest.
_SHARE = 0.5
#: Classes with fewer rows cannot be divided into training, validation and test rows.
FEWEST_ROWS = 3
# A class is called rare if it has less than this share of the rows of the largest one.
_IMBALANCE = 1 / 3


@dataclasses.dataclass(frozen=True)
class Request:
    """What a recipe is asked for.

    Attributes:
        source: The file or folder with the data.
        target: Name of the column to predict; None to guess it.
        task: One of `TASKS`; None to guess it.
        time: Name of the column of times, by which rows are divided into past and future; None to
            divide them at random, except for a forecast.
        horizon: Steps to forecast; None for a default.
        output: The recipe's file; paths in the recipe are relative to its folder.
        memory: Bytes that are available; None to measure them.
    """

    source: Path
    target: str | None = None
    task: str | None = None
    time: str | None = None
    horizon: int | None = None
    output: Path = Path("recipe.py")
    memory: int | None = None

    def fits(self, needed: int) -> bool:
        """Whether data of so many bytes can be held in memory while models are trained."""
        return needed <= _SHARE * self.available

    def check_memory(self, source: Path, needed: int, advice: str) -> None:
        """Refuse data that cannot be held in memory while models are trained.

        Args:
            source: The file or folder, for the message.
            needed: Bytes that the data take.
            advice: What to do, a sentence without its full stop.

        Raises:
            SourceError: They do not fit.
        """
        if not self.fits(needed):
            raise SourceError(
                f"`{source}` must fit into memory with {needed / 1e6:,.0f} MB; "
                f"{self.available / 1e6:,.0f} MB are available. {advice}"
            )

    @property
    def available(self) -> int:
        """Bytes of memory that data and models may take."""
        return available_bytes() if self.memory is None else self.memory

    @property
    def path_code(self) -> str:
        """The source as a Python expression, in a recipe at `output`."""
        source, folder = self.source.resolve(), self.output.resolve().parent
        if source.is_relative_to(folder):
            return f"Path(__file__).resolve().parent / {literal(str(source.relative_to(folder)))}"
        return f"Path({literal(str(source))})"


@dataclasses.dataclass(frozen=True)
class Draft:
    """A recipe, and what was noticed in the data.

    Attributes:
        recipe: The text of the Python file.
        task: The task of the recipe.
        summary: The data in a few words.
        findings: What was noticed, and what the recipe does about it, a sentence each.
        guesses: What was guessed, and the option that overrides it, a sentence each.
    """

    recipe: str
    task: str
    summary: str
    findings: Sequence[str] = ()
    guesses: Sequence[str] = ()


class Starter(abc.ABC):
    """Writes recipes for data of one kind.

    Attributes:
        kind: The kind of data, for messages.
        tasks: The tasks that it writes recipes for; the first is the usual one.
        layout: What a folder must be like, for messages; empty if that is the same for all tasks.
    """

    kind: str
    tasks: tuple[str, ...]
    layout: str = ""

    @abc.abstractmethod
    def recognises(self, source: Path) -> bool:
        """Whether a file or folder, which exists, has data of this kind."""

    @abc.abstractmethod
    def draft(self, request: Request) -> Draft:
        """Inspect the data, and write a recipe.

        Raises:
            SourceError: No recipe can be written for these data.
        """


def close_name(name: str, names: Sequence[str]) -> str:
    """A sentence that suggests a similar name, or lists the names.

    >>> close_name("specis", ["species", "year"])
    'Did you mean `species`?'
    """
    lower = {existing.lower(): existing for existing in names}
    similar = difflib.get_close_matches(name.lower(), lower, 1)
    if similar:
        return f"Did you mean `{lower[similar[0]]}`?"
    return f"Columns: {listed(names)}."


def listed(names: Sequence[object], most: int = 5) -> str:
    """The first names, and how many follow.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of the rows that a recipe uses.

    Attributes:
        names: Those with enough rows, in ascending order.
        sizes: Number of rows of each.
        findings: See `Draft`.
    """

    names: list[str]
    sizes: list[int]
    findings: list[str]

    @property
    def balanced(self) -> bool:
        """Whether no class needs a weight."""
        return min(self.sizes) >= _IMBALANCE * max(self.sizes)

    @property
    def weights(self) -> dict[int, float]:
        """Weights by which each class counts the same, by its index."""
        mean = sum(self.sizes) / len(self.sizes)
        return {index: round(mean / size, 3) for index, size in enumerate(self.sizes)}


def checked_classes(counts: dict[str, int], where: str, rows: str = "rows") -> Classes:
    """Check that at least two classes have enough rows.

    Args:
        counts: Number of rows of each class.
        where: What holds them, for messages.
        rows: What a row is called, in the plural.

    Raises:
        SourceError: There are fewer than two classes with enough rows.
    """
    if len(counts) < 2:
        only = f"only {next(iter(counts))!r}" if counts else "none"
        raise SourceError(f"{where} must have at least two classes; got {only}")
    if max(counts.values()) == 1:
        raise SourceError(
            f"{where} must have at least {FEWEST_ROWS} {rows} of each class, one each to train, "
            f"validate and test; got {len(counts)} classes of a single one. For numbers, use "
            "--task regression"
        )
    rare = {name: count for name, count in counts.items() if count < FEWEST_ROWS}
    names = sorted(name for name in counts if name not in rare)
    if len(names) < 2:
        raise SourceError(
            f"{where} must have at least two classes with {FEWEST_ROWS} {rows} or more; got "
            f"{listed([f'{name} ({count})' for name, count in counts.items()])}"
        )
    findings = []
    if rare:
        shown = listed([f"{name} ({count})" for name, count in rare.items()])
        findings.append(
            f"Classes with fewer than {FEWEST_ROWS} {rows} are left out, since they cannot be "
            f"divided: {shown}."
        )
    classes = Classes(names, [counts[name] for name in names], findings)
    if not classes.balanced:
        least = min(names, key=lambda name: counts[name])
        findings.append(
            f"The classes are imbalanced ({least!r} has {counts[least]:,} of "
            f"{sum(classes.sizes):,} {rows}): rare classes get larger weights in training."
        )
    return classes


def class_weighting(classes: Classes, streamed: bool) -> tuple[str, list[str], list[str]]:
    """How rare classes get larger weights in a recipe of class folders.

    Args:
        classes: The classes.
        streamed: Whether the files are read while models are trained.

    Returns:
        An entry of what `load_data` returns, helpers to import, and lines with constants.
    """
    if classes.balanced:
        return "", [], []
    if streamed:
        lines = [constant("CLASS_WEIGHT", classes.weights, "rare classes count more")]
        return '\n        "class_weight": CLASS_WEIGHT,', [], lines
    return '\n        "class_weight": class_weights(training[1]),', ["class_weights"], []

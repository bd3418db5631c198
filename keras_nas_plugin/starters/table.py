"""Tables: classification and regression of one column by the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters import table_columns as kinds
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    REGRESSION,
    Draft,
    Request,
    Starter,
    checked_classes,
    close_name,
    listed,
)
from keras_nas_plugin.starters.table_columns import Column, describe_column, determines
from keras_nas_plugin.starters.table_data import (
    SUFFIXES,
    as_numbers,
    check_fields,
    chunks,
    time_order,
)
from keras_nas_plugin.starters.table_recipe import TableRecipe
from keras_nas_plugin.starters.texts import text_draft

if TYPE_CHECKING:
    import pandas as pd

# Bytes in memory for each byte of a file: texts and their numbers.
_EXPANSION = {".parquet": 20, ".gz": 40}
_TEXT_EXPANSION = 10
# Rows that are looked at of a table that is not read as a whole.
_INSPECTED = 50_000
# A name of so many words over texts of so many words is a text itself.
_SENTENCE = 5
_TARGET_NAMES = ("target", "label", "class", "y")
# A target of numbers with more distinct values is one of regression.
_MOST_CLASSES = 20


def is_table(source: Path) -> bool:
    """Whether a file has the name of a table."""
    return source.is_file() and source.name.lower().removesuffix(".gz").endswith(SUFFIXES)


class Inspected:
    """A table, or its first rows.

    Args:
        request: What a recipe is asked for.

    Attributes:
        table: The rows, as texts.
        streamed: Whether there are more, which are not loaded.
    """

    def __init__(self, request: Request) -> None:
        path = request.source
        size = path.stat().st_size
        if size == 0:
            raise SourceError(
                f"`{path}` must have a line with names of columns, and rows; it is empty"
            )
        self.size = size * _EXPANSION.get(path.suffix.lower(), _TEXT_EXPANSION)
        self.streamed = not request.fits(self.size)
        parts = chunks(path, rows=_INSPECTED)
        if self.streamed:
            self.table: pd.DataFrame = next(parts)
        else:
            import pandas as pd

            check_fields(path)
            self.table = pd.concat(list(parts), ignore_index=True)
        self.findings: list[str] = []
        if self.streamed:
            self.findings.append(
                f"The table would take about {_gigabytes(self.size)} of memory, of which "
                f"{_gigabytes(request.available)} are available: it is read in parts, and only "
                f"its first {len(self.table):,} rows were looked at. Shuffle a file that is "
                "sorted."
            )
        self._clean()

    def _clean(self) -> None:
        for name in self.table.columns:
            words = self.table[name].map(lambda text: len(text.split())).mean()
            if min(words, len(name.split())) >= _SENTENCE:
                raise SourceError(
                    "tables must have names of columns in their first line, such as `label` and "
                    f"`text`; got a text as those that follow, {name[:30] + '...'!r}"
                )
        repeated = self.table.duplicated()
        if repeated.any() and not self.streamed:
            self.findings.append(
                f"{int(repeated.sum()):,} rows occur more than once; copies may be in both "
                "training and test rows."
            )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def target_column(request: Request, names: Sequence[str]) -> tuple[str, list[str]]:
    """The column to predict, and what was guessed.

    Raises:
        SourceError: There is no such column, or none is obvious.
    """
    if request.target is not None:
        if request.target not in names:
            raise SourceError(
                f"`--target` must be a column of `{request.source}`; got {request.target!r}. "
                f"{close_name(request.target, names)}"
            )
        return request.target, []
    likely = [name for name in names if name.lower() in _TARGET_NAMES]
    if len(likely) != 1:
        raise SourceError(
            f"`--target` must name the column of `{request.source}` to predict; got none. "
            f"Columns: {listed(names, 10)}."
        )
    return likely[0], [f"Target: `{likely[0]}`, by its name; `--target` selects another column."]


def check_time(request: Request, names: Sequence[str]) -> None:
    """Check the name of the column of times.

    Raises:
        SourceError: There is no such column.
    """
    if request.time is not None and request.time not in names:
        raise SourceError(
            f"`--time` must be a column of `{request.source}`; got {request.time!r}. "
            f"{close_name(request.time, names)}"
        )


class TableStarter(Starter):
    """CSV, TSV and Parquet files with a row per example."""

    kind = "table"
    tasks = (CLASSIFICATION, REGRESSION)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return is_table(source)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        inspected = Inspected(request)
        table = inspected.table
        target, guesses = target_column(request, list(table.columns))
        check_time(request, list(table.columns))
        findings = inspected.findings
        missing = int((table[target] == "").sum())
        if missing == len(table):
            raise SourceError(f"column `{target}` must have values to predict; all are missing")
        if missing:
            table = table[table[target] != ""].reset_index(drop=True)
            findings.append(f"{missing:,} rows without `{target}` are left out.")
        described = describe_column(target, table[target])
        task, guess = _task(request, described, table[target])
        guesses += guess
        classes = None
        if task == CLASSIFICATION:
            counts = {str(k): int(n) for k, n in table[target].value_counts().items()}
            classes = checked_classes(counts, f"column `{target}`")
            findings += classes.findings
            table = table[table[target].isin(classes.names)]
        else:
            numbers = as_numbers(table[target], described.decimal or ".")
            table = table[~np.isnan(numbers)]
        columns = [describe_column(name, table[name]) for name in table.columns if name != target]
        used = [column for column in columns if column.kind != kinds.IGNORED]
        findings += _column_findings(columns)
        if not used:
            raise SourceError(
                f"`{request.source}` must have a column to predict `{target}` from; none is usable"
            )
        leaks = [
            column.name
            for column in used
            if determines(table[column.name], table[target], column, classes=classes is not None)
        ]
        findings += [
            f"WARNING: column `{name}` alone determines `{target}`. If it is known only "
            "afterwards (leakage), remove it from the recipe."
            for name in leaks
        ]
        only_text = [column.kind for column in used] == [kinds.TEXT]
        if classes is not None and only_text and not inspected.streamed:
            texts, names = list(table[used[0].name]), (used[0].name, target)
            return text_draft(request, texts, classes, findings, guesses, column=names)
        if request.time is not None:
            if inspected.streamed:
                raise SourceError(
                    f"`--time` must be omitted for a table that does not fit into memory; got "
                    f"{request.time!r}. Sort the file, and use a part of it as test rows"
                )
            missing = int((table[request.time] == "").sum())
            time_order(list(table[request.time][table[request.time] != ""]))
            if missing:
                findings.append(f"{missing:,} rows without `{request.time}` are left out.")
        dates = [column.name for column in used if column.kind == kinds.DATE]
        if dates and request.time is None:
            guesses.append(
                f"Split: at random; `--time {dates[0]}` trains on the oldest rows and tests on "
                "the latest."
            )
        recipe = TableRecipe(
            request, target, classes, used, described, len(table), inspected.streamed
        )
        summary = f"{len(table):,} rows, {len(used)} of {len(columns)} columns are used"
        return Draft(recipe.text(findings), task, summary, findings, guesses)


def _task(request: Request, target: Column, values: pd.Series) -> tuple[str, list[str]]:
    """The task, and how it was guessed."""
    numeric = target.kind in (kinds.NUMBER, kinds.INTEGER)
    read = as_numbers(values, target.decimal or ".")
    if request.task == REGRESSION:
        if np.isnan(read).mean() > 0.1:
            raise SourceError(
                f"column `{target.name}` must have numbers for --task regression; got "
                f"{values[np.isnan(read)].iloc[0]!r}"
            )
        return REGRESSION, []
    if request.task == CLASSIFICATION:
        return CLASSIFICATION, []
    distinct = values.nunique()
    if distinct == 1:
        checked_classes({str(values.iloc[0]): len(values)}, f"column `{target.name}`")
    if numeric or not np.isnan(read).any():
        fractions = bool((np.nan_to_num(read) % 1).any())
        if fractions or distinct > _MOST_CLASSES:
            reason = f"`{target.name}` has {distinct:,} different numbers"
            return REGRESSION, [
                f"Task: regression, since {reason}; `--task classification` overrides this."
            ]
    reason = f"`{target.name}` has {distinct:,} different values"
    return CLASSIFICATION, [
        f"Task: classification, since {reason}; `--task regression` overrides this."
    ]


def _column_findings(columns: Sequence[Column]) -> list[str]:
    """What was noticed of each column; columns that are left out for the same reason together."""
    sentences = []
    for column in columns:
        if column.findings:
            verb = "" if column.kind == kinds.IGNORED else ": "
            text = "; ".join(column.findings)
            sentences.append(f"Column `{column.name}`{verb or ' '}{text}.")
    return sentences

"""The kinds of the columns of a table: numbers, categories, dates, texts, or ignored."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.base import listed
from keras_nas_plugin.starters.table_data import as_numbers

if TYPE_CHECKING:
    import pandas as pd

NUMBER, INTEGER, CATEGORY, DATE, TEXT, IGNORED = (
    *("number", "integer", "category"),
    *("date", "text", "ignored"),
)

# A column is of numbers, or dates, if at least this share of its values can be read as such.
_READABLE = 0.9
# An integer column with at most so many values is one of categories.
_INTEGER_VALUES = 10
# Values that tell whether a column may be one of dates.
_FIRST = 200
_CATEGORY_VALUES = 50
# Categories with fewer rows, in number and as a share, are rare.
_RARE_ROWS, _RARE_SHARE = 3, 0.005
_TEXT_WORDS = 3.0
_ID_NAME = re.compile(
    r"(^|[_ .-])(id|ids|uuid|guid|key|index|rowid|unnamed.*)$|^$|(?<=[a-z])I[dD]$"
)
_DATES = (
    (r"\d{4}-\d{2}-\d{2}", "%Y-%m-%d"),
    (r"\d{4}/\d{2}/\d{2}", "%Y/%m/%d"),
    (r"\d{2}\.\d{2}\.\d{4}", "%d.%m.%Y"),
    (r"\d{2}/\d{2}/\d{4}", "%m/%d/%Y"),
    (r"\d{2}/\d{2}/\d{4}", "%d/%m/%Y"),
)
_TIMES = (("", ""), (r"[T ]\d{2}:\d{2}", " %H:%M"), (r"[T ]\d{2}:\d{2}:\d{2}", " %H:%M:%S"))
_OTHER_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}( .*)?|\d{1,2} \w{3,9} \d{4}")


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        name: Its name.
        kind: One of the constants above.
        findings: What was noticed, a sentence each.
        values: The categories that get a feature each.
        pattern: Of dates: see `datetime.strptime`.
        decimal: The decimal sign of numbers, where it shows.
    """

    name: str
    kind: str
    findings: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    pattern: str = ""
    decimal: str = ""


def describe_column(name: str, values: pd.Series) -> Column:
    """What a column holds.

    Args:
        name: Its name.
        values: Texts; empty where a value is missing.

    Raises:
        SourceError: Its numbers have two decimal signs.
    """
    present = values[values != ""]
    distinct = present.nunique()
    if distinct == 0:
        return _ignored(name, "it is empty")
    if distinct == 1 and len(present) == len(values):
        return _ignored(name, f"it is constant ({present.iloc[0]!r})")
    findings = []
    if len(present) < len(values):
        share = 1 - len(present) / len(values)
        findings.append(f"{len(values) - len(present):,} values are missing ({share:.0%})")
    date = _date(name, present)
    if date is not None:
        return dataclasses.replace(date, findings=(*findings, *date.findings))
    number = _number(name, present)
    if number is not None:
        number = dataclasses.replace(number, findings=(*findings, *number.findings))
        return _integers(number, values, present)
    return _texts(name, present, len(values), findings)


def _ignored(name: str, reason: str) -> Column:
    return Column(name, IGNORED, (f"is left out: {reason}",))


def _number(name: str, present: pd.Series) -> Column | None:
    """The column as one of numbers, or None."""
    import pandas as pd

    zeros = present[present.str.startswith("0")]
    if zeros.str.fullmatch(r"0\d+").any():  # a code, such as a postcode
        return None
    if pd.to_numeric(present, errors="coerce").notna().all():
        return Column(
            name, NUMBER, decimal="." if present.str.contains(".", regex=False).any() else ""
        )
    commas = present.str.fullmatch(r"[-+]?\d{1,3}(\.\d{3})*,\d+|[-+]?\d+,\d+")
    points = present.str.fullmatch(r"[-+]?\d*\.\d+")
    thousands = present.str.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
    decimal = ""
    if (commas & ~thousands).any():
        if (points & ~present.str.fullmatch(r"[-+]?\d{1,3}\.\d{3}")).any():
            comma, point = present[commas & ~thousands].iloc[0], present[points].iloc[0]
            raise SourceError(
                f"column `{name}` must have one decimal sign; got both {comma!r} and {point!r}"
            )
        decimal = ","
    elif points.any():
        decimal = "."
    read = as_numbers(present, decimal or ".")
    unreadable = present[np.isnan(read)]
    if len(unreadable) > (1 - _READABLE) * len(present):
        return None
    findings = []
    if len(unreadable):
        shown = listed([repr(text) for text in unreadable.unique()], 3)
        findings.append(
            f"numbers stored as text, {len(unreadable):,} of which are no numbers and count as "
            f"missing ({shown})"
        )
    if thousands.any() and decimal != ",":
        findings.append(
            f"numbers with separators of thousands ({present[thousands].iloc[0]!r}), which the "
            "model takes as plain numbers"
        )
    if decimal == ",":
        findings.append("numbers with decimal commas, which the model takes as plain numbers")
    return Column(name, NUMBER, tuple(findings), decimal=decimal)


def _integers(column: Column, values: pd.Series, present: pd.Series) -> Column:
    """Ids, and integers that are categories, among numbers."""
    read = as_numbers(present, column.decimal or ".")
    if np.isnan(read).any() or (read % 1).any() or column.decimal:
        return column
    distinct = len(np.unique(read))
    if distinct == len(values) > _INTEGER_VALUES:
        steps = np.diff(read)
        if (steps == steps[0]).all() or _ID_NAME.search(column.name.strip()):
            return _ignored(column.name, "it is an id, different in every row")
    if 2 < distinct <= _INTEGER_VALUES and len(present) == len(values) >= 10 * distinct:
        categories = tuple(str(int(value)) for value in np.unique(read))
        return dataclasses.replace(column, kind=INTEGER, values=categories)
    return column


def _date(name: str, present: pd.Series) -> Column | None:
    import pandas as pd

    fitting = []
    first = present.iloc[:_FIRST]
    for expression, pattern in _DATES:
        for time, time_pattern in _TIMES:
            if first.str.fullmatch(expression + time).mean() < _READABLE:
                continue
            matches = present.str.fullmatch(expression + time)
            if matches.mean() >= _READABLE:
                texts = present[matches].str.replace("T", " ", regex=False)
                dates = pd.to_datetime(texts, format=pattern + time_pattern, errors="coerce")
                if dates.notna().all():
                    fitting.append(pattern + time_pattern)
    if fitting:
        findings = [f"dates ({fitting[0]}): the model computes year, season and weekday"]
        if len(fitting) > 1:
            findings.append(f"read as {fitting[0]}, although {fitting[1]} fits as well")
        return Column(name, DATE, tuple(findings), pattern=fitting[0])
    if first.str.fullmatch(_OTHER_DATE).mean() >= _READABLE:
        return _ignored(
            name, f"its dates ({first.iloc[0]!r}) are not written as 2026-11-30 or 30.11.2026"
        )
    return None


def _texts(name: str, present: pd.Series, rows: int, findings: Sequence[str]) -> Column:
    counts = present.value_counts()
    words = present.map(lambda text: len(text.split())).mean()
    if words >= _TEXT_WORDS and len(counts) > max(20, 0.2 * len(present)):
        return Column(name, TEXT, (*findings, f"texts of {words:.0f} words on average"))
    if len(counts) > 20 and len(counts) > 0.9 * len(present):
        return _ignored(name, f"it is an id or a name, different in almost every row ({rows:,})")
    least = max(_RARE_ROWS, _RARE_SHARE * len(present))
    frequent = [value for value in counts.index[:_CATEGORY_VALUES] if counts[value] >= least]
    if not frequent:
        frequent = list(counts.index[:_CATEGORY_VALUES])
    rare = [value for value in counts.index if value not in set(frequent)]
    if rare:
        findings = [
            *findings,
            f"{len(rare):,} rare categories share a feature ({listed(rare, 3)})",
        ]
    if len(present) < rows:
        findings = [*findings, "missing values are a category"]
        frequent.append("")
    return Column(name, CATEGORY, tuple(findings), values=tuple(sorted(map(str, frequent))))


def determines(values: pd.Series, target: pd.Series, column: Column, *, classes: bool) -> bool:
    """Whether a column alone determines the target, so that it may be known only afterwards.

    Args:
        values: The column.
        target: The target.
        column: What the column holds.
        classes: Whether the target has classes.
    """
    usable = ((values != "") & (target != "")).to_numpy()
    values, target = values[usable], target[usable]
    if len(values) < 20:
        return False
    if column.kind in (CATEGORY, INTEGER):
        groups = target.groupby(values).agg(["nunique", "size"])
        if not classes or (groups["nunique"] > 1).any() or groups["size"].mean() < 5:
            return False
        return len(groups) >= target.nunique()
    if column.kind != NUMBER:
        return False
    read = as_numbers(values, column.decimal or ".")
    target, read = target[~np.isnan(read)], read[~np.isnan(read)]
    if not classes:
        numbers = as_numbers(target)
        fits = ~np.isnan(numbers)
        if fits.sum() < 20 or np.std(read[fits]) == 0 or np.std(numbers[fits]) == 0:
            return False
        return bool(abs(np.corrcoef(read[fits], numbers[fits])[0, 1]) > 0.9999)
    # As many intervals as classes: each class has an interval of its own.
    sorted_target = target.to_numpy()[np.argsort(read, kind="stable")]
    changes = int((sorted_target[1:] != sorted_target[:-1]).sum())
    counts = target.value_counts()
    return changes == len(counts) - 1 and bool(counts.min() >= 5)

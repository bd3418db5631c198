"""The elements of a page: sections, tables, and values formatted for people."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

#: Maximum number of rows of a table in the page; the JSON in the page has all of them.
ROWS = 100


@dataclasses.dataclass(frozen=True)
class Link:
    """A link in a cell of a table.

    Attributes:
        text: What is shown.
        address: Where it leads.
    """

    text: str
    address: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text and links; long tables are truncated.

    Attributes:
        caption: Its caption.
        columns: Headings.
        rows: The first `ROWS` rows.
        omitted: Number of rows that were truncated.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    omitted: int = 0


@dataclasses.dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        key: Its anchor, and the prefix of the ids in it.
        title: Its heading.
        text: Its text, in sentences.
        svg: Its figure, if there is one.
        tables: Its tables; below a figure they are collapsed.
        wide: Whether the figure keeps its own size and scrolls; without a figure, whether the
            section is as wide as the page.
    """

    key: str
    title: str
    text: str
    svg: str | None = None
    tables: Sequence[Table] = ()
    wide: bool = False


def number(value: object) -> str:
    """Format a value for people.

    >>> number(0.123456), number(1234567.0), number(None), number(True)
    ('0.1235', '1,234,567', '–', 'True')
    """
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,.0f}" if isinstance(value, int | float) and abs(value) < 1e15 else str(value)


def percent(share: float) -> str:
    """Format a share in percent: ``12.3 %``."""
    return f"{100 * share:.1f} %"


def time_text(milliseconds: int | None) -> str:
    """Format a time, given in milliseconds since 1970, in UTC.

    >>> time_text(1_700_000_000_000)
    '2023-11-14 22:13:20'
    """
    if milliseconds is None:
        return "–"
    time = datetime.datetime.fromtimestamp(milliseconds / 1e3, tz=datetime.UTC)
    return time.strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Format a duration.

    >>> duration(4.2), duration(75), duration(7322)
    ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Create a table of formatted values with at most `ROWS` rows."""
    formatted = [
        [value if isinstance(value, Link) else number(value) for value in row] for row in rows
    ]
    return Table(caption, columns, formatted[:ROWS], max(0, len(formatted) - ROWS))

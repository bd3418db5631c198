"""HTML of results for notebooks: a caption and tables, without scripts and styles of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence


def html_table(heading: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table; every cell is escaped.

    >>> html_table(["name"], [["<b>"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{_text(cell)}</th>" for cell in heading)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_summary(title: str, values: Mapping[str, object], *tables: str) -> str:
    """A title, names with their values, and tables below them.

    Args:
        title: The title, as plain text.
        values: Shown as one line per name.
        *tables: Results of `html_table`.
    """
    lines = "".join(f"<br>{_text(name)}: {_text(value)}" for name, value in values.items())
    return f"<div><p><strong>{_text(title)}</strong>{lines}</p>{''.join(tables)}</div>"


def _text(value: object) -> str:
    if value is None:
        return "–"
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))

"""The HTML pages of a report and of a comparison: one self-contained file each."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.reports import comparison_sections
from keras_nas_plugin.reports.comparison import comparison_data
from keras_nas_plugin.reports.data import report_data
from keras_nas_plugin.reports.elements import Link, Section, number, time_text
from keras_nas_plugin.reports.sections import run_link, sections
from keras_nas_plugin.reports.svg import drawing

_REPORT, _COMPARISON = "report.html.j2", "comparison.html.j2"
# A value must not be able to close the script element that contains it.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_report(directory: str | os.PathLike[str], path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the report of a search as one HTML file.

    The file is self-contained: figures are inline SVG, numbers are JSON in the element
    ``report-data``. It loads nothing, and its one script only scrolls to sections.

    Args:
        directory: The project folder of a running or finished search.
        path: The file to write; an existing file is replaced.

    Returns:
        The path.

    Raises:
        StateError: The folder contains no search.
        OSError: The file cannot be written.
    """
    write_page(report_data(directory), path)
    return pathlib.Path(path)


def write_comparison(
    directories: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]
) -> pathlib.Path:
    """Write a comparison of searches as one self-contained HTML file; see `write_report`.

    Args:
        directories: Project folders of at least two searches with the same objective.
        path: The file to write; an existing file is replaced.

    Returns:
        The path.

    Raises:
        StateError: The searches cannot be compared; see `comparison_data`.
        OSError: The file cannot be written.
    """
    write_text(comparison_page(comparison_data(directories)), path)
    return pathlib.Path(path)


def write_page(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the page for the result of `report_data`; see `write_report`."""
    write_text(page(data), path)


def write_text(html: str, path: str | os.PathLike[str]) -> None:
    """Write a page; an existing file is replaced when the new one is complete."""

    def write(temporary: str) -> None:
        pathlib.Path(temporary).write_text(html, encoding="utf-8")

    write_atomic(path, write)


def page(data: Mapping[str, Any]) -> str:
    """Render the result of `report_data` as HTML; equal data give equal pages."""
    with drawing():
        parts = sections(data)
    run = run_link(data, data["best"] and data["best"]["run_id"])
    return _render(_REPORT, data, parts, best_run=run if isinstance(run, Link) else None)


def comparison_page(data: Mapping[str, Any]) -> str:
    """Render the result of `comparison_data` as HTML; equal data give equal pages."""
    with drawing():
        parts = comparison_sections.sections(data)
    return _render(_COMPARISON, data, parts, verdict=comparison_sections.verdict(data))


def _render(
    template: str, data: Mapping[str, Any], parts: Sequence[Section], **variables: object
) -> str:
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number, time=time_text)
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return environment.get_template(template).render(
        data=data,
        sections=parts,
        numbers=Markup(text.translate(_ESCAPES)),
        svg=Markup,
        **variables,
    )

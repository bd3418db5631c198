"""The page of a report: one file that needs nothing else."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.reports.data import report_data
from keras_nas_plugin.reports.sections import number, sections
from keras_nas_plugin.reports.svg import drawing

_TEMPLATE = "report.html.j2"
# So that no value can end the script element that it stands in.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_report(directory: str | os.PathLike, path: str | os.PathLike) -> pathlib.Path:
    """Write the report of a search as one HTML file.

    Everything is in the file: pictures as SVG, numbers as JSON in the element
    ``report-data``. It refers to nothing outside and runs no script.

    Args:
        directory: The project folder of a search, running or ended.
        path: The file to write; an earlier one is replaced.

    Returns:
        The path.

    Raises:
        StateError: The folder holds no search.
        OSError: The file cannot be written.
    """
    write_page(report_data(directory), path)
    return pathlib.Path(path)


def write_page(data: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write the page of `report_data`'s result: see `write_report`."""
    html = page(data)

    def write(temporary: str) -> None:
        pathlib.Path(temporary).write_text(html, encoding="utf-8")

    write_atomic(path, write)


def page(data: Mapping[str, Any]) -> str:
    """The HTML of `report_data`'s result; the same data give the same page."""
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    with drawing():
        parts = sections(data)
    return environment.get_template(_TEMPLATE).render(
        data=data, sections=parts, numbers=Markup(text.translate(_ESCAPES)), svg=Markup
    )

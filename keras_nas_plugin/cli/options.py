"""Options and types that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from keras_nas_plugin.tracking.records import SearchInfo

DIRECTORY = "searches"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType):
    """Seconds from ``90``, ``90s``, ``30m``, ``1h30m`` or ``2d``."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """See `click.ParamType.convert`."""
        if isinstance(value, float | int):
            return float(value)
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            message = f"needs a duration such as 90s, 30m or 1h30m; received {value!r}"
            self.fail(message, param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if seconds <= 0:
            self.fail(f"needs more than 0 seconds; received {value!r}", param, ctx)
        return seconds


def project_options(command: Callable) -> Callable:
    """`--directory` and `--project-name` of commands that read a search."""
    command = click.option(
        "--project-name", help="The search's name; without it the latest search there is read."
    )(command)
    return click.option(
        "--directory",
        default=DIRECTORY,
        show_default=True,
        help="Folder of all searches.",
    )(command)


def find_search(directory: str, project_name: str | None) -> SearchInfo:
    """The search that a command reads.

    Raises:
        click.UsageError: There is none.
    """
    if project_name is not None:
        found = SearchInfo.load(Path(directory) / project_name)
        if found is None:
            raise click.UsageError(
                f"`--project-name` needs a search in {directory!r}; received {project_name!r}. "
                f"There: {', '.join(sorted(_names(directory))) or 'none'}"
            )
        return found
    files = sorted(Path(directory).glob("*/search.json"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise click.UsageError(
            f"`--directory` needs a folder with searches; received {directory!r}, which has none"
        )
    return SearchInfo.load(files[-1].parent)


def _names(directory: str) -> list[str]:
    return [path.parent.name for path in Path(directory).glob("*/search.json")]

"""Options and types that several commands share."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors.memory import parse_bytes
from keras_nas_plugin.project import SEARCHES
from keras_nas_plugin.records.search import SearchInfo

DIRECTORY = SEARCHES
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType):
    """Seconds from ``90``, ``90s``, ``30m``, ``1h30m`` or ``2d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType.convert`."""
        if isinstance(value, float | int):
            return float(value)
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            message = f"must be a duration such as 90s, 30m or 1h30m; got {value!r}"
            self.fail(message, param, ctx)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if seconds <= 0:
            self.fail(f"must be more than 0 seconds; got {value!r}", param, ctx)
        return seconds


class Workers(click.ParamType):
    """A number of workers, or ``auto``."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """See `click.ParamType.convert`."""
        if value == "auto" or isinstance(value, int):
            return value
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"must be an integer of at least 1, or auto; got {value!r}", param, ctx)
        return int(value)


class Size(click.ParamType):
    """Bytes from ``2000000000``, ``2GB`` or ``1.5GiB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType.convert`."""
        name = param.opts[0] if param is not None else self.name
        try:
            return parse_bytes(value, name)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


class ClassNames(click.ParamType):
    """Names of classes, separated by commas, such as ``ham,spam``."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """See `click.ParamType.convert`."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(name.strip() for name in value.split(","))
        if len(names) < 2 or "" in names or len(set(names)) < len(names):
            self.fail(
                f"must be at least two different names such as ham,spam; got {value!r}", param, ctx
            )
        return names


_Command = TypeVar("_Command", bound=Callable[..., object])


def project_options(command: _Command) -> _Command:
    """Add the options `--directory` and `--project-name` to a command that reads a search."""
    command = click.option(
        "--project-name", help="Name of the search. [default: the latest in the directory]"
    )(command)
    return click.option(
        "--directory",
        default=DIRECTORY,
        show_default=True,
        help="Folder of all searches.",
    )(command)


def class_names_option(command: _Command) -> _Command:
    """Add the option `--class-names` to a command that registers models."""
    return click.option(
        "--class-names",
        type=ClassNames(),
        metavar="A,B,...",
        help="Names of the classes in the order of the model's outputs, with which a server "
        "answers. [default: CLASS_NAMES of the file]",
    )(command)


def data_options(default: str) -> Callable[[_Command], _Command]:
    """A decorator that adds the options `--data` and `--data-function` to a command.

    Args:
        default: Where the data are without these options.
    """

    def add(command: _Command) -> _Command:
        command = click.option(
            "--data-function",
            metavar="NAME",
            help="Name of the data function. [default: load_data, or that of the search]",
        )(command)
        return click.option(
            "--data",
            metavar="FILE",
            help="The data: an .npz with x and y, or a Python file with the data function. "
            f"[default: {default}]",
        )(command)

    return add


def store_options(command: _Command) -> _Command:
    """Add the options `--tracking-uri` and `--registry-uri` to a command."""
    command = click.option(
        "--registry-uri",
        envvar="MLFLOW_REGISTRY_URI",
        help="Registry URI of MLflow. [default: the tracking URI]",
    )(command)
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="Tracking URI of MLflow. [default: as in MLflow]",
    )(command)


@contextlib.contextmanager
def usage_errors(*errors: type[Exception]) -> Iterator[None]:
    """Report errors of the package as wrong usage, so that the exit code is 2.

    Args:
        *errors: Classes of the errors that a command's arguments cause.

    Raises:
        click.UsageError: The block raised one of these errors.
    """
    try:
        yield
    except errors as error:
        raise click.UsageError(str(error)) from error


def find_search(directory: str, project_name: str | None) -> SearchInfo:
    """Find the search that a command reads.

    Args:
        directory: Value of `--directory`.
        project_name: Value of `--project-name`; None for the latest search in the directory.

    Raises:
        click.UsageError: There is no such search.
    """
    if project_name is not None:
        named = SearchInfo.load(Path(directory) / project_name)
        if named is None:
            raise click.UsageError(
                f"`--project-name` must be a search in {directory!r}; got {project_name!r}. "
                f"Searches there: {', '.join(sorted(_names(directory))) or 'none'}"
            )
        return named
    files = sorted(Path(directory).glob("*/search.json"), key=lambda path: path.stat().st_mtime)
    latest = SearchInfo.load(files[-1].parent) if files else None
    if latest is None:
        raise click.UsageError(
            f"`--directory` must be a folder with searches; got {directory!r}, which has none"
        )
    return latest


def _names(directory: str) -> list[str]:
    return [path.parent.name for path in Path(directory).glob("*/search.json")]

"""Finds the line of the user's code in which an error was raised."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import keras_nas_plugin
from keras_nas_plugin.records.trial import Location

_PACKAGE = Path(keras_nas_plugin.__file__).resolve().parent
# The example recipes are written as a user would write them.
_RECIPES = _PACKAGE / "recipes"
_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
_INSTALLED = ("site-packages", "dist-packages")
# TensorFlow runs converted copies of functions from files of this name.
_GENERATED = "__autograph_generated_file"
# A frame of a formatted traceback with its code, if the code is known; between two errors of a
# chain stands a line of text.
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+).*(?:\n    (?P<code>\S.*))?', re.M)
_CHAINED = re.compile(r"^(?:The above exception was|During handling of the above).*:$", re.M)


def location_of(error: BaseException) -> Location | None:
    """The innermost line of the user's code that an error passed through.

    Code of the user is what belongs neither to an installed package, nor to Python's standard
    library, nor to this package. Where the error itself passed through none, the errors that it
    was raised from are searched.

    Args:
        error: An exception that was caught.

    Returns:
        File, line and code; None if the error was raised outside of the user's code.
    """
    for raised in _chain(error):
        frames = [
            frame
            for frame in traceback.extract_tb(raised.__traceback__)
            if frame.lineno is not None and _belongs_to_user(frame.filename)
        ]
        if frames:
            innermost = frames[-1]
            return Location(innermost.filename, innermost.lineno or 0, innermost.line or "")
    return None


def location_in(text: str) -> Location | None:
    r"""The same line as `location_of`, from a traceback as text.

    >>> location_in('Traceback:\n  File "model.py", line 3, in build\n    f(x)\nValueError: no')
    Location(file='model.py', line=3, code='f(x)')

    Args:
        text: What `traceback.format_exc` returned, or any other text.

    Returns:
        File, line and code; None if no line of the user's code is in the text.
    """
    for block in reversed(_CHAINED.split(text)):
        frames = [frame for frame in _FRAME.finditer(block) if _belongs_to_user(frame["file"])]
        if frames:
            frame = frames[-1]
            return Location(frame["file"], int(frame["line"]), (frame["code"] or "").strip())
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    raised: BaseException | None = error
    while raised is not None and id(raised) not in seen:
        seen.add(id(raised))
        yield raised
        raised = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)


def _belongs_to_user(file: str) -> bool:
    if file.startswith("<frozen") or _GENERATED in file:
        return False
    path = Path(file).resolve()
    if path.is_relative_to(_RECIPES):
        return True
    if path.is_relative_to(_PACKAGE) or any(part in _INSTALLED for part in path.parts):
        return False
    return not path.is_relative_to(_LIBRARY)

"""Numbers, values and shapes as text, for the notes, cards and labels that people read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class TensorInfo(NamedTuple):
    """An array of a data set.

    Attributes:
        name: Its path in the data set's profile, such as ``x`` or ``x/image``.
        shape: Its shape, with the number of rows first.
        dtype: The name of its type.
    """

    name: str
    shape: list[int]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})".strip()


def shorten(text: str, limit: int, *, whole_in: str | None = None) -> str:
    """``text``, or its beginning with a remark that says how long it was.

    Args:
        text: Text that may be too long.
        limit: Maximum number of characters of the result.
        whole_in: Name of the file with the full text, for the remark.
    """
    if len(text) <= limit:
        return text
    where = f", whole in {whole_in}" if whole_in else ""
    remark = f" ... [cut: {len(text):,} characters{where}]"
    return text[: limit - len(remark)] + remark


def inline(value: object) -> str:
    r"""A value as text without line breaks.

    >>> inline("two\n  lines")
    'two lines'
    """
    return " ".join(str(value).split())


def text_of(value: object) -> str:
    """A value as text: strings unchanged, dictionaries and lists as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return str(value)


def number_text(value: object) -> str:
    """A number with at most six significant digits; other values as text.

    >>> number_text(0.97312345), number_text(1234567.0), number_text(None), number_text("relu")
    ('0.973123', '1,234,567', 'not known', 'relu')
    """
    if value is None:
        return "not known"
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def short_number(value: float, width: int = 6) -> str:
    """A number in about ``width`` characters, with as many digits as fit.

    >>> short_number(0.97312), short_number(-0.97312), short_number(1234567.0)
    ('0.9731', '-0.973', '1.2e+6')
    """
    for digits in range(width, 0, -1):
        text = re.sub(r"e([+-])0+(?=\d)", r"e\1", f"{value:.{digits}g}")
        if len(text) <= width:
            return text
    return text


def count_text(number: int) -> str:
    """A count; scientific notation from a billion on.

    >>> count_text(1200), count_text(10**12)
    ('1,200', '1.0e+12')
    """
    return f"{number:,}" if number < 1e9 else f"{number:.1e}"


def duration_text(seconds: float) -> str:
    """A duration, such as ``3 h 20 min`` or ``45 s``.

    >>> duration_text(45), duration_text(125), duration_text(12_000)
    ('45 s', '2 min 5 s', '3 h 20 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def profile_text(profile: object, limit: int) -> str:
    """The arrays of a data set, or its other properties if its profile lists no array.

    Args:
        profile: The data set's profile.
        limit: Maximum number of characters of the result.
    """
    texts: Iterable[str] = map(str, tensors_of(profile))
    text = ", ".join(texts)
    if not text and isinstance(profile, Mapping):
        text = ", ".join(f"{key} {text_of(value)}" for key, value in profile.items())
    return shorten(inline(text), limit)


def tensors_of(profile: object, name: str = "") -> list[TensorInfo]:
    """Every array in a data set's profile.

    >>> profile = {"x": {"shape": [9, 2], "dtype": "int8"}, "y": {"shape": [9], "dtype": "int8"}}
    >>> [str(tensor) for tensor in tensors_of(profile)]
    ['x int8 (9, 2)', 'y int8 (9)']
    """
    if isinstance(profile, Mapping):
        if "shape" in profile and "dtype" in profile:
            return [TensorInfo(name, list(profile["shape"]), str(profile["dtype"]))]
        items = [(str(key), value) for key, value in profile.items()]
    elif isinstance(profile, list | tuple):
        items = [(str(index), value) for index, value in enumerate(profile)]
    else:
        return []
    nested = [tensors_of(value, f"{name}/{key}" if name else key) for key, value in items]
    return [tensor for tensors in nested for tensor in tensors]

"""Parts of the text of recipes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

_WIDTH = 96


def constant(name: str, value: object, comment: str = "") -> str:
    """A line, or several, that define a constant.

    >>> print(constant("SEED", 0, "of the split"))
    SEED = 0  # of the split
    """
    line = f"{name} = {literal(value)}"
    if not comment:
        return line
    if "\n" not in line and len(line) + len(comment) + 4 <= _WIDTH:
        return f"{line}  # {comment}"
    wrapped = textwrap.wrap(comment, _WIDTH - 2)
    return "\n".join([*(f"# {text}" for text in wrapped), line])


def literal(value: object) -> str:
    """A value as Python code, in lines that are not too long.

    >>> print(literal(["a", 'b"']))
    ["a", 'b"']
    """
    line = _code(value)
    if len(line) <= _WIDTH - 24 or not isinstance(value, Mapping | list | tuple):
        return line
    if isinstance(value, Mapping):
        entries = [
            textwrap.indent(f"{_code(key)}: {literal(entry)},", "    ")
            for key, entry in value.items()
        ]
        return "\n".join(["{", *entries, "}"])
    opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
    lines, current = [], "   "
    for entry in value:
        text = f" {_code(entry)},"
        if len(current) + len(text) > _WIDTH and current.strip():
            lines.append(current)
            current = "   "
        current += text
    return "\n".join([opening, *lines, current, closing])


def _code(value: object) -> str:
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, Mapping):
        entries = (f"{_code(key)}: {_code(entry)}" for key, entry in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_code, value)) + "]"
    return repr(value)


def module(
    *,
    title: str,
    findings: Iterable[str],
    output: str,
    imports: Sequence[str],
    constants: Sequence[str],
    functions: Sequence[str],
) -> str:
    """The text of a recipe.

    Args:
        title: What it predicts, a sentence.
        findings: What was noticed in the data, a sentence each.
        output: Name of its file.
        imports: Import statements.
        constants: See `constant`.
        functions: Definitions of functions.
    """
    notes = [
        textwrap.fill(f"* {text}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        for text in findings
    ]
    seen = ["What was noticed in the data:", "", *notes, ""] if notes else []
    text = "\n".join(
        [
            title,
            "",
            "Written by `keras-nas init`, to be edited. Search it with",
            "",
            f"    keras-nas search {output} --max-trials 30 --epochs 20",
            "",
            *seen,
        ]
    )
    text = text.replace("\\", "\\\\").replace('"""', "'''")
    head = f'"""{text}"""\n\n' + "\n".join(imports) + "\n\n" + "\n".join(constants)
    return "\n\n\n".join([head, *(textwrap.dedent(part).strip("\n") for part in functions)]) + "\n"


def imported(names: Sequence[str]) -> str:
    """The import of helpers from `keras_nas_plugin.starters`.

    >>> imported(["stratified", "cached"])
    'from keras_nas_plugin.starters import cached, stratified'
    """
    names = sorted(set(names))
    line = f"from keras_nas_plugin.starters import {', '.join(names)}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join(
        ["from keras_nas_plugin.starters import (", *(f"    {name}," for name in names), ")"]
    )

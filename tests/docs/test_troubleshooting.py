"""The messages in `troubleshooting.md` are those of the package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# Tables of the messages of other programs have other headings.
TABLES = re.findall(r"^\| message \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
ROWS = [row for table in TABLES for row in table.splitlines()]


def messages(row):
    """The messages in the first cell of a row, each as the texts between its variable parts."""
    cell = row.split("|")[1]
    for two, one in re.findall(r"``\s?(.+?)\s?``(?!`)|`([^`]+)`", cell):
        yield [part.strip() for part in (two or one).split("...") if part.strip(" `.:")]


def texts():
    """Every text in the package, with a gap where a value is inserted."""
    for path in (ROOT / "keras_nas_plugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", None) for part in node.values]
                yield "".join(part if isinstance(part, str) else "\0" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[a-z]", "\0", node.value)


@pytest.fixture(scope="module")
def package():
    return [*texts()]


def test_there_are_tables_of_messages():
    assert len(TABLES) >= 7
    assert len(ROWS) >= 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_the_message_is_one_of_the_package(row, package):
    listed = [*messages(row)]
    assert listed and all(listed), row
    for parts in listed:
        for part in parts:
            assert any(part in text for text in package), f"no message contains {part!r}"

"""Examples in docstrings are documentation and must be correct."""

import doctest
import importlib
from pathlib import Path

import pytest

import keras_nas_plugin

PACKAGE = Path(keras_nas_plugin.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_pass(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted > 0
    assert failed == 0

"""Names of oracles on a command line: ``module:name``."""

from __future__ import annotations

import importlib
from typing import Any


def load(target: str) -> Any:
    """Import the object that ``module:name`` names.

    >>> load("math:sqrt")(4.0)
    2.0
    """
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def target_of(oracle_class: type) -> str:
    """The ``module:name`` of a class that can be imported."""
    return f"{oracle_class.__module__}:{oracle_class.__qualname__}"

"""Environment variables that hold while Ray reads them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def defaults_of_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, and remove them again.

    Args:
        values: Values by name.
    """
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)

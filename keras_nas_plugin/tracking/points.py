"""Values of metrics as plain data."""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """One value of one metric.

    Attributes:
        key: The metric's name in the store.
        value: The value.
        time_ms: When it was measured, in milliseconds since 1970 (UTC).
        step: Position on the curve: an epoch, or a number of trials.
    """

    key: str
    value: float
    time_ms: int
    step: int

"""Words of messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Format a count with its noun.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

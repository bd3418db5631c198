"""Words of messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Format a count with its noun.

    >>> counted(1, "trial"), counted(2000, "trial")
    ('1 trial', '2,000 trials')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted_are(count: int, noun: str) -> str:
    """Format a count with its noun and its verb.

    >>> counted_are(1, "trial"), counted_are(2000, "trial")
    ('1 trial is', '2,000 trials are')
    """
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"

"""Random edits of many encoded configurations at once: the moves of `Domain`, vectorised."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.space.domains import MUTATION_SCALE
from keras_nas_plugin.space.encoding import Column, Encoding

# Ordered columns with at most this many values are searched from value to next value.
_SHORT = 12
# Steps along longer ones, from one that explores to one that refines the best value found.
_STEPS = (MUTATION_SCALE, MUTATION_SCALE / 2.0, MUTATION_SCALE / 4.0, MUTATION_SCALE / 10.0)


def reflect(positions: np.ndarray) -> np.ndarray:
    """Fold numbers into [0, 1) by reflection at both ends.

    Args:
        positions: Any shape.

    >>> reflect(np.array([-0.25, 0.5, 1.25])).tolist()
    [0.25, 0.5, 0.75]
    """
    folded = positions % 2.0
    return np.minimum(np.where(folded >= 1.0, 2.0 - folded, folded), np.nextafter(1.0, 0.0))


def move(
    column: Column, codes: np.ndarray, rng: np.random.Generator, scale: float = MUTATION_SCALE
) -> np.ndarray:
    """Other values of one column: any other label, or one a Gaussian step away.

    See `Domain.mutate`: a step too small to leave a listed value goes to the next one.

    Args:
        column: The column.
        codes: Shape ``[n]``; an unknown label moves to any known one.
        rng: Source of randomness.
        scale: Standard deviation of a step along an ordered column.

    Returns:
        Codes of shape ``[n]``.
    """
    if not column.ordered:
        labels = len(column.values)
        others = (codes + 1.0 + rng.integers(labels - 1, size=len(codes))) % labels
        return np.where(codes >= 0.0, others, rng.integers(labels, size=len(codes)))
    step = rng.normal(0.0, scale, size=len(codes))
    moved = column.at(reflect(codes + step))
    if column.values is not None:
        same = moved == codes
        moved[same] = column.beside(codes[same], step[same] > 0.0)
    return moved


def mutate(encoding: Encoding, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each row with one active column changed; what that activates is drawn.

    Args:
        encoding: Of the space.
        codes: Shape ``[n, columns]``.
        rng: Source of randomness.

    Returns:
        Shape ``[n, columns]``, complete.
    """
    chances = np.where(np.isnan(codes), -1.0, rng.random(codes.shape))
    # A row without an active column picks one that does not exist, and stays as it is.
    picked = np.argmax(np.pad(chances, ((0, 0), (0, 1)), constant_values=-0.5), axis=1)
    edited = codes.copy()
    for at, column in enumerate(encoding.columns):
        rows = picked == at
        edited[rows, at] = move(column, codes[rows, at], rng)
    return encoding.complete(edited, rng)


def neighbours(encoding: Encoding, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows that differ from one of these in one active column.

    All other labels of an unordered column, the next value on each side of a short
    ordered one, and Gaussian steps of four sizes along a longer one. What an edit
    activates is drawn.

    Args:
        encoding: Of the space.
        codes: Shape ``[n, columns]``.
        rng: Source of randomness.

    Returns:
        Shape ``[m, columns]``, complete; rows may repeat.
    """
    found = [np.zeros((0, codes.shape[1]))]
    for at, column in enumerate(encoding.columns):
        rows = codes[~np.isnan(codes[:, at])]
        for near in _near(column, rows[:, at], rng):
            edited = rows.copy()
            edited[:, at] = near
            found.append(edited)
    return encoding.complete(np.concatenate(found), rng)


def _near(column: Column, codes: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Several neighbouring codes of each code, as arrays of the shape of ``codes``."""
    if not column.ordered:
        labels = len(column.values)
        # An unknown label, -1, becomes each label but the last, which one more step adds.
        return [(codes + step) % labels for step in range(1, labels)]
    if column.values is not None and len(column.values) <= _SHORT:
        return [column.beside(codes, np.full(len(codes), up)) for up in (True, False)]
    return [move(column, codes, rng, scale) for scale in _STEPS]


def rows_of(codes: np.ndarray) -> list[bytes]:
    """A key for each row: equal for equal rows, NaN included.

    Args:
        codes: Shape ``[n, columns]``.

    >>> first, second = rows_of(np.array([[0.5, np.nan], [0.5, np.nan]]))
    >>> first == second
    True
    """
    # Zero has two signs, and NaN many forms.
    plain = np.where(np.isnan(codes), np.nan, codes) + 0.0
    return [row.tobytes() for row in plain]

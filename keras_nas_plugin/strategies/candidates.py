"""Random edits of many encoded configurations at once: the moves of `Domain`, vectorised."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.space.domains import MUTATION_SCALE
from keras_nas_plugin.space.encoding import Column, Encoding

# In ordered columns with at most this many values, the neighbours of a value are the next ones.
_SHORT = 12
# Sizes of the steps along longer columns, from exploration to refinement of the best value.
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
    """Move each value of a column: to any other label, or by a Gaussian step.

    As in `Domain.mutate`, a step that is too small to leave a listed value leads to the next one.

    Args:
        column: The column.
        codes: Shape ``[n]``; a label that is not in the space becomes any label that is.
        rng: Source of randomness.
        scale: Standard deviation of a step along an ordered column.

    Returns:
        Codes of shape ``[n]``.
    """
    if not column.ordered:
        labels = len(column.values or ())
        different = (codes + 1.0 + rng.integers(labels - 1, size=len(codes))) % labels
        return np.where(codes >= 0.0, different, rng.integers(labels, size=len(codes)))
    step = rng.normal(0.0, scale, size=len(codes))
    moved = column.at(reflect(codes + step))
    if column.values is not None:
        same = moved == codes
        moved[same] = column.beside(codes[same], step[same] > 0.0)
    return moved


def mutate(encoding: Encoding, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change one active column of each row, and draw the decisions that this activates.

    Args:
        encoding: Encoding of the space.
        codes: Shape ``[n, columns]``.
        rng: Source of randomness.

    Returns:
        Shape ``[n, columns]``, complete.
    """
    chances = np.where(np.isnan(codes), -1.0, rng.random(codes.shape))
    # A row without an active column picks the padding, and stays unchanged.
    picked = np.argmax(np.pad(chances, ((0, 0), (0, 1)), constant_values=-0.5), axis=1)
    edited = codes.copy()
    for at, column in enumerate(encoding.columns):
        rows = picked == at
        edited[rows, at] = move(column, codes[rows, at], rng)
    return encoding.complete(edited, rng)


def neighbours(encoding: Encoding, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows that differ from one of the given rows in one active column.

    They have all other labels of an unordered column, the next value on each side in a short
    ordered one, and Gaussian steps of four sizes along a longer one. Decisions that an edit
    activates are drawn.

    Args:
        encoding: Encoding of the space.
        codes: Shape ``[n, columns]``.
        rng: Source of randomness.

    Returns:
        Shape ``[m, columns]``, complete; rows may repeat.
    """
    variants = [np.zeros((0, codes.shape[1]))]
    for at, column in enumerate(encoding.columns):
        rows = codes[~np.isnan(codes[:, at])]
        for near in _neighbouring_codes(column, rows[:, at], rng):
            edited = rows.copy()
            edited[:, at] = near
            variants.append(edited)
    return encoding.complete(np.concatenate(variants), rng)


def _neighbouring_codes(
    column: Column, codes: np.ndarray, rng: np.random.Generator
) -> list[np.ndarray]:
    """Neighbouring codes of each code: arrays in the shape of ``codes``."""
    if not column.ordered:
        labels = len(column.values or ())
        # An unknown label, -1, becomes each label except the last.
        return [(codes + step) % labels for step in range(1, labels)]
    if column.values is not None and len(column.values) <= _SHORT:
        return [column.beside(codes, np.full(len(codes), up)) for up in (True, False)]
    return [move(column, codes, rng, scale) for scale in _STEPS]


def rows_of(codes: np.ndarray) -> list[bytes]:
    """A key for each row; equal rows have equal keys, also where they are NaN.

    Args:
        codes: Shape ``[n, columns]``.

    >>> first, second = rows_of(np.array([[0.5, np.nan], [0.5, np.nan]]))
    >>> first == second
    True
    """
    # Zero has two signs, and NaN many bit patterns: use one of each.
    plain = np.where(np.isnan(codes), np.nan, codes) + 0.0
    width = plain.itemsize * plain.shape[1]
    return plain.view(f"V{width}").ravel().tolist() if width else [b""] * len(plain)

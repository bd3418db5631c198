"""Similarity of configurations whose columns are labels, numbers or inactive."""

from __future__ import annotations

import math

import numpy as np

from keras_nas_plugin.space.encoding import Encoding

# Distance between any value of a column and inactive; two values are at most 1 apart.
_RADIUS = math.sqrt(0.5)


def embed(encoding: Encoding, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points whose squared distances compare configurations column by column.

    Within a column, two different labels are 1 apart (Hamming distance). The values of an ordered
    column are on a quarter of a circle, whose ends are 1 apart. An inactive column is at the
    origin: at squared distance 1/2 from every value, and 0 from another inactive one.

    Source: Hutter & Osborne 2013, "A Kernel for Hierarchical Parameter Spaces", section
    3 (the arc kernel, with rho = 1/2 and omega^2 = 1/2).

    Args:
        encoding: Encoding of the space.
        codes: Shape ``[n, columns]``.

    Returns:
        Points, shape ``[n, width]``, and the column of each of their coordinates, shape
        ``[width]``.

    >>> from keras_nas_plugin.space import Categorical, Decision, SearchSpec
    >>> encoding = Encoding(SearchSpec((Decision("a", Categorical((1, 2, 3))),)))
    >>> points, columns = embed(encoding, np.array([[0.0], [2.0], [np.nan]]))
    >>> squared_distances(points, points).round(9).tolist()
    [[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.0]]
    >>> columns.tolist()
    [0, 0, 0]
    """
    parts = [np.zeros((len(codes), 0))]
    for at, column in enumerate(encoding.columns):
        code = codes[:, at, None]
        if column.ordered:
            angle = np.pi / 2.0 * code
            part = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
            parts.append(np.where(np.isnan(part), 0.0, part))
        else:
            parts.append((code == np.arange(len(column.values or ()))).astype(float))
    owners = [np.full(part.shape[1], at) for at, part in enumerate(parts[1:])]
    columns = np.concatenate([np.zeros(0, np.intp), *owners])
    return _RADIUS * np.concatenate(parts, axis=1), columns


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, computed with a single matrix product.

    Args:
        first: Shape ``[n, width]``.
        second: Shape ``[m, width]``.

    Returns:
        Shape ``[n, m]``, at least 0.

    >>> squared_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist()
    [[25.0]]
    """
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    squares -= 2.0 * first @ second.T
    return np.maximum(squares, 0.0, out=squares)


def matern52(squared: np.ndarray) -> np.ndarray:
    """Matérn kernel with smoothness 5/2, variance 1 and length 1.

    Source: Rasmussen & Williams 2006, equation 4.17.

    Args:
        squared: Squared distances, any shape.

    >>> matern52(np.array([0.0, 1.0])).round(4).tolist()
    [1.0, 0.524]
    """
    # In place: for large matrices, new arrays take longer than the arithmetic.
    root = np.asarray(5.0 * squared)
    np.sqrt(root, out=root)
    polynomial, square = 1.0 + root, root**2
    square /= 3.0
    polynomial += square
    np.exp(np.negative(root, out=root), out=root)
    polynomial *= root
    return polynomial


def matern52_slope(squared: np.ndarray) -> np.ndarray:
    """Derivative of `matern52` with respect to the squared distance.

    Args:
        squared: Squared distances, any shape.

    >>> matern52_slope(np.array([0.0])).round(4).tolist()
    [-0.8333]
    """
    root = np.sqrt(5.0 * squared)
    return -5.0 / 6.0 * (1.0 + root) * np.exp(-root)

"""Combining several proxies, which complement each other, into a single ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from keras_nas_plugin.proxies.base import ProxyError

#: The proxies of AZ-NAS. The FLOPs, its fourth, are computed separately (see `rank_aggregate`).
AZ_NAS = ("expressivity", "progressivity", "trainability")


def rank_aggregate(scores: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Combine the scores of a pool of networks by their ranks.

    The sum over the proxies of ``log(rank / n)``, where the worst of ``n`` networks has rank 1
    and ties share their mean rank. The logarithm penalises a network that is bad by any proxy
    more than it rewards one that is good by another. With `AZ_NAS` and the FLOPs as columns
    this is the score of AZ-NAS.

    Source: Lee & Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture
    Search", section 3.3, non-linear ranking aggregation.

    Args:
        scores: A column per proxy, shape ``[n]``: the score of each network, larger is better.

    Returns:
        Shape ``[n]``, at most 0; larger is better.

    Raises:
        ProxyError: There is no column, they differ in length, or a score is NaN.

    >>> rank_aggregate({"a": [1.0, 2.0], "b": [5.0, 9.0]}).round(3)
    array([-1.386,  0.   ])
    """
    columns = {name: np.asarray(column, dtype=float) for name, column in scores.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ProxyError(f"`scores` must have columns of the same length; got the shapes {shapes}")
    total = np.zeros(next(iter(shapes.values())))
    for name, column in columns.items():
        if np.isnan(column).any():
            raise ProxyError(f"`scores` must be numbers or -inf; {name!r} has NaN")
        total += np.log(stats.rankdata(column) / len(column))
    return total

"""Importance of each decision for the score: functional analysis of variance (fANOVA)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.reports.leaf_regions import Box, Grid, intersect
from keras_nas_plugin.reports.outliers import clip_far_out
from keras_nas_plugin.reports.space import condition_text
from keras_nas_plugin.space.spec import SearchSpec

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor

#: Trees in the forest.
TREES = 64
#: Minimum number of finished trials for which the importance is computed.
MIN_TRIALS = 10
# Interactions are computed between this many of the most important decisions.
_PAIRED_DECISIONS = 6
_MAX_LEAVES = 256
# The middle 90 % of the trees, in percent.
_INTERVAL = (5.0, 95.0)


@dataclasses.dataclass(frozen=True)
class VarianceParts:
    """The decomposition of the variance of one function over a space.

    Attributes:
        mean: Mean over the space.
        variance: Variance over the space.
        main: Main effect of each decision: its share of the variance.
        effects: For each decision and cell, the marginal mean minus the decision's own mean.
        pairs: Interaction effect of two decisions: its share of the variance.
    """

    mean: float
    variance: float
    main: tuple[float, ...]
    effects: tuple[np.ndarray, ...]
    pairs: Mapping[tuple[int, int], float]


def decompose_variance(
    grid: Grid,
    boxes: Sequence[Box],
    values: np.ndarray,
    pairs: Sequence[tuple[int, int]] = (),
) -> VarianceParts:
    """Decompose the variance of a piecewise constant function exactly.

    The marginal of a decision is the mean over all other decisions; the variance of the
    marginal, relative to that of the function, is the decision's share. For a conditional
    decision only the region where it is active counts: its share is the variance of its
    marginal there, times the probability of the region. The tree sees ignored draws of inactive
    decisions, which spread this variance over the decision itself and its interactions with its
    parents; dividing by the probability reunites it.

    Source: Hutter, Hoos & Leyton-Brown 2014, "An Efficient Approach for Assessing
    Hyperparameter Importance"; the conditions as in the nested analysis of variance (Searle,
    Casella & McCulloch 1992, "Variance Components").

    Args:
        grid: The search space.
        boxes: Disjoint boxes that cover the space.
        values: The value of the function in each box, shape ``[boxes]``.
        pairs: Columns whose interactions are computed; neither may depend on the other.
    """
    masks = [
        np.array([grid.row(index, box.get(index, -1)) for box in boxes]).reshape(len(boxes), size)
        for index, size in enumerate(grid.sizes)
    ]
    inside = np.array([mask @ p for mask, p in zip(masks, grid.probabilities, strict=True)])
    inside = inside.reshape(len(grid.sizes), len(boxes))
    volumes = inside.prod(axis=0)
    mean = float(values @ volumes)
    variance = max(float((values - mean) ** 2 @ volumes), 0.0)
    centred = values - mean
    other_columns = _products_of_others(inside)
    marginals = [(centred * other_columns[index]) @ mask for index, mask in enumerate(masks)]
    active = [grid.volume(region) for region in grid.active]
    main, effects = [], []
    for index, marginal in enumerate(marginals):
        effects.append(marginal / active[index] if active[index] else marginal)
        main.append(_share(grid.probabilities[index] @ marginal**2, active[index], variance))
    interactions = {}
    for i, j in pairs:
        remaining = np.delete(inside, [i, j], axis=0).prod(axis=0)
        joint = (masks[i] * (centred * remaining)[:, None]).T @ masks[j]
        joint = joint - marginals[i][:, None] - marginals[j][None, :]
        spread = grid.probabilities[i] @ joint**2 @ grid.probabilities[j]
        both_active = grid.volume(_overlap(grid, i, j))
        interactions[i, j] = _share(spread, both_active, variance)
    return VarianceParts(mean, variance, tuple(main), tuple(effects), interactions)


def _share(spread: float, active: float, variance: float) -> float:
    return float(spread / active / variance) if active > 0 and variance > 0 else 0.0


def _products_of_others(factors: np.ndarray) -> np.ndarray:
    """For each row the product of all other rows, shape ``[k, n]``; zeros are allowed.

    >>> _products_of_others(np.array([[2.0], [0.0], [5.0]])).ravel().tolist()
    [0.0, 10.0, 0.0]
    """
    ones = np.ones((1, factors.shape[1]))
    before = np.cumprod(np.concatenate([ones, factors]), axis=0)[:-1]
    after = np.cumprod(np.concatenate([ones, factors[::-1]]), axis=0)[:-1][::-1]
    return before * after


def _overlap(grid: Grid, i: int, j: int) -> list[Box]:
    return intersect(grid.active[i], grid.active[j])


def importance(
    spec: SearchSpec,
    values: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    *,
    maximise: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """The share of the scores' variance that decisions and pairs of decisions explain.

    A random forest learns the scores; the variance of each tree is decomposed exactly
    (`decompose_variance`). The interval contains the middle 90 % of the trees. Scores far worse
    than the others (three interquartile ranges below the lower quartile) are clipped: otherwise
    a single training that diverged would make up all the variance.

    Args:
        spec: The search space.
        values: Configurations of the trials.
        scores: Their scores.
        maximise: Whether larger scores are better.
        seed: Seed of the forest.

    Returns:
        As JSON types: ``decisions`` and ``pairs``, each from the most to the least important;
        ``explained``, the out-of-bag R² of the forest; and a ``note`` instead if the trials are
        too few to learn from.
    """
    account: dict[str, Any] = {"trials": len(values), "trees": TREES, "decisions": [], "pairs": []}
    grid = Grid(spec)
    if not grid.columns:
        return {**account, "note": "The space has no decision with more than one value."}
    if len(values) < MIN_TRIALS or len(set(scores)) < 2:
        required = f"at least {MIN_TRIALS} finished trials with different scores"
        return {**account, "note": f"Importance requires {required}; there are {len(values)}."}
    clipped = clip_far_out(np.array(scores, dtype=float), maximise=maximise)
    forest = _fit(grid.features(grid.cells(values)), clipped, seed)
    regions = [grid.leaf_regions(tree.tree_) for tree in forest.estimators_]
    parts = [decompose_variance(grid, *region) for region in regions]
    informative = [tree for tree, part in enumerate(parts) if part.variance > 0]
    if not informative:
        return {**account, "note": "No decision explains the differences between the scores."}
    shares = np.array([parts[tree].main for tree in informative])
    pairs = _candidate_pairs(grid, shares.mean(axis=0))
    interactions = [decompose_variance(grid, *regions[tree], pairs).pairs for tree in informative]
    effects = [
        [parts[tree].effects[column] for tree in informative] for column in range(len(grid.sizes))
    ]
    return {
        **account,
        "note": None,
        "explained": float(forest.oob_score_),
        "clipped": int((clipped != np.array(scores)).sum()),
        "decisions": _decisions(grid, shares, effects),
        "pairs": _pairs(grid, pairs, interactions),
    }


def _fit(features: np.ndarray, scores: np.ndarray, seed: int) -> RandomForestRegressor:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        TREES, max_features=0.7, max_leaf_nodes=_MAX_LEAVES, oob_score=True, random_state=seed
    )
    return forest.fit(features, scores)


def _candidate_pairs(grid: Grid, shares: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the most important decisions, without pairs in which one depends on the other."""
    top = sorted(np.argsort(-shares, kind="stable")[:_PAIRED_DECISIONS].tolist())
    parents = [{index for box in region for index in box} for region in grid.active]
    return [
        (i, j)
        for i, j in itertools.combinations(top, 2)
        if i not in parents[j] and j not in parents[i] and _overlap(grid, i, j)
    ]


def _decisions(
    grid: Grid, shares: np.ndarray, effects: Sequence[Sequence[np.ndarray]]
) -> list[dict[str, Any]]:
    low, high = np.percentile(shares, _INTERVAL, axis=0)
    mean = shares.mean(axis=0)
    return [
        {
            "name": grid.columns[index].name,
            "condition": condition_text(grid.decisions[index]),
            "active": grid.volume(grid.active[index]),
            "share": float(mean[index]),
            "low": float(low[index]),
            "high": float(high[index]),
            "values": grid.values(index),
            "effects": np.mean(effects[index], axis=0).tolist(),
        }
        for index in np.argsort(-mean, kind="stable").tolist()
    ]


def _pairs(
    grid: Grid,
    pairs: Sequence[tuple[int, int]],
    interactions: Sequence[Mapping[tuple[int, int], float]],
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        shares = [by_pair[pair] for by_pair in interactions]
        low, high = np.percentile(shares, _INTERVAL)
        rows.append(
            {
                "names": [grid.columns[index].name for index in pair],
                "share": float(np.mean(shares)),
                "low": float(low),
                "high": float(high),
            }
        )
    return sorted(rows, key=lambda row: -row["share"])

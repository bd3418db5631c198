"""Which decisions the scores of a search depend on: functional analysis of variance."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.reports.boxes import Box, Grid, intersect
from keras_nas_plugin.reports.space import condition_text
from keras_nas_plugin.space.spec import SearchSpec

#: Trees of the forest.
TREES = 64
#: Fewer finished trials say nothing about what matters.
FEWEST = 10
# Pairs are looked at among this many of the most important decisions.
_PAIRED = 6
_LEAVES = 256
# Tukey 1977: "far out" is what lies three interquartile ranges beyond a quartile.
_FAR_OUT = 3.0
# The middle nine tenths of the trees.
_INTERVAL = (5.0, 95.0)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The variance of one function over a space, taken apart.

    Attributes:
        mean: Over the space.
        variance: Over the space.
        main: Per decision its share of the variance.
        effects: Per decision and cell, how far the mean there lies above the decision's own.
        pairs: Per two decisions the share of what they do together only.
    """

    mean: float
    variance: float
    main: tuple[float, ...]
    effects: tuple[np.ndarray, ...]
    pairs: Mapping[tuple[int, int], float]


def take_apart(
    grid: Grid,
    boxes: Sequence[Box],
    values: np.ndarray,
    pairs: Sequence[tuple[int, int]] = (),
) -> Parts:
    """Split the variance of a function that is constant on boxes, exactly.

    A decision's marginal is the mean over all others; the variance of the marginal, relative
    to that of the function, is the decision's share. Of a decision with conditions only the
    places count where it is active: its share is the variance of its marginal there, times
    how probable they are. A tree's ignored draws of inactive decisions spread that over the
    decision itself and its interactions with those that it hangs on; dividing by the
    probability puts it together again.

    Source: Hutter, Hoos & Leyton-Brown 2014, "An Efficient Approach for Assessing
    Hyperparameter Importance"; the conditions as in the nested analysis of variance (Searle,
    Casella & McCulloch 1992, "Variance Components").

    Args:
        grid: The space.
        boxes: Disjoint, covering the space.
        values: The function's value in each.
        pairs: Columns whose interaction is wanted; neither may depend on the other.
    """
    masks = [
        np.array([grid.row(at, box.get(at, -1)) for box in boxes]).reshape(len(boxes), size)
        for at, size in enumerate(grid.sizes)
    ]
    inside = np.array([m @ p for m, p in zip(masks, grid.probabilities, strict=True)])
    inside = inside.reshape(len(grid.sizes), len(boxes))
    volumes = inside.prod(axis=0)
    mean = float(values @ volumes)
    variance = max(float((values - mean) ** 2 @ volumes), 0.0)
    centred = values - mean
    others = _products_without(inside)
    marginals = [(centred * others[at]) @ masks[at] for at in range(len(masks))]
    active = [grid.volume(boxes) for boxes in grid.active]
    main, effects = [], []
    for at, marginal in enumerate(marginals):
        effects.append(marginal / active[at] if active[at] else marginal)
        main.append(_share(grid.probabilities[at] @ marginal**2, active[at], variance))
    together = {}
    for i, j in pairs:
        rest = np.delete(inside, [i, j], axis=0).prod(axis=0)
        joint = (masks[i] * (centred * rest)[:, None]).T @ masks[j]
        joint = joint - marginals[i][:, None] - marginals[j][None, :]
        spread = grid.probabilities[i] @ joint**2 @ grid.probabilities[j]
        both = grid.volume(_overlap(grid, i, j))
        together[i, j] = _share(spread, both, variance)
    return Parts(mean, variance, tuple(main), tuple(effects), together)


def _share(spread: float, active: float, variance: float) -> float:
    return float(spread / active / variance) if active > 0 and variance > 0 else 0.0


def _products_without(factors: np.ndarray) -> np.ndarray:
    """Per row the product of all others, shape ``[k, n]``; zeros are no trouble.

    >>> _products_without(np.array([[2.0], [0.0], [5.0]])).ravel().tolist()
    [0.0, 10.0, 0.0]
    """
    one = np.ones((1, factors.shape[1]))
    before = np.cumprod(np.concatenate([one, factors]), axis=0)[:-1]
    after = np.cumprod(np.concatenate([one, factors[::-1]]), axis=0)[:-1][::-1]
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
    """What share of the scores' variance each decision, and each two together, account for.

    A forest of trees, each on a bootstrap sample of the trials, learns the score; each tree is
    taken apart exactly (`take_apart`). The interval is that of the middle nine tenths of the
    trees. Scores far worse than the others (three interquartile ranges below the lower
    quartile) count as that limit: one training that diverged would be all the variance.

    Args:
        spec: The space.
        values: Configurations of the trials.
        scores: Their scores.
        maximise: Whether larger scores are better.
        seed: Of the forest.

    Returns:
        JSON-able: ``decisions`` and ``pairs``, each from the most important to the least, how
        well the forest predicts trials that a tree has not seen (``explained``, R² out of
        bag), and a ``note`` in place of the rest where there is too little to learn from.
    """
    account: dict[str, Any] = {"trials": len(values), "trees": TREES, "decisions": [], "pairs": []}
    grid = Grid(spec)
    if not grid.columns:
        return {**account, "note": "The space has no decision with two values."}
    if len(values) < FEWEST or len(set(scores)) < 2:
        needs = f"needs at least {FEWEST} finished trials with different scores"
        return {**account, "note": f"The importance {needs}; there are {len(values)}."}
    clipped = clip_far_out(np.array(scores, dtype=float), maximise=maximise)
    forest = _fit(grid.features(grid.cells(values)), clipped, seed)
    regions = [grid.boxes(tree.tree_) for tree in forest.estimators_]
    first = [take_apart(grid, *region) for region in regions]
    useful = [at for at, parts in enumerate(first) if parts.variance > 0]
    if not useful:
        return {**account, "note": "No decision tells the trials' scores apart."}
    shares = np.array([first[at].main for at in useful])
    pairs = _candidates(grid, shares.mean(axis=0))
    together = [take_apart(grid, *regions[at], pairs).pairs for at in useful]
    effects = [[first[at].effects[column] for at in useful] for column in range(len(grid.sizes))]
    return {
        **account,
        "note": None,
        "explained": float(forest.oob_score_),
        "clipped": int((clipped != np.array(scores)).sum()),
        "decisions": _decisions(grid, shares, effects),
        "pairs": _pairs(grid, pairs, together),
    }


def clip_far_out(scores: np.ndarray, *, maximise: bool) -> np.ndarray:
    """Scores of which the far worst count as the limit of what is far out (Tukey 1977).

    >>> clip_far_out(np.array([1.0, 2.0, 3.0, 2.0, -90.0]), maximise=True).tolist()
    [1.0, 2.0, 3.0, 2.0, -2.0]
    """
    low, high = np.percentile(scores, [25.0, 75.0])
    reach = _FAR_OUT * (high - low)
    if reach == 0:
        return scores
    return np.maximum(scores, low - reach) if maximise else np.minimum(scores, high + reach)


def _fit(features: np.ndarray, scores: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        TREES, max_features=0.7, max_leaf_nodes=_LEAVES, oob_score=True, random_state=seed
    )
    return forest.fit(features, scores)


def _candidates(grid: Grid, shares: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the most important decisions, neither of which decides whether the other is."""
    top = sorted(np.argsort(-shares, kind="stable")[:_PAIRED].tolist())
    depends = [{at for box in active for at in box} for active in grid.active]
    return [
        (i, j)
        for i, j in itertools.combinations(top, 2)
        if i not in depends[j] and j not in depends[i] and _overlap(grid, i, j)
    ]


def _decisions(
    grid: Grid, shares: np.ndarray, effects: Sequence[Sequence[np.ndarray]]
) -> list[dict[str, Any]]:
    low, high = np.percentile(shares, _INTERVAL, axis=0)
    mean = shares.mean(axis=0)
    return [
        {
            "name": grid.columns[at].name,
            "condition": condition_text(grid.decisions[at]),
            "active": grid.volume(grid.active[at]),
            "share": float(mean[at]),
            "low": float(low[at]),
            "high": float(high[at]),
            "values": grid.values(at),
            "effects": np.mean(effects[at], axis=0).tolist(),
        }
        for at in np.argsort(-mean, kind="stable").tolist()
    ]


def _pairs(
    grid: Grid,
    pairs: Sequence[tuple[int, int]],
    together: Sequence[Mapping[tuple[int, int], float]],
) -> list[dict[str, Any]]:
    found = []
    for pair in pairs:
        shares = [one[pair] for one in together]
        low, high = np.percentile(shares, _INTERVAL)
        names = [grid.columns[at].name for at in pair]
        found.append(
            {
                "names": names,
                "share": float(np.mean(shares)),
                "low": float(low),
                "high": float(high),
            }
        )
    return sorted(found, key=lambda one: -one["share"])

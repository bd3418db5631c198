"""Importance compared with formulas, and with sums over all configurations of small spaces."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeRegressor

from keras_nas_plugin.reports.importance import decompose_variance, importance
from keras_nas_plugin.reports.leaf_regions import Grid
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from tests.space.generators import specs

PLAIN = SearchSpec(
    (
        Decision("a", Categorical(("x", "y", "z"))),
        Decision("b", Integer(1, 4)),
        Decision("c", Categorical((False, True))),
    )
)
# `size` depends on `kind`, and `rate` on both; `size` is declared twice, under two conditions.
NESTED = SearchSpec(
    (
        Decision("kind", Categorical(("p", "q", "r"))),
        Decision("free", Integer(0, 2)),
        Decision("size", Integer(1, 3), (Condition("kind", ("q",)),)),
        Decision("size", Categorical((10, 20)), (Condition("kind", ("r",)),)),
        Decision(
            "rate",
            Categorical(("low", "high")),
            (Condition("kind", ("q", "r")), Condition("size", (2, 3, 20))),
        ),
    )
)


def all_configurations(spec):
    """All configurations with their probabilities."""

    def grow(index, values, weight):
        while index < len(spec.decisions) and not spec.decisions[index].active(values):
            index += 1
        if index == len(spec.decisions):
            yield values, weight
            return
        item = spec.decisions[index]
        for value in item.domain.values():
            yield from grow(index + 1, {**values, item.name: value}, weight / item.domain.size)

    return list(grow(0, {}, 1.0))


def decompose(spec, function, **options):
    """Fit a tree to the function over all configurations, and decompose its variance."""
    grid = Grid(spec)
    values, weights = zip(*all_configurations(spec), strict=True)
    features = grid.features(grid.cells(values))
    tree = DecisionTreeRegressor(random_state=3).fit(features, [function(v) for v in values])
    return (
        grid,
        decompose_variance(grid, *grid.leaf_regions(tree.tree_), **options),
        values,
        np.array(weights),
    )


def marginal_variance(keys, scores, weights):
    """Variance of the mean score per key; weights need not add up to one."""
    total, middle = weights.sum(), (weights @ scores) / weights.sum()
    spread = 0.0
    for key in set(keys):
        active = np.array([item == key for item in keys])
        spread += (
            weights[active].sum()
            * (np.average(scores[active], weights=weights[active]) - middle) ** 2
        )
    return spread / total


def test_shares_equal_those_computed_by_hand():
    # f = 2 [a = x] + b + 3 [c] (b > 2): the variances of the parts, computed by hand.
    def function(values):
        both_active = 3.0 * values["c"] * (values["b"] > 2)
        return 2.0 * (values["a"] == "x") + values["b"] + both_active

    pairs = [(0, 1), (0, 2), (1, 2)]
    _, parts, _, _ = decompose(PLAIN, function, pairs=pairs)
    of_a = 4.0 * (1 / 3) * (2 / 3)
    # b + 1.5 [b > 2] over 1..4, and 1.5 [c] over two.
    of_b = np.var([1.0, 2.0, 4.5, 5.5])
    of_c = np.var([0.0, 1.5])
    # 3 ([c] - 1/2) ([b > 2] - 1/2) is 3/4 in size everywhere.
    of_both = 0.75**2
    total = of_a + of_b + of_c + of_both
    assert parts.variance == pytest.approx(total)
    assert parts.main == pytest.approx([of_a / total, of_b / total, of_c / total])
    assert parts.pairs[1, 2] == pytest.approx(of_both / total)
    assert parts.pairs[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert parts.effects[0] == pytest.approx([4 / 3, -2 / 3, -2 / 3])


def check_by_brute_force(spec, seed):
    """Compare the parts of a random function with sums over all configurations."""
    table = {}
    rng = np.random.default_rng(seed)

    def function(values):
        return table.setdefault(spec.key(values), rng.normal())

    grid, parts, values, weights = decompose(spec, function)
    scores = np.array([function(item) for item in values])
    variance = weights @ (scores - weights @ scores) ** 2
    assert parts.mean == pytest.approx(weights @ scores)
    assert parts.variance == pytest.approx(variance, abs=1e-12)
    cells = grid.cells(values)
    for index in range(len(grid.columns)):
        active = cells[:, index] >= 0
        share = weights[active].sum()
        assert grid.volume(grid.active[index]) == pytest.approx(share)
        if share and variance > 1e-9:
            spread = marginal_variance(cells[active, index], scores[active], weights[active])
            assert parts.main[index] == pytest.approx(spread * share / variance)


@pytest.mark.parametrize("spec", [PLAIN, NESTED], ids=["plain", "conditions"])
@pytest.mark.parametrize("seed", range(4))
def test_shares_agree_with_sums_over_all_configurations(spec, seed):
    check_by_brute_force(spec, seed)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(spec=specs(), seed=st.integers(0, 9))
def test_shares_agree_with_sums_over_all_configurations_in_any_space(spec, seed):
    hypothesis.assume(not spec.constant)
    check_by_brute_force(spec, seed)


@pytest.mark.parametrize("seed", range(3))
def test_interactions_agree_with_sums_over_all_configurations(seed):
    spec, pair = NESTED, (1, 4)  # `free` and `rate`: neither depends on the other
    rng = np.random.default_rng(seed)
    table = {spec.key(values): rng.normal() for values, _ in all_configurations(spec)}
    grid, parts, values, weights = decompose(spec, lambda v: table[spec.key(v)], pairs=[pair])
    scores = np.array([table[spec.key(item)] for item in values])
    cells = grid.cells(values)
    both_active = (cells[:, pair] >= 0).all(axis=1)
    inside = cells[both_active][:, pair], scores[both_active], weights[both_active]
    separate = [marginal_variance(inside[0][:, index], *inside[1:]) for index in range(2)]
    joint = marginal_variance([tuple(row) for row in inside[0]], *inside[1:])
    variance = weights @ (scores - weights @ scores) ** 2
    expected = (joint - sum(separate)) * weights[both_active].sum() / variance
    assert parts.pairs[pair] == pytest.approx(expected)


def test_shares_add_up_to_one_without_conditions():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 4))

    def function(values):
        return table["xyz".index(values["a"]), values["b"] - 1]

    pairs = list(itertools.combinations(range(3), 2))
    _, parts, _, _ = decompose(PLAIN, function, pairs=pairs)
    assert sum(parts.main) + sum(parts.pairs.values()) == pytest.approx(1.0)


def test_cells_have_the_probabilities_of_a_logarithmic_scale():
    grid = Grid(SearchSpec((Decision("n", Integer(1, 8, None, "log")),)))
    # The interval [1, 9), divided on a logarithmic scale.
    expected = np.diff(np.log(np.arange(1, 10))) / np.log(9)
    assert grid.probabilities[0] == pytest.approx(expected, abs=1 / 64 / 8)
    rates = Grid(SearchSpec((Decision("rate", Real(1e-4, 1e-1, None, "log")),)))
    assert rates.probabilities[0] == pytest.approx([1 / 32] * 32)
    assert rates.values(0)[16] == pytest.approx(10 ** (-4 + 3 * 16.5 / 32))


@pytest.fixture(scope="module")
def forest():
    """Scores additive in `lr` (log) and `kind`; `units` matters for `b` only, `noise` never."""
    spec = SearchSpec(
        (
            Decision("kind", Categorical(("a", "b"))),
            Decision("lr", Real(1e-4, 1.0, None, "log")),
            Decision("units", Integer(1, 4), (Condition("kind", ("b",)),)),
            Decision("noise", Real(0.0, 1.0)),
        )
    )
    rng = np.random.default_rng(0)
    values = [spec.sample(rng) for _ in range(400)]
    scores = [
        np.log10(v["lr"]) + 2.0 * (v["kind"] == "b") * (1 + (v.get("units", 0) > 2))
        for v in values
    ]
    return importance(spec, values, scores), spec, values, scores


def test_the_forest_recovers_the_shares_of_the_function(forest):
    result, *_ = forest
    shares = {item["name"]: item for item in result["decisions"]}
    # kind: means 0 and 3; lr: a logarithm uniform over 4 decades; units: 2 or 4, half the time.
    parts = {"kind": 1.5**2, "lr": 4**2 / 12, "units": 0.5 * 1.0**2, "noise": 0.0}
    total = sum(parts.values())
    for name, part in parts.items():
        assert shares[name]["share"] == pytest.approx(part / total, abs=0.05), name
        assert shares[name]["low"] <= shares[name]["share"] <= shares[name]["high"]
    assert result["explained"] > 0.9
    assert shares["units"]["active"] == 0.5
    assert shares["units"]["condition"] == "kind = b"
    best = max(zip(shares["kind"]["effects"], shares["kind"]["values"], strict=True))
    assert best[1] == "b" and best[0] == pytest.approx(1.5, abs=0.2)


def test_the_same_seed_gives_the_same_shares(forest):
    result, spec, values, scores = forest
    assert importance(spec, values, scores) == result


def test_a_diverged_score_is_clipped(forest):
    result, spec, values, scores = forest
    diverged = importance(spec, values, [-1e9, *scores[1:]])
    assert diverged["clipped"] == 1
    before, after = ({d["name"]: d["share"] for d in f["decisions"]} for f in (result, diverged))
    assert after == pytest.approx(before, abs=0.05)


@pytest.mark.parametrize(
    ("decisions", "count", "score", "message"),
    [
        ((), 20, None, "no decision with more than one value"),
        (PLAIN.decisions, 9, None, "at least 10 finished trials with different scores"),
        (PLAIN.decisions, 20, 0.5, "with different scores"),
    ],
)
def test_importance_has_a_note_when_there_is_too_little_data(decisions, count, score, message):
    spec = SearchSpec(decisions)
    rng = np.random.default_rng(0)
    values = [spec.sample(rng) for _ in range(count)]
    scores = [rng.random() if score is None else score for _ in range(count)]
    result = importance(spec, values, scores)
    assert message in result["note"] and result["decisions"] == []

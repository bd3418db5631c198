"""The decomposition against formulas, and against every configuration of small spaces."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeRegressor

from keras_nas_plugin.reports.boxes import Grid
from keras_nas_plugin.reports.importance import importance, take_apart
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from tests.space.generators import specs

PLAIN = SearchSpec(
    (
        Decision("a", Categorical(("x", "y", "z"))),
        Decision("b", Integer(1, 4)),
        Decision("c", Categorical((False, True))),
    )
)
# `size` hangs on `kind`, `rate` on both; `size` stands a second time under another condition.
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


def every(spec):
    """All configurations with their probabilities."""

    def grow(at, values, weight):
        while at < len(spec.decisions) and not spec.decisions[at].active(values):
            at += 1
        if at == len(spec.decisions):
            yield values, weight
            return
        one = spec.decisions[at]
        for value in one.domain.values():
            yield from grow(at + 1, {**values, one.name: value}, weight / one.domain.size)

    return list(grow(0, {}, 1.0))


def fitted(spec, function, **options):
    """A tree that learned every configuration, as the parts of its variance."""
    grid = Grid(spec)
    values, weights = zip(*every(spec), strict=True)
    features = grid.features(grid.cells(values))
    tree = DecisionTreeRegressor(random_state=3).fit(features, [function(v) for v in values])
    return grid, take_apart(grid, *grid.boxes(tree.tree_), **options), values, np.array(weights)


def marginal_variance(keys, scores, weights):
    """Of the mean per key; weights need not add up to one."""
    total, middle = weights.sum(), (weights @ scores) / weights.sum()
    spread = 0.0
    for key in set(keys):
        here = np.array([one == key for one in keys])
        spread += (
            weights[here].sum() * (np.average(scores[here], weights=weights[here]) - middle) ** 2
        )
    return spread / total


def test_shares_of_a_function_whose_shares_are_known():
    # f = 2 [a = x] + b + 3 [c] (b > 2): variances of the parts by hand.
    def function(values):
        both = 3.0 * values["c"] * (values["b"] > 2)
        return 2.0 * (values["a"] == "x") + values["b"] + both

    pairs = [(0, 1), (0, 2), (1, 2)]
    _, parts, _, _ = fitted(PLAIN, function, pairs=pairs)
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
    """The parts of a random function against sums over all configurations."""
    table = {}
    rng = np.random.default_rng(seed)

    def function(values):
        return table.setdefault(spec.key(values), rng.normal())

    grid, parts, values, weights = fitted(spec, function)
    scores = np.array([function(one) for one in values])
    variance = weights @ (scores - weights @ scores) ** 2
    assert parts.mean == pytest.approx(weights @ scores)
    assert parts.variance == pytest.approx(variance, abs=1e-12)
    cells = grid.cells(values)
    for at in range(len(grid.columns)):
        here = cells[:, at] >= 0
        share = weights[here].sum()
        assert grid.volume(grid.active[at]) == pytest.approx(share)
        if share and variance > 1e-9:
            spread = marginal_variance(cells[here, at], scores[here], weights[here])
            assert parts.main[at] == pytest.approx(spread * share / variance)


@pytest.mark.parametrize("spec", [PLAIN, NESTED], ids=["plain", "conditions"])
@pytest.mark.parametrize("seed", range(4))
def test_brute_force(spec, seed):
    check_by_brute_force(spec, seed)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(spec=specs(), seed=st.integers(0, 9))
def test_brute_force_in_any_space(spec, seed):
    hypothesis.assume(not spec.constant)
    check_by_brute_force(spec, seed)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_by_brute_force(seed):
    spec, pair = NESTED, (1, 4)  # `free` and `rate`: neither hangs on the other
    rng = np.random.default_rng(seed)
    table = {spec.key(values): rng.normal() for values, _ in every(spec)}
    grid, parts, values, weights = fitted(spec, lambda v: table[spec.key(v)], pairs=[pair])
    scores = np.array([table[spec.key(one)] for one in values])
    cells = grid.cells(values)
    both = (cells[:, pair] >= 0).all(axis=1)
    inside = cells[both][:, pair], scores[both], weights[both]
    parted = [marginal_variance(inside[0][:, at], *inside[1:]) for at in range(2)]
    joint = marginal_variance([tuple(row) for row in inside[0]], *inside[1:])
    variance = weights @ (scores - weights @ scores) ** 2
    expected = (joint - sum(parted)) * weights[both].sum() / variance
    assert parts.pairs[pair] == pytest.approx(expected)


def test_shares_add_up_without_conditions():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 4))

    def function(values):
        return table["xyz".index(values["a"]), values["b"] - 1]

    pairs = list(itertools.combinations(range(3), 2))
    _, parts, _, _ = fitted(PLAIN, function, pairs=pairs)
    assert sum(parts.main) + sum(parts.pairs.values()) == pytest.approx(1.0)


def test_probable_values_count_more_on_a_logarithmic_scale():
    grid = Grid(SearchSpec((Decision("n", Integer(1, 8, None, "log")),)))
    # [1, 9) laid out by ratio.
    expected = np.diff(np.log(np.arange(1, 10))) / np.log(9)
    assert grid.probabilities[0] == pytest.approx(expected, abs=1 / 64 / 8)
    rates = Grid(SearchSpec((Decision("rate", Real(1e-4, 1e-1, None, "log")),)))
    assert rates.probabilities[0] == pytest.approx([1 / 32] * 32)
    assert rates.values(0)[16] == pytest.approx(10 ** (-4 + 3 * 16.5 / 32))


@pytest.fixture(scope="module")
def forest():
    """Additive in `lr` (log) and `kind`; `noise` does nothing; `units` only counts for `b`."""
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


def test_a_forest_finds_the_shares(forest):
    found, *_ = forest
    shares = {one["name"]: one for one in found["decisions"]}
    # kind: means 0 and 3; lr: a logarithm uniform over 4 decades; units: 2 or 4, half the time.
    parts = {"kind": 1.5**2, "lr": 4**2 / 12, "units": 0.5 * 1.0**2, "noise": 0.0}
    total = sum(parts.values())
    for name, part in parts.items():
        assert shares[name]["share"] == pytest.approx(part / total, abs=0.05), name
        assert shares[name]["low"] <= shares[name]["share"] <= shares[name]["high"]
    assert found["explained"] > 0.9
    assert shares["units"]["active"] == 0.5
    assert shares["units"]["condition"] == "kind = b"
    best = max(zip(shares["kind"]["effects"], shares["kind"]["values"], strict=True))
    assert best[1] == "b" and best[0] == pytest.approx(1.5, abs=0.2)


def test_the_same_seed_gives_the_same_shares(forest):
    found, spec, values, scores = forest
    assert importance(spec, values, scores) == found


def test_one_that_diverged_is_not_all_the_variance(forest):
    found, spec, values, scores = forest
    spoilt = importance(spec, values, [-1e9, *scores[1:]])
    assert spoilt["clipped"] == 1
    before, after = ({d["name"]: d["share"] for d in f["decisions"]} for f in (found, spoilt))
    assert after == pytest.approx(before, abs=0.05)


@pytest.mark.parametrize(
    ("decisions", "count", "score", "said"),
    [
        ((), 20, None, "no decision with two values"),
        (PLAIN.decisions, 9, None, "at least 10 finished trials with different scores"),
        (PLAIN.decisions, 20, 0.5, "with different scores"),
    ],
)
def test_too_little_to_learn_from(decisions, count, score, said):
    spec = SearchSpec(decisions)
    rng = np.random.default_rng(0)
    values = [spec.sample(rng) for _ in range(count)]
    scores = [rng.random() if score is None else score for _ in range(count)]
    found = importance(spec, values, scores)
    assert said in found["note"] and found["decisions"] == []

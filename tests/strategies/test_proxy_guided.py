"""Proxy-guided search: the pool, the first trials, learning and resuming."""

import numpy as np
import pytest
from scipy import stats
from searching import NETWORK, accuracy, best, search

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Decision, Integer, SearchSpec
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.strategies import Observation, RandomSearch
from keras_nas_plugin.strategies.gradient_ascent import GradientAscentSearch
from keras_nas_plugin.strategies.proxy_guided import ProxyGuidedSearch
from keras_nas_plugin.strategies.scored_pool import ScoredDraws, ScoredPool, consensus

BOTH_STRATEGIES = pytest.mark.parametrize("kind", [ProxyGuidedSearch, GradientAscentSearch])
TERNARY = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))


def total(values):
    return float(sum(values.values()))


def noise(values):
    """A deterministic number without any relation to the score."""
    text = repr(sorted(values.items())).encode()
    return float(np.random.default_rng(list(text)).normal())


def helpful(values):
    """Two proxies: one that follows the score, with noise, and one of noise alone."""
    return {"good": accuracy(values) + noise(values), "bad": noise({**values, "other": 1})}


def useless(values):
    return {"bad": noise(values), "worse": noise({**values, "other": 2})}


def guided(scorer, kind=ProxyGuidedSearch, **options):
    return kind(scorer, **{"pool_size": 60, **options})


def pool_of(spec, scorer, size, seed=0):
    return ScoredPool(ScoredDraws(encoding_of(spec), scorer, size, seed), size)


# ---------------------------------------------------------------------- the pool


def test_pool_members_are_distinct_and_determined_by_the_seed():
    pools = [pool_of(TERNARY, lambda v: {"total": total(v)}, 40, seed) for seed in (1, 1, 2)]
    codes = [pool.codes for pool in pools]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert codes[0].shape == (40, 10) and len(np.unique(codes[0], axis=0)) == 40
    assert not np.array_equal(codes[0], codes[2])


def test_the_pool_of_a_small_space_has_all_its_configurations():
    small = SearchSpec(TERNARY.decisions[:2])
    pool = pool_of(small, lambda v: {"total": total(v)}, 40)
    assert len(pool.codes) == 9


def test_proxy_scores_are_converted_to_normal_quantiles_of_their_ranks():
    small = SearchSpec((Decision("x", Integer(1, 5)),))
    values = {1: 1e9, 2: float("nan"), 3: -1e12, 4: float("-inf"), 5: 2.0}
    pool = pool_of(small, lambda v: {"p": values[v["x"]], "other": 0.0}, 9)
    order = [small.decisions[0].domain.at(float(code)) for code in pool.codes[:, 0]]
    features = dict(zip(order, pool.features[:, 0], strict=True))
    expected = stats.norm.ppf((np.array([5.0, 1.5, 3.0, 1.5, 4.0]) - 0.5) / 5.0)
    np.testing.assert_allclose([features[x] for x in range(1, 6)], expected)
    np.testing.assert_allclose(pool.features[:, 1], 0.0)


def test_configurations_without_finite_proxies_are_no_members_and_rank_last():
    def scorer(values):
        usable = values["d0"] == 0
        return {
            "total": total(values) if usable else float("-inf"),
            "one": 1.0 if usable else np.nan,
        }

    pool = pool_of(TERNARY, scorer, 30)
    assert len(pool.codes) == 30 and set(pool.codes[:, 0]) == {0.0}
    outside = pool.codes[:3] + np.eye(10)[0]
    worst = stats.norm.ppf(0.5 / 30)
    np.testing.assert_allclose(pool.score(outside), np.full((3, 2), worst))


def test_a_pool_without_members_scores_everything_zero():
    pool = pool_of(TERNARY, lambda v: {"p": float("-inf")}, 30)
    codes = encoding_of(TERNARY).sample(5, np.random.default_rng(0))
    assert pool.codes.shape == (0, 10) and pool.names == ("p",)
    np.testing.assert_array_equal(pool.score(codes), np.zeros((5, 1)))
    np.testing.assert_array_equal(pool.guess(codes), np.zeros((5, 1)))


def test_a_larger_pool_extends_a_smaller_one():
    scored = []

    def scorer(values):
        scored.append(values)
        return {"total": total(values)}

    draws = ScoredDraws(encoding_of(TERNARY), scorer, 50, 0)
    small = ScoredPool(draws, 20)
    assert len(scored) == 20
    large = ScoredPool(draws, 50)
    assert len(scored) == 50
    np.testing.assert_array_equal(large.codes[:20], small.codes)
    np.testing.assert_array_equal(large.codes, pool_of(TERNARY, scorer, 50).codes)


def test_configurations_outside_the_pool_are_estimated_without_scoring_them():
    encoding, scored = encoding_of(TERNARY), []

    def scorer(values):
        scored.append(values)
        return {"total": total(values)}

    pool = pool_of(TERNARY, scorer, 100)
    rows = encoding.sample(200, np.random.default_rng(9))
    before = len(scored)
    guesses = pool.guess(rows)[:, 0]
    assert len(scored) == before == 100
    truth = [total(encoding.decode(row)) for row in rows]
    # A sum of ten labels, from 100 examples.
    assert stats.spearmanr(guesses, truth).statistic > 0.9
    exact = pool.score(rows[:5])[:, 0]
    pool.score(rows[:5])
    assert len(scored) == before + 5
    assert stats.spearmanr(exact, truth[:5]).statistic == pytest.approx(1.0)
    # Later scores do not change a guess, so that a resumed search makes the same proposals.
    np.testing.assert_array_equal(pool.guess(rows)[:, 0], guesses)
    np.testing.assert_array_equal(pool.guess(pool.codes), pool.features)


def test_a_scorer_must_return_the_same_proxies_each_time():
    names = iter(["a", "b", "c"] * 100)
    with pytest.raises(StrategyError, match="must return the same proxies"):
        pool_of(TERNARY, lambda v: {next(names): 1.0}, 5)
    with pytest.raises(StrategyError, match="must return the same proxies"):
        pool_of(TERNARY, lambda v: {}, 5)


def test_consensus_is_the_sum_of_log_ranks():
    ranks = np.array([[1.0, 4.0], [2.0, 3.0], [3.0, 1.0], [4.0, 2.0]])
    features = stats.norm.ppf((ranks - 0.5) / 4.0)
    expected = np.log((ranks - 0.5) / 4.0).sum(axis=1)
    np.testing.assert_allclose(consensus(features), expected)


# ---------------------------------------------------------------------- the first trials


@BOTH_STRATEGIES
def test_the_first_proposals_alternate_between_the_best_and_random_pool_members(kind):
    strategy = guided(lambda v: {"total": total(v)}, kind, initial_trials=8)
    history = search(strategy, TERNARY, 8, lambda values: 0.0, seed=0)
    pool = strategy.pool(TERNARY)
    ranked = sorted((total(pool_values(row)) for row in pool.codes), reverse=True)
    totals = [total(values) for values, _ in history]
    chosen = totals[::2]
    assert chosen == sorted(chosen, reverse=True) and totals[0] == ranked[0]
    assert min(chosen) >= ranked[7]
    members = {row.tobytes() for row in pool.codes}
    encoding = encoding_of(TERNARY)
    assert all(encoding.encode(values).tobytes() in members for values, _ in history)


def pool_values(row):
    return encoding_of(TERNARY).decode(row)


@BOTH_STRATEGIES
def test_parallel_workers_get_distinct_pool_members(kind):
    strategy, rng, running = guided(helpful, kind), np.random.default_rng(0), {}
    for number in range(6):
        values = strategy.ask(
            NETWORK, rng, tried=lambda v: v in running.values(), pending=running
        ).values
        assert values not in running.values()
        running[str(number)] = values


# ---------------------------------------------------------------------- learning


@BOTH_STRATEGIES
def test_informative_proxies_improve_the_first_trials(kind):
    """The best of four trials, against the best of four random ones."""
    guided_starts = [
        best(search(guided(helpful, kind), NETWORK, 4, accuracy, s)) for s in range(20)
    ]
    random_starts = [best(search(RandomSearch(), NETWORK, 4, accuracy, s)) for s in range(20)]
    assert stats.ttest_ind(guided_starts, random_starts, alternative="greater").pvalue < 0.01


@BOTH_STRATEGIES
def test_uninformative_proxies_do_not_harm_the_search(kind):
    """Not worse than random search by more than two standard errors."""
    guided_bests = [
        best(search(guided(useless, kind), NETWORK, 20, accuracy, s)) for s in range(4)
    ]
    random = [best(search(RandomSearch(), NETWORK, 20, accuracy, s)) for s in range(4)]
    error = np.hypot(np.std(guided_bests, ddof=1), np.std(random, ddof=1)) / np.sqrt(4)
    assert np.mean(guided_bests) > np.mean(random) - 2.0 * error


def test_a_proxy_without_predictive_value_loses_its_influence():
    shares = []
    for seed in range(5):
        strategy = guided(helpful)
        search(strategy, NETWORK, 5, accuracy, seed)
        search(strategy, NETWORK, 35, accuracy, seed + 50)
        pool = strategy.pool(NETWORK)
        variances = strategy._encoded(NETWORK).hyperparameters(pool.score).linear
        slopes = dict(zip(pool.names, np.sqrt(variances), strict=True))
        shares.append(slopes["good"] / (slopes["good"] + slopes["bad"]))
    assert np.mean(shares) > 0.65 and min(shares) > 0.5


@BOTH_STRATEGIES
def test_predictions_correlate_with_the_scores(kind):
    strategy = guided(helpful, kind)
    search(strategy, NETWORK, 5, accuracy, seed=0)
    rng = np.random.default_rng(8)
    held_out = [NETWORK.sample(rng) for _ in range(100)]
    assert strategy.predicted(NETWORK, held_out[0]) is None
    search(strategy, NETWORK, 25, accuracy, seed=1)
    expected = [strategy.predicted(NETWORK, values) for values in held_out]
    correlation = stats.spearmanr(expected, [accuracy(values) for values in held_out])
    assert correlation.statistic > 0 and correlation.pvalue < 0.01


@BOTH_STRATEGIES
def test_the_search_nearly_maximises_a_sum_of_labels(kind):
    """The optimum, 20, is one of 59,049; 30 random trials rarely reach even 18."""
    strategy = guided(lambda v: {"noise": noise(v)}, kind)
    assert best(search(strategy, TERNARY, 30, total, 0)) >= 19.0


def test_ascent_on_a_linear_predictor_reaches_the_best_corner():
    from keras_nas_plugin.strategies import relaxed_predictor
    from keras_nas_plugin.strategies.gradient_ascent import ascend

    encoding = encoding_of(TERNARY)
    rng = np.random.default_rng(0)
    codes = encoding.sample(300, rng)
    targets = codes.sum(axis=1, keepdims=True)
    targets = (targets - targets.mean()) / targets.std()
    network = relaxed_predictor.fit(encoding.features(codes), targets, rng)
    ascended = ascend([network], encoding, codes[:3])
    assert ascended.sum(axis=1).max() == 20.0
    assert len(ascended) > 3 and not np.isnan(ascended).any()


# ---------------------------------------------------------------------- resuming, edge cases


@BOTH_STRATEGIES
def test_a_search_resumed_at_any_point_makes_the_same_proposals(kind):
    """A fresh strategy before each proposal, without its scorer's cache."""

    def run(reload):
        rng, tried, history, running, proposed = np.random.default_rng(0), set(), [], {}, []
        options = {"pool_size": 60, "first_pool": 10, "initial_trials": 5}
        strategy = guided(helpful, kind, **options)
        for number in range(18):
            if reload:
                state = strategy.get_state()
                strategy = guided(helpful, kind, **options)
                strategy.set_state(state, history)
            values = strategy.ask(
                NETWORK, rng, tried=lambda v: NETWORK.key(v) in tried, pending=running
            ).values
            tried.add(NETWORK.key(values))
            proposed.append(values)
            running[str(number)] = values
            if len(running) == 2:
                first = min(running, key=int)
                configuration = running.pop(first)
                score = None if configuration["optimizer"] == "rms" else (accuracy(configuration),)
                strategy.tell(first, configuration, score)
                history.append(Observation(first, configuration, score))
        return proposed

    assert run(reload=True) == run(reload=False)


@BOTH_STRATEGIES
def test_the_pool_grows_with_trials_but_not_with_infeasible_ones(kind):
    strategy, rng = (
        guided(helpful, kind, first_pool=10, initial_trials=4),
        np.random.default_rng(0),
    )
    sizes = []
    for number in range(9):
        values = strategy.ask(NETWORK, rng, tried=lambda v: False, pending={}).values
        sizes.append(len(strategy.pool(NETWORK).codes))
        strategy.tell(f"infeasible{number}", values, None, violation=1.0)
        strategy.tell(str(number), values, (accuracy(values),))
    assert sizes == [10, 10, 10, 22, 22, 22, 34, 34, 34]
    for number in range(9, 60):
        strategy.tell(str(number), NETWORK.sample(rng), (0.0,))
    strategy.ask(NETWORK, rng, tried=lambda v: False, pending={})
    assert len(strategy.pool(NETWORK).codes) == 60


@BOTH_STRATEGIES
def test_a_limit_on_scoring_leaves_two_members_and_lets_the_pool_grow_later(kind):
    scored, allowed = set(), 0

    def scorer(values):
        scored.add(NETWORK.key(values))
        return helpful(values)

    strategy, rng = (
        guided(scorer, kind, first_pool=10, initial_trials=4),
        np.random.default_rng(0),
    )
    strategy.may_score = lambda: len(scored) < allowed
    sizes, tried = [], set()

    def trial(number):
        values = strategy.ask(
            NETWORK, rng, tried=lambda v: NETWORK.key(v) in tried, pending={}
        ).values
        tried.add(NETWORK.key(values))
        strategy.tell(str(number), values, (accuracy(values),))
        sizes.append(len(strategy.pool(NETWORK).codes))

    for number in range(3):
        trial(number)
    assert sizes == [2, 2, 2]
    allowed = len(scored) + 5
    trial(3)
    grown = sizes[-1]
    assert 2 < grown <= 7, "as far as the limit allows"
    resumed = guided(scorer, kind, first_pool=10, initial_trials=4)
    resumed.set_state(
        strategy.get_state(),
        [
            Observation(str(n), dict(o.values), o.scores)
            for n, o in enumerate(strategy._observations)
        ],
    )
    resumed.may_score = lambda: False
    assert len(resumed.pool(NETWORK).codes) == grown, "a pool never shrinks"
    for number in range(4, 8):  # the model proposes
        trial(number)
    # The model needs the scores of every trial: of those that it proposed, and of the third one,
    # for which the pool of two had no member left.
    assert len(scored) <= allowed + 5


@BOTH_STRATEGIES
def test_a_grown_space_gets_a_new_pool(kind):
    early = SearchSpec(NETWORK.decisions[:3])
    grown = SearchSpec((*early.decisions, Decision("late", Integer(1, 5), default=2)))
    strategy = guided(useless, kind, initial_trials=3)
    search(strategy, early, 6, lambda values: -values["rate"], seed=0)
    values = strategy.ask(
        grown, np.random.default_rng(0), tried=lambda v: False, pending={}
    ).values
    grown.validate(values)
    assert strategy.pool(grown).codes.shape[1] == strategy.pool(early).codes.shape[1] + 1


@BOTH_STRATEGIES
def test_ask_returns_none_once_the_space_is_exhausted(kind):
    small = SearchSpec(TERNARY.decisions[:2])
    assert len(search(guided(useless, kind, initial_trials=3), small, 20, total, 0)) == 9
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    assert len(search(guided(useless, kind), constant, 5, total, seed=0)) == 1


@BOTH_STRATEGIES
def test_a_search_continues_when_every_trial_fails(kind):
    history = search(guided(useless, kind, initial_trials=3), NETWORK, 15, lambda v: None, 0)
    assert len(history) == 15


def test_invalid_arguments_are_rejected():
    with pytest.raises(StrategyError, match="`pool_size` must be at least 2; got 1"):
        guided(useless, pool_size=1)
    with pytest.raises(StrategyError, match="`first_pool` must be at least 2; got 0"):
        guided(useless, first_pool=0)
    with pytest.raises(StrategyError, match="`initial_trials` must be"):
        guided(useless, initial_trials=0)
    with pytest.raises(StrategyError, match="no pool before the first call of `ask`"):
        guided(useless).pool(NETWORK)

import numpy as np
import pytest
from searching import NETWORK, accuracy, best, search

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.strategies import Observation, RandomSearch, SurrogateSearch
from keras_nas_plugin.strategies.candidates import rows_of
from keras_nas_plugin.strategies.kernels import embed, squared_distances
from keras_nas_plugin.strategies.observed import (
    REMEMBERED,
    RUNNING,
    Observed,
    fitted_at,
    most_informative,
)
from keras_nas_plugin.strategies.surrogate import default_initial


def strategy_with(observations, **options):
    strategy = SurrogateSearch(**options)
    for number, (values, score) in enumerate(observations):
        strategy.tell(str(number), values, None if score is None else (score,))
    return strategy


def proposal(strategy, spec, seed=0, tried=(), pending=()):
    keys = {spec.key(values) for values in (*tried, *pending)}
    return strategy.ask(
        spec,
        np.random.default_rng(seed),
        tried=lambda values: spec.key(values) in keys,
        pending={f"p{number}": values for number, values in enumerate(pending)},
    ).values


# ---------------------------------------------------------------------- search quality


def test_the_first_proposals_are_random():
    expected = search(RandomSearch(), NETWORK, 7, accuracy, seed=3)
    history = search(SurrogateSearch(initial_trials=7), NETWORK, 9, accuracy, seed=3)
    assert history[:7] == expected


def test_forty_trials_beat_four_hundred_random_ones():
    """On a mixed, conditional space: 40 trials against 400 random ones, 12 seeds."""
    random = [best(search(RandomSearch(), NETWORK, 400, accuracy, seed)) for seed in range(12)]
    surrogate = [
        best(search(SurrogateSearch(), NETWORK, 40, accuracy, seed)) for seed in range(12)
    ]
    few = [best(search(RandomSearch(), NETWORK, 40, accuracy, seed)) for seed in range(12)]
    error = np.std(surrogate, ddof=1) / np.sqrt(len(surrogate))
    assert np.mean(surrogate) > np.mean(few) + 5.0 * error
    assert np.mean(surrogate) > np.mean(random)


def test_the_search_maximises_a_sum_of_labels():
    """Ten ternary decisions that add up: the optimum, 20, is one of 59,049."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    for seed in range(5):
        history = search(
            SurrogateSearch(), spec, 60, lambda values: float(sum(values.values())), seed
        )
        assert best(history) == 20.0


def test_proposals_ignore_score_units_and_the_size_of_bad_scores():
    """Scores in other units, and worse bad ones, lead to the same proposals."""
    observations = search(RandomSearch(), NETWORK, 21, accuracy, seed=0)
    median = np.median([score for _, score in observations])
    # A power of two, so that rounding does not matter either.
    scaled = [
        (values, 8.0 * score if score >= median else -1e12 + score)
        for values, score in observations
    ]
    tried = [values for values, _ in observations]
    for seed in range(5):
        proposals = [
            proposal(strategy_with(trials), NETWORK, seed, tried)
            for trials in (observations, scaled)
        ]
        assert proposals[0] == proposals[1]


def test_a_large_kappa_explores_and_zero_exploits():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    observations = [({"x": x}, -abs(x - 0.1)) for x in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)]
    greedy = proposal(strategy_with(observations, initial_trials=2, kappa=0.0), spec)["x"]
    curious = proposal(strategy_with(observations, initial_trials=2, kappa=100.0), spec)["x"]
    assert abs(greedy - 0.1) < 0.1
    assert curious > 0.8


# ---------------------------------------------------------------------- parallel workers


def test_pending_trials_spread_the_proposals_of_parallel_workers():
    """Proposals are farther apart with pending trials than without."""
    observations = search(RandomSearch(), NETWORK, 25, accuracy, seed=1)
    strategy, tried = strategy_with(observations), [values for values, _ in observations]

    def spread(aware):
        batch = []
        for _ in range(5):
            running = batch if aware else []
            batch.append(proposal(strategy, NETWORK, 0, [*tried, *batch], running))
        encoding = encoding_of(NETWORK)
        points, _ = embed(encoding, encoding.encode_many(batch))
        gaps = squared_distances(points, points)[np.triu_indices(5, 1)]
        assert gaps.min() > 0.0
        return batch, gaps.mean()

    aware, mean_aware = spread(True)
    unaware, mean_unaware = spread(False)
    assert aware[0] == unaware[0]
    assert aware[1:] != unaware[1:]
    assert mean_aware > mean_unaware


def test_running_trials_count_towards_the_initial_trials():
    strategy = strategy_with([({"x": 0.5}, 1.0)], initial_trials=4)
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    random = RandomSearch()
    for running, equal in ((2, True), (3, False)):
        pending = [{"x": 0.1 * number} for number in range(running)]
        proposals = [proposal(searcher, spec, pending=pending) for searcher in (strategy, random)]
        assert (proposals[0] == proposals[1]) == equal


def test_batches_of_eight_beat_random_search():
    """Batches of eight reach better scores than as many random trials."""
    few = [best(search(RandomSearch(), NETWORK, 48, accuracy, seed)) for seed in range(6)]
    batches = [
        best(search(SurrogateSearch(), NETWORK, 48, accuracy, seed, batch=8)) for seed in range(6)
    ]
    error = np.hypot(np.std(few, ddof=1), np.std(batches, ddof=1)) / np.sqrt(6)
    assert np.mean(batches) > np.mean(few) + 3.0 * error


# ---------------------------------------------------------------------- observations


def test_configurations_that_fail_are_avoided():
    """One optimizer of three always fails, and so does a third of random trials."""

    def score(values):
        return None if values["optimizer"] == "adam" else accuracy(values)

    failed = []
    for seed in range(5):
        history = search(SurrogateSearch(), NETWORK, 50, score, seed)
        failed += [scored is None for _, scored in history[10:]]
    # Five standard errors of a share of 200 at a third are 0.17.
    assert np.mean(failed) < 0.1


def test_violations_guide_the_search_to_the_feasible_configuration():
    """One in 59,049 is feasible: each of ten decisions adds to the violation."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    strategy, rng, tried = SurrogateSearch(), np.random.default_rng(0), set()
    for number in range(120):
        values = strategy.ask(spec, rng, tried=lambda v: spec.key(v) in tried, pending={}).values
        tried.add(spec.key(values))
        violation = float(sum(values.values()))
        if violation == 0.0:
            return
        strategy.tell(str(number), values, None, violation=violation)
    pytest.fail("no feasible configuration in 120 proposals")


def test_a_search_continues_when_every_trial_fails():
    history = search(SurrogateSearch(initial_trials=3), NETWORK, 25, lambda values: None, seed=0)
    assert len(history) == 25


def test_the_latest_score_of_a_configuration_replaces_earlier_ones():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2, 3))) for i in range(4)))
    rng = np.random.default_rng(0)
    configurations = [spec.sample(rng) for _ in range(12)]
    first = [(values, -float(sum(values.values()))) for values in configurations]
    latest = [(values, float(sum(values.values()))) for values in configurations]
    twice, once = (
        strategy_with(first + latest, initial_trials=2),
        strategy_with(latest, initial_trials=2),
    )
    tried = [values for values, _ in latest]
    proposals = [
        proposal(strategy, spec, 0, tried) for strategy in (twice, once, strategy_with(first))
    ]
    assert sum(proposals[0].values()) >= 10 > 2 >= sum(proposals[2].values())
    codes = [encoding_of(spec).encode(values) for values in proposals[:2]]
    # They may differ: the hyperparameters are fitted to a part of the observations.
    assert (codes[0] != codes[1]).sum() <= 1


def test_a_later_failure_of_a_configuration_replaces_its_score():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    good = [({"x": x}, 1.0 - abs(x - 0.8)) for x in np.linspace(0.05, 0.95, 10)]
    spoilt = [*good, *(({"x": values["x"]}, None) for values, _ in good if values["x"] > 0.5)]
    assert abs(proposal(strategy_with(good, kappa=0.0), spec)["x"] - 0.8) < 0.1
    assert proposal(strategy_with(spoilt, kappa=0.0), spec)["x"] < 0.6


def test_warm_start_trials_replace_random_initial_trials():
    """The first proposals are better than three of four random ones."""
    earlier = search(RandomSearch(), NETWORK, 30, accuracy, seed=5)
    quartile = np.quantile([score for _, score in earlier], 0.75)
    tried = [values for values, _ in earlier]
    scores = [
        accuracy(proposal(strategy_with(earlier), NETWORK, seed, tried)) for seed in range(8)
    ]
    # The probability of this by chance is 0.25^8.
    assert min(scores) > quartile


@pytest.mark.parametrize("seed", range(5))
def test_added_decisions_are_searched_and_default_in_earlier_trials(seed):
    early = SearchSpec(NETWORK.decisions[:3])
    late = Decision("late", Integer(1, 5), default=2)
    child = Decision("child", Categorical(("a", "b")), (Condition("late", (4, 5)),), default="a")
    rng = np.random.default_rng(seed)
    observations = [(early.sample(rng), 2.0) for _ in range(12)]
    grown = SearchSpec((*early.decisions, late, child))
    strategy, proposed = strategy_with(observations), []
    for number in range(30):
        values = proposal(strategy, grown, 100 * seed + number, proposed)
        grown.validate(values)
        proposed.append(values)
        score = float(values["late"]) + 2.0 * (values.get("child") == "b")
        strategy.tell(f"late{number}", values, (score,))
    # The best pair of values; at random one trial in ten has it.
    optimal = [values["late"] == 5 and values.get("child") == "b" for values in proposed]
    assert any(optimal[:15])
    assert sum(optimal) >= 15


def test_a_search_resumed_before_its_space_grows_makes_the_same_proposals():
    early = SearchSpec(NETWORK.decisions[:3])
    grown = SearchSpec((*early.decisions, Decision("late", Integer(1, 5), default=2)))
    observations = search(RandomSearch(), early, 15, lambda values: -values["rate"], seed=0)
    straight = strategy_with(observations)
    tried = [values for values, _ in observations]
    proposal(straight, early, 0, tried)
    history = [Observation(str(n), v, (s,)) for n, (v, s) in enumerate(observations)]
    reloaded = SurrogateSearch()
    reloaded.set_state(straight.get_state(), history)
    assert proposal(straight, grown, 1, tried) == proposal(reloaded, grown, 1, tried)


def test_repeated_tells_have_no_effect_and_set_state_replaces_observations():
    observations = search(RandomSearch(), NETWORK, 12, accuracy, seed=0)
    tried = [values for values, _ in observations]
    strategy = strategy_with(observations)
    expected = proposal(strategy, NETWORK, 0, tried)
    strategy.tell("3", tried[3], (1e9,))
    assert proposal(strategy, NETWORK, 0, tried) == expected
    history = [Observation(str(n), v, (s,)) for n, (v, s) in enumerate(observations)]
    strategy.tell("later", tried[0], (1e9,))
    assert strategy.get_state() == {}
    strategy.set_state({}, history)
    assert proposal(strategy, NETWORK, 0, tried) == expected


def test_a_resumed_search_with_workers_failures_and_repeats_makes_the_same_proposals():
    """A fresh strategy before each proposal, with three trials running."""
    scored = {}

    def run(reload):
        rng, tried, history, running, proposed = np.random.default_rng(0), set(), [], {}, []
        strategy = SurrogateSearch(initial_trials=5)
        for number in range(40):
            if reload:
                strategy = SurrogateSearch(initial_trials=5)
                strategy.set_state({}, history)
            values = strategy.ask(
                NETWORK, rng, tried=lambda v: NETWORK.key(v) in tried, pending=running
            ).values
            tried.add(NETWORK.key(values))
            proposed.append(values)
            running[str(number)] = values
            if len(running) == 3:
                first = min(running, key=int)
                configuration = running.pop(first)
                score = None if configuration["optimizer"] == "rms" else accuracy(configuration)
                scored[first] = score
                results = [(first, configuration, score)]
                if number % 7 == 0 and score is not None:
                    results.append((f"{first}-again", configuration, score + 1.0))
                for trial_id, its_values, result in results:
                    scores = None if result is None else (result,)
                    strategy.tell(trial_id, its_values, scores)
                    history.append(Observation(trial_id, its_values, scores))
        return proposed

    assert run(reload=True) == run(reload=False)
    assert None in scored.values()


# ---------------------------------------------------------------------- edge cases


def test_ask_returns_none_once_the_space_is_exhausted():
    small = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(3)))
    history = search(
        SurrogateSearch(initial_trials=4), small, 40, lambda v: float(sum(v.values())), 0
    )
    assert len(history) == 27
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    strategy = SurrogateSearch(initial_trials=1)
    assert len(search(strategy, constant, 5, lambda values: 1.0, seed=0)) == 1


def test_tried_configurations_without_a_result_are_not_proposed_again():
    """Trials that were lost with their worker, or rejected for their cost before training."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1))) for i in range(3)))
    strategy = strategy_with([({"d0": 0, "d1": 0, "d2": 0}, 0.0)], initial_trials=1)
    lost = [{"d0": 1, "d1": b, "d2": c} for b in (0, 1) for c in (0, 1)]
    tried = [{"d0": 0, "d1": 0, "d2": 0}, *lost]
    for seed in range(5):
        assert proposal(strategy, spec, seed, tried)["d0"] == 0


def test_constant_and_nan_scores_do_not_stop_the_search():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(5)))
    for score in (lambda values: 0.1, lambda values: float("nan")):
        history = search(SurrogateSearch(initial_trials=3), spec, 30, score, seed=0)
        assert len(history) == 30


def test_the_search_improves_with_more_trials_than_the_model_is_fitted_to():
    """700 random trials, of which the model keeps 512: a proposal still beats them all."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    observations = search(RandomSearch(), spec, 700, lambda v: float(sum(v.values())), seed=0)
    values = proposal(strategy_with(observations), spec, 0, [tried for tried, _ in observations])
    assert sum(values.values()) >= best(observations)


def test_most_informative_keeps_the_best_and_the_latest_trials():
    scores = np.random.default_rng(0).permutation(100).astype(float)
    chosen = most_informative(scores, 20)
    assert len(chosen) == 20 and (np.diff(chosen) > 0).all()
    assert set(np.argsort(-scores)[:10]) <= set(chosen)
    remaining = [n for n in range(100) if n not in set(np.argsort(-scores)[:10])]
    assert set(remaining[-10:]) <= set(chosen)
    assert most_informative(scores, 100).tolist() == list(range(100))


def test_running_trials_take_the_place_of_observed_ones_in_the_model():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    rng = np.random.default_rng(0)
    observations = [
        Observation(str(number), spec.sample(rng), (float(rng.normal()),)) for number in range(600)
    ]
    observed = Observed(encoding_of(spec))
    observed.add(observations)
    for running in (0, 1, RUNNING):
        codes, scores = observed.training_data(running)
        assert len(codes) == len(scores) == REMEMBERED - running


def test_of_thousands_of_trials_the_model_has_the_best_and_the_latest():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    values = np.random.default_rng(0).random(5000)
    observed = Observed(encoding_of(spec))
    observed.add([Observation(str(n), {"x": x}, (x,)) for n, x in enumerate(values.tolist())])
    codes, scores = observed.training_data()
    assert (np.diff(scores[np.argsort(codes[:, 0])]) >= 0).all()
    assert set(np.sort(values)[-REMEMBERED // 2 :]) <= set(codes[:, 0])
    assert set(values[-REMEMBERED // 2 :]) <= set(codes[:, 0])


def test_running_trials_are_encoded_as_they_are_now():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)), Decision("kind", Categorical(("a", "b")))))
    observed, rng = Observed(encoding_of(spec)), np.random.default_rng(0)
    pending = {str(number): spec.sample(rng) for number in range(4)}
    observed.running(pending)
    del pending["1"]
    pending["2"] = spec.sample(rng)
    pending["5"] = spec.sample(rng)
    codes, keys = observed.running(pending)
    np.testing.assert_array_equal(codes, observed.encoding.encode_many(pending.values()))
    assert keys == rows_of(codes)


@pytest.mark.parametrize("count", [1, 9, 10, 19, 20, 55, 300, 3000])
def test_hyperparameters_are_refitted_after_ten_percent_more_trials(count):
    assert 0.9 * count <= fitted_at(count) <= count
    assert fitted_at(fitted_at(count)) == fitted_at(count)


@pytest.mark.parametrize(
    ("trials", "expected"), [(None, 10), (1, 4), (25, 5), (50, 10), (100, 10), (9999, 10)]
)
def test_default_initial_trials(trials, expected):
    assert default_initial(trials) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_trials": 0}, "`initial_trials` must be at least 1; got 0"),
        ({"kappa": -0.1}, "`kappa` must be .* got -0.1"),
        ({"kappa": float("nan")}, "`kappa` must be .* got nan"),
    ],
)
def test_invalid_arguments_are_rejected(options, message):
    with pytest.raises(StrategyError, match=message):
        SurrogateSearch(**options)

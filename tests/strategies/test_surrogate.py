import numpy as np
import pytest
from searching import NETWORK, accuracy, best, search

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.encoding import encoding_of
from keras_nas_plugin.strategies import Observation, RandomSearch, SurrogateSearch
from keras_nas_plugin.strategies.kernels import embed, squared_distances
from keras_nas_plugin.strategies.observed import fitted_at, most_telling
from keras_nas_plugin.strategies.surrogate import default_initial


def told(observations, **options):
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
    )


# ---------------------------------------------------------------------- how it searches


def test_it_starts_at_random():
    expected = search(RandomSearch(), NETWORK, 7, accuracy, seed=3)
    history = search(SurrogateSearch(initial_trials=7), NETWORK, 9, accuracy, seed=3)
    assert history[:7] == expected


def test_it_finds_what_random_search_needs_ten_times_the_trials_for():
    """On a mixed, conditional space: 40 trials against 400 random ones, 12 seeds."""
    random = [best(search(RandomSearch(), NETWORK, 400, accuracy, seed)) for seed in range(12)]
    found = [best(search(SurrogateSearch(), NETWORK, 40, accuracy, seed)) for seed in range(12)]
    few = [best(search(RandomSearch(), NETWORK, 40, accuracy, seed)) for seed in range(12)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert np.mean(found) > np.mean(few) + 5.0 * error
    assert np.mean(found) > np.mean(random)


def test_it_solves_a_sum_of_labels():
    """Ten ternary decisions that add up: the optimum, 20, is one of 59,049."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    for seed in range(5):
        history = search(
            SurrogateSearch(), spec, 60, lambda values: float(sum(values.values())), seed
        )
        assert best(history) == 20.0


def test_neither_units_nor_the_size_of_disasters_matter():
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
        proposals = [proposal(told(one), NETWORK, seed, tried) for one in (observations, scaled)]
        assert proposals[0] == proposals[1]


def test_a_large_kappa_explores_and_none_exploits():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    observations = [({"x": x}, -abs(x - 0.1)) for x in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)]
    greedy = proposal(told(observations, initial_trials=2, kappa=0.0), spec)["x"]
    curious = proposal(told(observations, initial_trials=2, kappa=100.0), spec)["x"]
    assert abs(greedy - 0.1) < 0.1
    assert curious > 0.8


# ---------------------------------------------------------------------- parallel workers


def test_five_workers_get_five_different_regions():
    """With what runs known, proposals are farther apart than without it."""
    observations = search(RandomSearch(), NETWORK, 25, accuracy, seed=1)
    strategy, known = told(observations), [values for values, _ in observations]

    def spread(aware):
        batch = []
        for _ in range(5):
            running = batch if aware else []
            batch.append(proposal(strategy, NETWORK, 0, [*known, *batch], running))
        encoding = encoding_of(NETWORK)
        points, _ = embed(encoding, encoding.encode_many(batch))
        gaps = squared_distances(points, points)[np.triu_indices(5, 1)]
        assert gaps.min() > 0.0
        return batch, gaps.mean()

    aware, apart = spread(True)
    unaware, together = spread(False)
    assert aware[0] == unaware[0]
    assert aware[1:] != unaware[1:]
    assert apart > together


def test_running_trials_count_as_started():
    strategy = told([({"x": 0.5}, 1.0)], initial_trials=4)
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    random = RandomSearch()
    for running, equal in ((2, True), (3, False)):
        pending = [{"x": 0.1 * number} for number in range(running)]
        both = [proposal(one, spec, pending=pending) for one in (strategy, random)]
        assert (both[0] == both[1]) == equal


def test_batches_hardly_cost_anything():
    """Eight workers at a time reach what random search does not, in the same trials."""
    few = [best(search(RandomSearch(), NETWORK, 48, accuracy, seed)) for seed in range(6)]
    batches = [
        best(search(SurrogateSearch(), NETWORK, 48, accuracy, seed, batch=8)) for seed in range(6)
    ]
    error = np.hypot(np.std(few, ddof=1), np.std(batches, ddof=1)) / np.sqrt(6)
    assert np.mean(batches) > np.mean(few) + 3.0 * error


# ---------------------------------------------------------------------- what it learns from


def test_it_stays_away_from_what_fails():
    """One optimizer of three always fails: a third of random trials does."""

    def score(values):
        return None if values["optimizer"] == "adam" else accuracy(values)

    failed = []
    for seed in range(5):
        history = search(SurrogateSearch(), NETWORK, 50, score, seed)
        failed += [scored is None for _, scored in history[10:]]
    # Five standard errors of a share of 200 at a third are 0.17.
    assert np.mean(failed) < 0.1


def test_it_finds_what_constraints_allow_by_how_much_they_are_broken():
    """One in 59,049 is allowed: ten decisions, each of which adds to the violation."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    strategy, rng, tried = SurrogateSearch(), np.random.default_rng(0), set()
    for number in range(120):
        values = strategy.ask(spec, rng, tried=lambda v: spec.key(v) in tried, pending={})
        tried.add(spec.key(values))
        violation = float(sum(values.values()))
        if violation == 0.0:
            return
        strategy.tell(str(number), values, None, violation=violation)
    pytest.fail("no feasible configuration in 120 proposals")


def test_a_search_in_which_everything_fails_goes_on():
    history = search(SurrogateSearch(initial_trials=3), NETWORK, 25, lambda values: None, seed=0)
    assert len(history) == 25


def test_the_latest_observation_of_a_configuration_counts():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2, 3))) for i in range(4)))
    rng = np.random.default_rng(0)
    many = [spec.sample(rng) for _ in range(12)]
    first = [(values, -float(sum(values.values()))) for values in many]
    latest = [(values, float(sum(values.values()))) for values in many]
    twice, once = told(first + latest, initial_trials=2), told(latest, initial_trials=2)
    tried = [values for values, _ in latest]
    proposals = [proposal(one, spec, 0, tried) for one in (twice, once, told(first))]
    assert sum(proposals[0].values()) >= 10 > 2 >= sum(proposals[2].values())
    codes = [encoding_of(spec).encode(one) for one in proposals[:2]]
    # Not always equal: the hyperparameters are fitted to a part of the observations.
    assert (codes[0] != codes[1]).sum() <= 1


def test_a_latest_observation_that_failed_counts_as_well():
    spec = SearchSpec((Decision("x", Real(0.0, 1.0)),))
    good = [({"x": x}, 1.0 - abs(x - 0.8)) for x in np.linspace(0.05, 0.95, 10)]
    spoilt = [*good, *(({"x": one["x"]}, None) for one, _ in good if one["x"] > 0.5)]
    assert abs(proposal(told(good, kappa=0.0), spec)["x"] - 0.8) < 0.1
    assert proposal(told(spoilt, kappa=0.0), spec)["x"] < 0.6


def test_trials_from_elsewhere_replace_random_ones():
    """The first proposals are better than three of four random ones."""
    earlier = search(RandomSearch(), NETWORK, 30, accuracy, seed=5)
    quartile = np.quantile([score for _, score in earlier], 0.75)
    tried = [values for values, _ in earlier]
    scores = [accuracy(proposal(told(earlier), NETWORK, seed, tried)) for seed in range(8)]
    # By chance, all eight with probability 0.25^8.
    assert min(scores) > quartile


@pytest.mark.parametrize("seed", range(5))
def test_late_decisions_are_searched_and_old_trials_had_their_default(seed):
    early = SearchSpec(NETWORK.decisions[:3])
    late = Decision("late", Integer(1, 5), default=2)
    child = Decision("child", Categorical(("a", "b")), (Condition("late", (4, 5)),), default="a")
    rng = np.random.default_rng(seed)
    observations = [(early.sample(rng), 2.0) for _ in range(12)]
    grown = SearchSpec((*early.decisions, late, child))
    strategy, proposed = told(observations), []
    for number in range(30):
        values = proposal(strategy, grown, 100 * seed + number, proposed)
        grown.validate(values)
        proposed.append(values)
        score = float(values["late"]) + 2.0 * (values.get("child") == "b")
        strategy.tell(f"late{number}", values, (score,))
    # The best pair of values; at random one trial in ten has it.
    found = [values["late"] == 5 and values.get("child") == "b" for values in proposed]
    assert any(found[:15])
    assert sum(found) >= 15


def test_a_space_that_grows_in_the_middle_is_no_different_after_a_reload():
    early = SearchSpec(NETWORK.decisions[:3])
    grown = SearchSpec((*early.decisions, Decision("late", Integer(1, 5), default=2)))
    observations = search(RandomSearch(), early, 15, lambda values: -values["rate"], seed=0)
    straight = told(observations)
    tried = [values for values, _ in observations]
    proposal(straight, early, 0, tried)
    history = [Observation(str(n), v, (s,)) for n, (v, s) in enumerate(observations)]
    reloaded = SurrogateSearch()
    reloaded.set_state(straight.get_state(), history)
    assert proposal(straight, grown, 1, tried) == proposal(reloaded, grown, 1, tried)


def test_telling_twice_and_taking_over_a_state():
    observations = search(RandomSearch(), NETWORK, 12, accuracy, seed=0)
    tried = [values for values, _ in observations]
    strategy = told(observations)
    expected = proposal(strategy, NETWORK, 0, tried)
    strategy.tell("3", tried[3], (1e9,))
    assert proposal(strategy, NETWORK, 0, tried) == expected
    history = [Observation(str(n), v, (s,)) for n, (v, s) in enumerate(observations)]
    strategy.tell("later", tried[0], (1e9,))
    assert strategy.get_state() == {}
    strategy.set_state({}, history)
    assert proposal(strategy, NETWORK, 0, tried) == expected


def test_reloads_change_nothing_with_workers_failures_and_repeats():
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
            )
            tried.add(NETWORK.key(values))
            proposed.append(values)
            running[str(number)] = values
            if len(running) == 3:
                first = min(running, key=int)
                one = running.pop(first)
                score = None if one["optimizer"] == "rms" else accuracy(one)
                scored[first] = score
                results = [(first, one, score)]
                if number % 7 == 0 and score is not None:
                    results.append((f"{first}-again", one, score + 1.0))
                for trial_id, its, result in results:
                    told_score = None if result is None else (result,)
                    strategy.tell(trial_id, its, told_score)
                    history.append(Observation(trial_id, its, told_score))
        return proposed

    assert run(reload=True) == run(reload=False)
    assert None in scored.values()


# ---------------------------------------------------------------------- edges


def test_an_exhausted_space_ends_and_a_constant_one_at_once():
    small = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(3)))
    history = search(
        SurrogateSearch(initial_trials=4), small, 40, lambda v: float(sum(v.values())), 0
    )
    assert len(history) == 27
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    strategy = SurrogateSearch(initial_trials=1)
    assert len(search(strategy, constant, 5, lambda values: 1.0, seed=0)) == 1


def test_configurations_that_were_tried_but_neither_run_nor_ended_are_not_proposed():
    """A trial that died with its worker, or one refused for its cost before it ran."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1))) for i in range(3)))
    strategy = told([({"d0": 0, "d1": 0, "d2": 0}, 0.0)], initial_trials=1)
    lost = [{"d0": 1, "d1": b, "d2": c} for b in (0, 1) for c in (0, 1)]
    tried = [{"d0": 0, "d1": 0, "d2": 0}, *lost]
    for seed in range(5):
        assert proposal(strategy, spec, seed, tried)["d0"] == 0


def test_scores_that_say_nothing():
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(5)))
    for score in (lambda values: 0.1, lambda values: float("nan")):
        history = search(SurrogateSearch(initial_trials=3), spec, 30, score, seed=0)
        assert len(history) == 30


def test_more_trials_than_the_model_keeps():
    """700 random trials, of which the model keeps 512: a proposal still beats them all."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
    observations = search(RandomSearch(), spec, 700, lambda v: float(sum(v.values())), seed=0)
    values = proposal(told(observations), spec, 0, [one for one, _ in observations])
    assert sum(values.values()) >= best(observations)


def test_what_a_limited_model_keeps():
    scores = np.random.default_rng(0).permutation(100).astype(float)
    kept = most_telling(scores, 20)
    assert len(kept) == 20 and (np.diff(kept) > 0).all()
    assert set(np.argsort(-scores)[:10]) <= set(kept)
    others = [n for n in range(100) if n not in set(np.argsort(-scores)[:10])]
    assert set(others[-10:]) <= set(kept)
    assert most_telling(scores, 100).tolist() == list(range(100))


@pytest.mark.parametrize("count", [1, 9, 10, 19, 20, 55, 300, 3000])
def test_a_fit_is_never_older_than_a_tenth(count):
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
        ({"initial_trials": 0}, "`initial_trials` needs at least 1; received 0"),
        ({"kappa": -0.1}, "`kappa` needs .* received -0.1"),
        ({"kappa": float("nan")}, "`kappa` needs .* received nan"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(StrategyError, match=message):
        SurrogateSearch(**options)

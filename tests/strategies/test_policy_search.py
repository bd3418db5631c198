"""What REINFORCE and PPO share: learning from trials in any order, growing spaces, state."""

import json

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import PPO, Observation, RandomSearch, Reinforce, policy_search

BOTH = pytest.mark.parametrize("make", [Reinforce, PPO])
TERNARY = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))

# A number on a logarithmic scale, one per branch, and the choice between the branches.
MIXED = SearchSpec(
    (
        Decision("kind", Categorical(("mlp", "conv", "res"))),
        Decision("rate", Real(1e-5, 1e-1, None, "log")),
        Decision("width", Integer(16, 512, None, "log")),
        Decision("kernel", Integer(1, 9), (Condition("kind", ("conv", "res")),)),
        Decision("drop", Real(0.0, 0.6, 0.1)),
        Decision("norm", Categorical((False, True)), (Condition("kind", ("res",)),)),
    )
)


def total(values):
    return float(sum(values.values()))


def mixed(values):
    """Best at a rate of 1e-3, 128 units and no dropout in the residual branch with a norm."""
    score = -2.0 * abs(np.log10(values["rate"]) + 3.0) - abs(np.log2(values["width"]) - 7.0)
    score -= values["drop"] + {"mlp": 2.0, "conv": 1.0, "res": 0.0}[values["kind"]]
    score -= abs(values.get("kernel", 9) - 3) / 3.0
    return score + 1.0 * values.get("norm", False)


def search(strategy, spec, trials, score, seed, workers=1, told=()):
    """Run a search; a random one of ``workers`` running trials ends each time.

    Returns the values and scores in the order of the ends.
    """
    rng, arrivals = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    tried, running, history = set(), {}, []
    for number, (values, scored) in enumerate(told):
        strategy.tell(f"told{number}", values, None if scored is None else (scored,))
        tried.add(spec.key(values))
    number, open_ = 0, True
    while open_ or running:
        while open_ and len(running) < workers:
            values = None
            if number < trials:
                values = strategy.ask(
                    spec, rng, tried=lambda v: spec.key(v) in tried, pending=dict(running)
                )
            open_ = values is not None
            if open_:
                spec.validate(values)
                assert spec.key(values) not in tried, "proposed twice"
                tried.add(spec.key(values))
                running[str(number)] = values
                number += 1
        if running:
            ended = sorted(running)[int(arrivals.integers(len(running)))]
            values = running.pop(ended)
            scored = score(values)
            strategy.tell(ended, values, None if scored is None else (scored,))
            history.append((values, scored))
    return history


def best(history):
    return max(score for _, score in history if score is not None)


def bests(make, spec, trials, score, seeds=12, **options):
    return np.array(
        [best(search(make(), spec, trials, score, s, **options)) for s in range(seeds)]
    )


# ---------------------------------------------------------------------- does it search


@BOTH
def test_it_beats_random_search_where_decisions_add_up(make):
    """Ten ternary decisions, 100 trials, 12 seeds.

    One random sum has mean 10 and deviation 2.58, the best of 100 lies near 16.5 with a
    deviation of 1 between seeds; the optimum is 20. A gap of 2 is six standard errors.
    """
    random = bests(RandomSearch, TERNARY, 100, total)
    learned = bests(make, TERNARY, 100, total)
    assert 15.5 < random.mean() < 17.5
    assert learned.mean() > random.mean() + 2.0
    assert (learned >= random).all()


@BOTH
def test_it_beats_random_search_on_numbers_and_branches(make):
    """Better for nearly all of 12 seeds: 10 of 12 by luck has a chance of 2%, 11 of 0.3%."""
    random, learned = (bests(one, MIXED, 80, mixed) for one in (RandomSearch, make))
    assert (learned > random).sum() >= 11
    assert learned.mean() > random.mean() + 3 * np.hypot(random.std(), learned.std()) / 12**0.5


@BOTH
@pytest.mark.parametrize("workers", [4, 12])
def test_trials_may_arrive_in_any_order(make, workers):
    random = bests(RandomSearch, TERNARY, 100, total)
    learned = bests(make, TERNARY, 100, total, workers=workers)
    assert learned.mean() > random.mean() + 1.0


@BOTH
def test_the_scale_of_the_scores_means_nothing(make):
    """Also not where a few are disasters: only their order counts."""
    plain = search(make(), TERNARY, 60, total, 0)
    stretched = search(make(), TERNARY, 60, lambda values: -np.exp(20.0 - total(values)), 0)
    assert [values for values, _ in plain] == [values for values, _ in stretched]


@BOTH
def test_trials_that_are_told_at_once_may_be_in_any_order(make):
    """Sorted, reversed or as they came: a warm start teaches about the same."""
    means = {}
    for name, order in (("up", 1), ("down", -1), ("mixed", 0)):
        found = []
        for seed in range(6):
            rng = np.random.default_rng([seed, 2])
            told = [(v, total(v)) for v in (TERNARY.sample(rng) for _ in range(200))]
            told = sorted(told, key=_last)[::order] if order else told
            found.append(
                np.mean([s for _, s in search(make(), TERNARY, 15, total, seed, told=told)])
            )
        means[name] = np.mean(found)
    # Random search has 10; each mean has an error of about 0.4.
    assert min(means.values()) > 13.0
    assert np.ptp(list(means.values())) < 2.0


@BOTH
def test_what_fails_is_avoided(make):
    """A third of the space fails, although it would have the best scores."""

    def score(values):
        return None if values["d0"] == 2 else total(values)

    shares = []
    for seed in range(6):
        history = search(make(), TERNARY, 90, score, seed)
        failed = [scored is None for _, scored in history]
        shares.append(np.mean(failed[30:]))
    # Random search: 0.33; the mean of 360 draws has an error of 0.025.
    assert np.mean(shares) < 0.1


@BOTH
def test_a_search_in_which_everything_fails_goes_on(make):
    history = search(make(), TERNARY, 60, lambda values: None, 0)
    assert len(history) == 60


@BOTH
def test_earlier_trials_give_a_head_start(make):
    """200 random trials beforehand, sorted as a warm start tells them, then 15 new ones."""
    gains = []
    for seed in range(8):
        rng = np.random.default_rng([seed, 2])
        told = sorted(
            ((v, total(v)) for v in (TERNARY.sample(rng) for _ in range(200))), key=_last
        )
        warm = search(make(), TERNARY, 15, total, seed, told=told)
        cold = search(make(), TERNARY, 15, total, seed)
        gains.append(np.mean([s for _, s in warm]) - np.mean([s for _, s in cold]))
    # The mean of 15 random sums has an error of 0.67, that of 8 differences about 0.35.
    assert np.mean(gains) > 3.0


def _last(pair):
    return pair[1]


# ---------------------------------------------------------------------- contracts


@BOTH
def test_before_the_first_score_it_is_random_search(make):
    strategy, rng, other = make(), np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(10):
        drawn = strategy.ask(TERNARY, rng, tried=lambda values: False, pending={})
        assert drawn == TERNARY.sample(other)


@BOTH
def test_learning_uses_no_random_numbers(make):
    told = [(TERNARY.sample(np.random.default_rng(i)), float(i % 7)) for i in range(40)]
    states = []
    for seed in (0, 1):
        strategy = make()
        search(strategy, TERNARY, 0, total, seed, told=told)
        rng = np.random.default_rng(seed)
        strategy.ask(TERNARY, rng, tried=lambda values: False, pending={})
        states.append(strategy.get_state())
    assert states[0] == states[1]


@BOTH
def test_the_latest_result_of_a_configuration_counts(make):
    """Retrained with another score: what the first one taught is not ranked any more."""
    strategy = make()
    rng = np.random.default_rng(0)
    for number in range(8):
        strategy.tell(str(number), TERNARY.sample(rng), (float(number),))
    again = TERNARY.sample(np.random.default_rng(0))
    for number in range(8, 12):
        strategy.tell(str(number), again, (100.0 + number,))
    strategy.ask(TERNARY, rng, tried=lambda values: False, pending={})
    kept = [(dict(one.values), one.score) for one in strategy._memory]
    assert len(kept) == 8
    assert kept[-1] == (again, 111.0)


@BOTH
def test_late_decisions_are_searched_and_old_ones_stay_learned(make):
    early = SearchSpec(TERNARY.decisions[:6])
    late = Decision("late", Integer(1, 5), default=1)
    child = Decision("child", Integer(1, 5), (Condition("late", (2, 3, 4, 5)),), default=1)
    grown = SearchSpec((late, child, *early.decisions))
    strategy, rng = make(), np.random.default_rng(0)
    for number in range(40):
        values = strategy.ask(early, rng, tried=lambda values: False, pending={})
        strategy.tell(str(number), values, (total(values),))
    before = strategy.get_state()
    proposed = []
    for number in range(40):
        values = strategy.ask(grown, rng, tried=lambda v: v in proposed, pending={})
        grown.validate(values)
        proposed.append(values)
        if number == 0:
            # Nothing arrived since but the last trials: the weights went over.
            after = strategy.get_state()["weights"]
            assert after.keys() > before["weights"].keys()
        strategy.tell(f"late{number}", values, (total(values),))
    assert {values["late"] for values in proposed} == {1, 2, 3, 4, 5}
    first = [sum(v for name, v in values.items() if name[0] == "d") for values in proposed[:10]]
    # Random: 6, with an error of 0.6 of the mean of ten.
    assert np.mean(first) > 8.0


@BOTH
def test_a_reload_in_a_growing_space_changes_nothing(make):
    """Saved at each step through JSON; the space grows in between, old trials lack values."""
    early = SearchSpec(TERNARY.decisions[:4])
    grown = SearchSpec((Decision("late", Integer(1, 5), default=1), *TERNARY.decisions[:4]))

    def run(reload):
        strategy, rng, history, proposed = make(), np.random.default_rng(0), [], []
        for number in range(40):
            spec = early if number < 20 else grown
            if reload:
                state = json.loads(json.dumps(strategy.get_state()))
                strategy = make()
                strategy.set_state(state, history)
                assert strategy.get_state() == state
            values = strategy.ask(spec, rng, tried=lambda v: v in proposed, pending={})
            proposed.append(values)
            # One in five ends again, with a better score.
            again = history[number // 2].values if number % 5 == 4 else values
            history.append(Observation(str(number), again, (total(again) + number,)))
            strategy.tell(str(number), again, history[-1].scores)
        return proposed

    assert run(reload=True) == run(reload=False)


@BOTH
def test_a_state_may_cover_less_than_the_history(make):
    """The process died before the last states were written."""
    told = [(TERNARY.sample(np.random.default_rng(i)), float(i % 7)) for i in range(60)]
    history = [Observation(f"told{i}", values, (score,)) for i, (values, score) in enumerate(told)]
    straight, resumed = make(), make()
    rng = np.random.default_rng(0)
    for number, one in enumerate(history):
        straight.tell(one.trial_id, one.values, one.scores)
        straight.ask(TERNARY, rng, tried=lambda values: False, pending={})
        if number == 41:
            state = straight.get_state()
    resumed.tell("somebody else's", told[0][0], (1e9,))
    resumed.set_state(state, history)
    resumed.ask(TERNARY, rng, tried=lambda values: False, pending={})
    assert resumed.get_state() == straight.get_state()


@BOTH
def test_the_state_does_not_grow(make):
    sizes = {}
    for trials in (50, 300):
        strategy = make()
        search(strategy, TERNARY, trials, total, 0)
        strategy.ask(TERNARY, np.random.default_rng(0), tried=lambda values: False, pending={})
        numbers = json.dumps(strategy.get_state()).count(",")
        sizes[trials] = numbers
    assert sizes[50] == sizes[300]


@BOTH
def test_what_a_proposal_costs_does_not_grow(make, monkeypatch):
    """Counted in trials that learning goes over, and in draws."""
    work = []
    original = policy_search.make_batch
    monkeypatch.setattr(
        policy_search,
        "make_batch",
        lambda layout, rows: work.append(len(rows)) or original(layout, rows),
    )
    strategy = make()
    search(strategy, TERNARY, 100, total, 0)
    early = sum(work[-40:])
    search(strategy, TERNARY, 200, total, 1)
    assert sum(work[-40:]) <= early
    assert max(work) <= strategy.window


@BOTH
def test_a_long_warm_start_is_cut(make, monkeypatch):
    updates = []
    monkeypatch.setattr(make, "_update", lambda self: updates.append(len(self._memory)))
    told = [(TERNARY.sample(np.random.default_rng(i)), float(i)) for i in range(1000)]
    strategy = make()
    search(strategy, TERNARY, 1, total, 0, told=told)
    assert 0 < len(updates) <= policy_search._BACKLOG
    assert strategy.get_state()["covered"] == 1000


@BOTH
def test_a_policy_that_knows_all_it_would_draw_goes_on(make):
    """Trained on one configuration until nothing else is likely, with all near it tried."""
    strategy, rng = make(), np.random.default_rng(0)
    tried = set()
    for number in range(300):
        good = number % 2 == 0
        values = {f"d{i}": 2 if good else int(rng.integers(2)) for i in range(10)}
        tried.add(TERNARY.key(values))
        strategy.tell(str(number), {**values}, (1.0 if good else 0.0,))
        values = strategy.ask(TERNARY, rng, tried=lambda v: TERNARY.key(v) in tried, pending={})
        TERNARY.validate(values)
        assert TERNARY.key(values) not in tried
        tried.add(TERNARY.key(values))


@BOTH
def test_a_state_without_its_trials_is_forgotten(make):
    strategy = make()
    search(strategy, TERNARY, 20, total, 0)
    state, fresh = strategy.get_state(), make()
    fresh.set_state(state, [])
    fresh.ask(TERNARY, np.random.default_rng(0), tried=lambda values: False, pending={})
    assert fresh.get_state()["memory"] == []


@BOTH
def test_small_spaces_end(make):
    small = SearchSpec(TERNARY.decisions[:3])
    assert len(search(make(), small, 100, total, 0)) == 27
    one = SearchSpec((Decision("one", Categorical((1,))),))
    assert len(search(make(), one, 5, lambda values: 1.0, 0)) == 1
    assert len(search(make(), SearchSpec(()), 5, lambda values: 1.0, 0)) == 1


@BOTH
@pytest.mark.parametrize(
    ("argument", "value"),
    [("learning_rate", 0.0), ("entropy", -0.1), ("window", 1), ("hidden", 0)],
)
def test_arguments_that_make_no_sense_are_refused(make, argument, value):
    with pytest.raises(StrategyError, match=f"`{argument}` needs .* received {value}"):
        make(**{argument: value})

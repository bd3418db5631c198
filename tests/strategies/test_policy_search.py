"""Tests shared by REINFORCE and PPO: learning, order of trials, growing spaces, state."""

import base64
import json

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import PPO, Observation, RandomSearch, Reinforce, policy_search

BOTH_POLICIES = pytest.mark.parametrize("make", [Reinforce, PPO])
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


def search(strategy, spec, trials, score, seed, workers=1, warm_start=()):
    """Run a search with up to ``workers`` running trials, of which a random one ends each time.

    Returns values and scores in the order in which trials ended.
    """
    rng, arrivals = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    tried, running, history = set(), {}, []
    for number, (values, scored) in enumerate(warm_start):
        strategy.tell(f"earlier{number}", values, None if scored is None else (scored,))
        tried.add(spec.key(values))
    number, open_ = 0, True
    while open_ or running:
        while open_ and len(running) < workers:
            proposal = None
            if number < trials:
                proposal = strategy.ask(
                    spec, rng, tried=lambda v: spec.key(v) in tried, pending=dict(running)
                )
            open_ = proposal is not None
            if open_:
                values = proposal.values
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


# ---------------------------------------------------------------------- search quality


@BOTH_POLICIES
def test_policies_beat_random_search_on_an_additive_score(make):
    """Ten ternary decisions, 100 trials, 12 seeds.

    One random sum has mean 10 and deviation 2.58, the best of 100 is near 16.5 with a
    deviation of 1 between seeds; the optimum is 20. A gap of 2 is six standard errors.
    """
    random = bests(RandomSearch, TERNARY, 100, total)
    learned = bests(make, TERNARY, 100, total)
    assert 15.5 < random.mean() < 17.5
    assert learned.mean() > random.mean() + 2.0
    assert (learned >= random).all()


@BOTH_POLICIES
def test_policies_beat_random_search_on_a_mixed_conditional_space(make):
    """Better for at least 11 of 12 seeds, which has a probability of 0.3% by chance."""
    random, learned = (bests(strategy, MIXED, 80, mixed) for strategy in (RandomSearch, make))
    assert (learned > random).sum() >= 11
    assert learned.mean() > random.mean() + 3 * np.hypot(random.std(), learned.std()) / 12**0.5


@BOTH_POLICIES
@pytest.mark.parametrize("workers", [4, 12])
def test_policies_beat_random_search_with_asynchronous_workers(make, workers):
    random = bests(RandomSearch, TERNARY, 100, total)
    learned = bests(make, TERNARY, 100, total, workers=workers)
    assert learned.mean() > random.mean() + 1.0


@BOTH_POLICIES
def test_proposals_depend_only_on_the_order_of_scores(make):
    """Even if a few scores are extremely bad."""
    plain = search(make(), TERNARY, 60, total, 0)
    stretched = search(make(), TERNARY, 60, lambda values: -np.exp(20.0 - total(values)), 0)
    assert [values for values, _ in plain] == [values for values, _ in stretched]


@BOTH_POLICIES
def test_a_warm_start_does_not_depend_on_the_order_of_its_trials(make):
    """A warm start teaches about the same whether sorted, reversed or unsorted."""
    means = {}
    for name, order in (("up", 1), ("down", -1), ("mixed", 0)):
        scores = []
        for seed in range(6):
            rng = np.random.default_rng([seed, 2])
            warm_start = [(v, total(v)) for v in (TERNARY.sample(rng) for _ in range(200))]
            warm_start = sorted(warm_start, key=_last)[::order] if order else warm_start
            scores.append(
                np.mean(
                    [s for _, s in search(make(), TERNARY, 15, total, seed, warm_start=warm_start)]
                )
            )
        means[name] = np.mean(scores)
    # Random search has 10; each mean has an error of about 0.4.
    assert min(means.values()) > 13.0
    assert np.ptp(list(means.values())) < 2.0


@BOTH_POLICIES
def test_configurations_that_fail_are_avoided(make):
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


@BOTH_POLICIES
def test_a_search_continues_when_every_trial_fails(make):
    history = search(make(), TERNARY, 60, lambda values: None, 0)
    assert len(history) == 60


@BOTH_POLICIES
def test_warm_start_trials_improve_the_first_proposals(make):
    """200 random trials, sorted as in a warm start, then 15 new ones."""
    gains = []
    for seed in range(8):
        rng = np.random.default_rng([seed, 2])
        warm_start = sorted(
            ((v, total(v)) for v in (TERNARY.sample(rng) for _ in range(200))), key=_last
        )
        warm = search(make(), TERNARY, 15, total, seed, warm_start=warm_start)
        cold = search(make(), TERNARY, 15, total, seed)
        gains.append(np.mean([s for _, s in warm]) - np.mean([s for _, s in cold]))
    # The mean of 15 random sums has an error of 0.67, that of 8 differences about 0.35.
    assert np.mean(gains) > 3.0


def _last(pair):
    return pair[1]


# ---------------------------------------------------------------------- contracts


@BOTH_POLICIES
def test_proposals_before_the_first_score_are_random(make):
    strategy, rng, space_rng = make(), np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(10):
        drawn = strategy.ask(TERNARY, rng, tried=lambda values: False, pending={}).values
        assert drawn == TERNARY.sample(space_rng)


@BOTH_POLICIES
def test_learning_uses_no_random_numbers(make):
    warm_start = [(TERNARY.sample(np.random.default_rng(i)), float(i % 7)) for i in range(40)]
    states = []
    for seed in (0, 1):
        strategy = make()
        search(strategy, TERNARY, 0, total, seed, warm_start=warm_start)
        rng = np.random.default_rng(seed)
        strategy.ask(TERNARY, rng, tried=lambda values: False, pending={})
        states.append(strategy.get_state())
    assert states[0] == states[1]


@BOTH_POLICIES
def test_the_latest_score_of_a_configuration_replaces_earlier_ones(make):
    """A configuration reported with a new score is ranked by that score alone."""
    strategy = make()
    rng = np.random.default_rng(0)
    for number in range(8):
        strategy.tell(str(number), TERNARY.sample(rng), (float(number),))
    repeated = TERNARY.sample(np.random.default_rng(0))
    for number in range(8, 12):
        strategy.tell(str(number), repeated, (100.0 + number,))
    strategy.ask(TERNARY, rng, tried=lambda values: False, pending={})
    remembered = [(dict(entry.values), entry.score) for entry in strategy._memory]
    assert len(remembered) == 8
    assert remembered[-1] == (repeated, 111.0)


@BOTH_POLICIES
def test_added_decisions_are_searched_and_learned_weights_are_kept(make):
    early = SearchSpec(TERNARY.decisions[:6])
    late = Decision("late", Integer(1, 5), default=1)
    child = Decision("child", Integer(1, 5), (Condition("late", (2, 3, 4, 5)),), default=1)
    grown = SearchSpec((late, child, *early.decisions))
    strategy, rng = make(), np.random.default_rng(0)
    for number in range(40):
        values = strategy.ask(early, rng, tried=lambda values: False, pending={}).values
        strategy.tell(str(number), values, (total(values),))
    before = strategy.get_state()
    proposed = []
    for number in range(40):
        values = strategy.ask(grown, rng, tried=lambda v: v in proposed, pending={}).values
        grown.validate(values)
        proposed.append(values)
        if number == 0:
            # Only the last trials were new: the weights carry over.
            after = strategy.get_state()["weights"]
            assert after.keys() > before["weights"].keys()
        strategy.tell(f"late{number}", values, (total(values),))
    assert {values["late"] for values in proposed} == {1, 2, 3, 4, 5}
    first = [sum(v for name, v in values.items() if name[0] == "d") for values in proposed[:10]]
    # Random: 6, with an error of 0.6 of the mean of ten.
    assert np.mean(first) > 8.0


@BOTH_POLICIES
def test_a_search_resumed_in_a_growing_space_makes_the_same_proposals(make):
    """Saved through JSON at each step; the space grows, so that old trials lack values."""
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
            values = strategy.ask(spec, rng, tried=lambda v: v in proposed, pending={}).values
            proposed.append(values)
            # Every fifth trial reports an earlier configuration with a better score.
            reported = history[number // 2].values if number % 5 == 4 else values
            history.append(Observation(str(number), reported, (total(reported) + number,)))
            strategy.tell(str(number), reported, history[-1].scores)
        return proposed

    assert run(reload=True) == run(reload=False)


@BOTH_POLICIES
def test_a_state_may_cover_less_than_the_history(make):
    """As when the process died before the latest state was written."""
    trials = [(TERNARY.sample(np.random.default_rng(i)), float(i % 7)) for i in range(60)]
    history = [
        Observation(f"earlier{i}", values, (score,)) for i, (values, score) in enumerate(trials)
    ]
    straight, resumed = make(), make()
    rng = np.random.default_rng(0)
    for number, observation in enumerate(history):
        straight.tell(observation.trial_id, observation.values, observation.scores)
        straight.ask(TERNARY, rng, tried=lambda values: False, pending={})
        if number == 41:
            state = straight.get_state()
    resumed.tell("of another search", trials[0][0], (1e9,))
    resumed.set_state(state, history)
    resumed.ask(TERNARY, rng, tried=lambda values: False, pending={})
    assert resumed.get_state() == straight.get_state()


@BOTH_POLICIES
def test_the_state_does_not_grow(make):
    sizes = {}
    for trials in (50, 300):
        strategy = make()
        search(strategy, TERNARY, trials, total, 0)
        strategy.ask(TERNARY, np.random.default_rng(0), tried=lambda values: False, pending={})
        numbers = json.dumps(strategy.get_state()).count(",")
        sizes[trials] = numbers
    assert sizes[50] == sizes[300]


@BOTH_POLICIES
def test_the_cost_of_a_proposal_does_not_grow_with_the_trials(make, monkeypatch):
    """Counted in the trials that each update reads."""
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


@BOTH_POLICIES
def test_a_long_warm_start_is_truncated(make, monkeypatch):
    updates = []
    monkeypatch.setattr(make, "_update", lambda self: updates.append(len(self._memory)))
    warm_start = [(TERNARY.sample(np.random.default_rng(i)), float(i)) for i in range(1000)]
    strategy = make()
    search(strategy, TERNARY, 1, total, 0, warm_start=warm_start)
    assert 0 < len(updates) <= policy_search._BACKLOG
    assert strategy.get_state()["covered"] == 1000


@BOTH_POLICIES
def test_a_converged_policy_still_proposes_untried_configurations(make):
    """Trained on one configuration until nothing else is likely, with its neighbours tried."""
    strategy, rng = make(), np.random.default_rng(0)
    tried = set()
    for number in range(300):
        good = number % 2 == 0
        values = {f"d{i}": 2 if good else int(rng.integers(2)) for i in range(10)}
        tried.add(TERNARY.key(values))
        strategy.tell(str(number), {**values}, (1.0 if good else 0.0,))
        values = strategy.ask(
            TERNARY, rng, tried=lambda v: TERNARY.key(v) in tried, pending={}
        ).values
        TERNARY.validate(values)
        assert TERNARY.key(values) not in tried
        tried.add(TERNARY.key(values))


@BOTH_POLICIES
def test_set_state_without_its_trials_clears_the_memory(make):
    strategy = make()
    search(strategy, TERNARY, 20, total, 0)
    state, fresh = strategy.get_state(), make()
    fresh.set_state(state, [])
    fresh.ask(TERNARY, np.random.default_rng(0), tried=lambda values: False, pending={})
    assert fresh.get_state()["memory"] == []


@BOTH_POLICIES
def test_ask_returns_none_once_the_space_is_exhausted(make):
    small = SearchSpec(TERNARY.decisions[:3])
    assert len(search(make(), small, 100, total, 0)) == 27
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    assert len(search(make(), constant, 5, lambda values: 1.0, 0)) == 1
    assert len(search(make(), SearchSpec(()), 5, lambda values: 1.0, 0)) == 1


@BOTH_POLICIES
@pytest.mark.parametrize(
    ("argument", "value"),
    [("learning_rate", 0.0), ("entropy", -0.1), ("window", 1), ("hidden", 0)],
)
def test_invalid_arguments_are_rejected(make, argument, value):
    with pytest.raises(StrategyError, match=f"`{argument}` must be .* got {value}"):
        make(**{argument: value})


@BOTH_POLICIES
def test_a_policy_that_repeats_itself_draws_few_configurations(make):
    """A proposal omits draws at temperatures at which the last one drew what was tried before."""
    strategy, rng, tried = make(), np.random.default_rng(0), set()
    draws = []

    def counted(values):
        draws[-1] += 1
        return TERNARY.key(values) in tried

    for number in range(900):
        draws.append(0)
        values = strategy.ask(TERNARY, rng, tried=counted, pending={}).values
        tried.add(TERNARY.key(values))
        strategy.tell(str(number), values, (total(values),))
    # Each proposal goes back by six draws, so that seven are needed when it has settled; PPO would
    # need 20 from the lowest temperature.
    assert np.mean(draws[-100:]) < 8
    assert strategy.get_state()["repeats"] > 0


@BOTH_POLICIES
def test_a_proposal_that_was_taken_back_is_made_again(make):
    """As after an error in a screen: the oracle restores the state of its generator."""
    strategy, rng, tried = make(), np.random.default_rng(0), set()

    def ask():
        return strategy.ask(
            TERNARY, rng, tried=lambda values: TERNARY.key(values) in tried, pending={}
        )

    for number in range(600):
        values = ask().values
        tried.add(TERNARY.key(values))
        strategy.tell(str(number), values, (total(values),))
    before = rng.bit_generator.state
    proposals = []
    for _ in range(3):
        rng.bit_generator.state = before
        proposals.append(ask())
        assert strategy.get_state()["repeats"] > 0
    assert proposals[0] == proposals[1] == proposals[2]


@BOTH_POLICIES
def test_a_state_with_lists_of_numbers_is_loaded(make):
    """As states were saved before weights were texts."""
    strategy, rng = make(), np.random.default_rng(0)
    history = []
    for number in range(12):
        values = strategy.ask(MIXED, rng, tried=lambda values: False, pending={}).values
        history.append(Observation(str(number), values, (mixed(values),)))
        strategy.tell(str(number), values, (mixed(values),))
    strategy.ask(MIXED, rng, tried=lambda values: False, pending={})
    state = strategy.get_state()
    hidden = strategy.hidden

    def numbers(text, *shape):
        return np.frombuffer(base64.b64decode(text), "<f8").reshape(shape).tolist()

    lists = {
        head: {
            "bias": numbers(saved["bias"], -1),
            "context": numbers(saved["context"], hidden, -1),
            **({"value_bias": saved["value_bias"]} if "value_bias" in saved else {}),
            **({"value": numbers(saved["value"], -1)} if "value" in saved else {}),
        }
        for head, saved in state["weights"].items()
    }
    older = {"covered": state["covered"], "weights": lists, "memory": state["memory"]}
    proposals = []
    for saved in (state, older):
        again = make()
        again.set_state(json.loads(json.dumps(saved)), history)
        fresh = np.random.default_rng(5)
        proposals.append(again.ask(MIXED, fresh, tried=lambda values: False, pending={}))
    assert proposals[0] == proposals[1]
    assert lists and any(any(head["bias"]) for head in lists.values())

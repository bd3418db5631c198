import doctest
import json

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles import LocalSearchOracle
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import LocalSearch, RandomSearch, local_search, neighbourhood
from keras_nas_plugin.strategies.local_search import default_initial_samples
from tests.strategies.test_evolution import TERNARY, search, total

MIXED = SearchSpec(
    (
        Decision("kind", Categorical(("a", "b", "c"))),
        Decision("rate", Real(1e-4, 1e-1, None, "log")),
        Decision("width", Integer(1, 64, 2, "log"), (Condition("kind", ("b", "c")),)),
        Decision("depth", Integer(1, 9), (Condition("width", (2, 4, 8)),)),
    )
)


def edits_between(first, second):
    return sum(first.get(name) != second.get(name) for name in first.keys() | second.keys())


def ask(strategy, spec, rng, tried, pending=()):
    return strategy.ask(
        spec,
        rng,
        tried=lambda values: values in tried or values in pending,
        pending={str(number): values for number, values in enumerate(pending)},
    ).values


def best_of(make, spec, trials, score, seeds):
    runs = [search(make(), spec, trials, score, seed) for seed in range(seeds)]
    return np.array([max(score for _, score in run) for run in runs])


def test_examples_in_the_docstrings():
    assert doctest.testmod(local_search).failed == 0
    assert doctest.testmod(neighbourhood).failed == 0


@pytest.mark.parametrize(
    ("trials", "expected"), [(None, 10), (1, 1), (7, 1), (20, 5), (40, 10), (9999, 10)]
)
def test_default_number_of_initial_samples(trials, expected):
    assert default_initial_samples(trials) == expected
    assert LocalSearchOracle("val_accuracy", trials).strategy.initial_samples == expected


def test_the_oracle_passes_its_options_to_the_strategy():
    strategy = LocalSearchOracle(
        "val_accuracy", 100, initial_samples=3, improvement="best", seed=0
    ).strategy
    assert (strategy.initial_samples, strategy.improvement) == (3, "best")
    assert LocalSearchOracle("val_accuracy", 100).strategy.improvement == "first"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_samples": 0}, "`initial_samples` must be at least 1; got 0"),
        ({"improvement": "any"}, "`improvement` must be one of .*; got 'any'"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(StrategyError, match=message):
        LocalSearch(**options)


@pytest.mark.parametrize("improvement", ["first", "best"])
def test_random_samples_are_followed_by_neighbours(improvement):
    strategy = LocalSearch(initial_samples=8, improvement=improvement)
    history = search(strategy, TERNARY, 40, total, seed=3)
    assert history[:8] == search(RandomSearch(), TERNARY, 8, total, seed=3)
    for number in range(8, 40):
        earlier = [values for values, _ in history[:number]]
        assert min(edits_between(history[number][0], neighbour) for neighbour in earlier) == 1


def test_first_improvement_moves_to_a_better_trial_at_once():
    """At most two neighbours of a new best have been tried, as it shares a line with the old one.

    It loses no more than one rank for these, and the old best has lost as much.
    """
    history = search(LocalSearch(), TERNARY, 60, total, seed=0)
    moves = 0
    for number in range(10, 59):
        best = max(score for _, score in history[:number])
        if history[number][1] > best:
            moves += 1
            assert edits_between(history[number + 1][0], history[number][0]) == 1
    assert moves >= 3


def test_best_improvement_moves_after_trying_all_neighbours():
    spec = SearchSpec(TERNARY.decisions[:5])
    weights = {f"d{i}": 3.0**i for i in range(5)}

    def score(values):
        return sum(weights[name] * value for name, value in values.items())

    strategy = LocalSearch(initial_samples=1, improvement="best")
    history = search(strategy, spec, 60, score, seed=1)
    centre, number = history[0][0], 1
    for _ in range(3):
        earlier = [values for values, _ in history[:number]]
        around = [
            values
            for values in spec.neighbours(centre, np.random.default_rng(0))
            if values not in earlier
        ]
        tried = [values for values, _ in history[number : number + len(around)]]
        assert sorted(map(spec.key, tried)) == sorted(map(spec.key, around))
        number += len(around)
        centre = max(history[:number], key=lambda trial: trial[1])[0]
    # Each move raises one decision, the one of the highest weight.
    assert history[0][1] < score(centre)


def test_the_search_continues_beyond_a_local_optimum():
    """The best of 27 has only bad neighbours; the search continues from other trials."""
    spec = SearchSpec(TERNARY.decisions[:3])

    def deceptive(values):
        return 9.0 if total(values) == 0 else total(values)

    for improvement in ("first", "best"):
        strategy = LocalSearch(initial_samples=2, improvement=improvement)
        history = search(strategy, spec, 100, deceptive, seed=0)
        assert len(history) == 27


@pytest.mark.parametrize("improvement", ["first", "best"])
def test_ask_returns_none_once_the_space_is_exhausted(improvement):
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    strategy = LocalSearch(initial_samples=1, improvement=improvement)
    assert len(search(strategy, constant, 5, lambda values: 1.0, seed=0)) == 1
    assert len(search(LocalSearch(), SearchSpec(TERNARY.decisions[:2]), 99, total, seed=0)) == 9


def test_an_outlier_does_not_monopolise_the_search():
    """A score ten thousand times higher does not make all of its 20 neighbours come next.

    The best loses half a rank for each tried neighbour, the second best none so far, so that
    the second best is explored after a few neighbours of the best.
    """
    strategy, rng, tried = LocalSearch(initial_samples=6), np.random.default_rng(0), []
    for number in range(6):
        tried.append(TERNARY.sample(rng))
        strategy.tell(str(number), tried[-1], (1e4 if number == 3 else -float(number),))
    lucky = tried[3]
    for number in range(12):
        tried.append(ask(strategy, TERNARY, rng, tried))
        strategy.tell(f"next{number}", tried[-1], (-100.0,))
    around = [edits_between(values, lucky) == 1 for values in tried[6:]]
    assert around[:2] == [True, True]
    assert 4 <= sum(around) <= 8


@pytest.mark.parametrize("improvement", ["first", "best"])
def test_parallel_workers_get_distinct_neighbours(improvement):
    strategy = LocalSearch(initial_samples=5, improvement=improvement)
    rng, ended, running = np.random.default_rng(0), [], []
    for number in range(5):
        ended.append(TERNARY.sample(rng))
        strategy.tell(str(number), ended[-1], (total(ended[-1]),))
    for _ in range(60):
        values = ask(strategy, TERNARY, rng, ended, running)
        assert values not in ended and values not in running
        assert min(edits_between(values, centre) for centre in ended) == 1
        running.append(values)
    ranking = sorted(ended, key=total, reverse=True)
    near = [sum(edits_between(values, centre) == 1 for values in running) for centre in ranking]
    # Most are neighbours of the best, but it has only twenty, fewer than the sixty proposals.
    assert near[0] == max(near) >= 12 and sum(count > 0 for count in near) >= 3
    if improvement == "best":
        assert near[0] == 20


def test_running_trials_count_towards_the_initial_samples():
    """Ten trials, ended or running, are enough once half of them have ended."""
    strategy, rng, ended, running = LocalSearch(), np.random.default_rng(0), [], []
    for number in range(6):
        ended.append(TERNARY.sample(rng))
        strategy.tell(str(number), ended[-1], (total(ended[-1]),))
    distances = []
    for _ in range(8):
        running.append(ask(strategy, TERNARY, rng, ended, running))
        distances.append(min(edits_between(running[-1], neighbour) for neighbour in ended))
    assert min(distances[:4]) > 1 and set(distances[4:]) == {1}


def test_the_latest_score_of_a_configuration_replaces_earlier_ones():
    strategy, rng = LocalSearch(initial_samples=3), np.random.default_rng(0)
    configurations = [TERNARY.sample(rng) for _ in range(3)]
    for number, score in enumerate((0.9, 0.5, 0.1)):
        strategy.tell(str(number), configurations[number], (score,))
    assert edits_between(ask(strategy, TERNARY, rng, configurations), configurations[0]) == 1
    strategy.tell("trained longer", configurations[0], (0.0,))
    assert edits_between(ask(strategy, TERNARY, rng, configurations), configurations[1]) == 1
    strategy.tell("failed later", configurations[1], None)
    assert edits_between(ask(strategy, TERNARY, rng, configurations), configurations[2]) == 1


def test_failed_trials_are_never_centres():
    strategy, rng = LocalSearch(initial_samples=2), np.random.default_rng(0)
    tried = [{f"d{i}": 0 for i in range(10)}, {f"d{i}": 1 for i in range(10)}]
    strategy.tell("0", tried[0], (0.0,))
    strategy.tell("1", tried[1], None)
    for number in range(15):
        tried.append(ask(strategy, TERNARY, rng, tried))
        assert edits_between(tried[-1], tried[0]) <= edits_between(tried[-1], tried[1]) - 5
        strategy.tell(f"next{number}", tried[-1], None)


def test_a_search_continues_when_every_trial_fails():
    history = search(LocalSearch(), TERNARY, 60, lambda values: None, seed=0)
    assert len(history) == 60


def test_warm_start_trials_replace_initial_samples():
    strategy, rng = LocalSearch(), np.random.default_rng(0)
    earlier = sorted((TERNARY.sample(rng) for _ in range(50)), key=total)
    for number, values in enumerate(earlier):
        strategy.tell(f"earlier-{number}", values, (total(values),))
    best = [values for values in earlier if total(values) == total(earlier[-1])]
    values = ask(strategy, TERNARY, rng, earlier)
    assert min(edits_between(values, centre) for centre in best) == 1


def test_decisions_added_during_the_search_are_searched():
    strategy, rng = LocalSearch(initial_samples=3), np.random.default_rng(0)
    early = SearchSpec(TERNARY.decisions[:2])
    late = Decision("late", Integer(1, 5), default=1)
    child = Decision("child", Integer(1, 5), (Condition("late", (2, 3, 4, 5)),), default=1)
    tried = []
    for number in range(4):
        tried.append(ask(strategy, early, rng, tried))
        strategy.tell(str(number), tried[-1], (total(tried[-1]),))
    grown = SearchSpec((*early.decisions, late, child))
    for number in range(40):
        tried.append(ask(strategy, grown, rng, tried))
        grown.validate(tried[-1])
        strategy.tell(f"late{number}", tried[-1], (total(tried[-1]),))
    assert {values["late"] for values in tried[4:]} == {1, 2, 3, 4, 5}
    # The maximum is 2 + 2 + 5 + 5.
    assert max(map(total, tried)) >= 13


@pytest.mark.parametrize("workers", [1, 3])
def test_best_improvement_resumes_with_the_same_proposals_from_any_state(workers):
    def score(values):
        return None if values["kind"] == "c" and values["rate"] < 0.001 else values["rate"]

    def run(restart):
        strategy = LocalSearch(initial_samples=4, improvement="best")
        rng, running, history, proposed = np.random.default_rng(0), {}, [], []
        sizes = []
        for number in range(60):
            for step in ("ask", "tell"):
                if restart:
                    state = json.loads(json.dumps(strategy.get_state()))
                    sizes.append(len(json.dumps(state)))
                    strategy = LocalSearch(initial_samples=4, improvement="best")
                    strategy.set_state(state, history)
                if step == "ask":
                    values = strategy.ask(
                        MIXED, rng, tried=lambda v: v in proposed, pending=dict(running)
                    ).values
                    proposed.append(values)
                    running[str(number)] = values
                elif len(running) == workers:
                    trial = next(iter(running))
                    values = running.pop(trial)
                    scored = score(values)
                    strategy.tell(trial, values, None if scored is None else (scored,))
                    history = list(strategy._observations)
        return proposed, sizes

    straight, _ = run(restart=False)
    restarted, sizes = run(restart=True)
    assert restarted == straight
    # The state holds at most the current configuration and a number.
    assert max(sizes) < 200 and max(sizes) > 2


BRANCHES = SearchSpec(
    tuple(
        decision
        for i in range(5)
        for decision in (
            Decision(f"d{i}", Categorical((0, 1, 2))),
            Decision(f"child{i}", Categorical((0, 1)), (Condition(f"d{i}", (1, 2)),)),
        )
    )
)


@pytest.mark.parametrize("spec", [SearchSpec(TERNARY.decisions[:7]), BRANCHES])
@pytest.mark.parametrize("improvement", ["first", "best"])
def test_the_cost_of_a_proposal_does_not_grow_with_the_trials(monkeypatch, improvement, spec):
    """A configuration whose neighbours are exhausted is never examined again."""
    looks = []
    edits = neighbourhood.Neighbourhoods.edits

    def counted(self, *arguments):
        looks.append(1)
        return edits(self, *arguments)

    monkeypatch.setattr(neighbourhood.Neighbourhoods, "edits", counted)
    history = search(LocalSearch(improvement=improvement), spec, 1500, total, seed=0)
    assert len(history) == 1500
    assert len(looks) <= 2 * len(history)


def test_local_search_climbs_a_hill_in_real_space():
    """Sixty trials in five dimensions, 20 seeds.

    Of 60 random points, the nearest to the middle of [0, 1]^5 is at about
    (1 / (60 * 5.26))^(1/5) = 0.32, with 5.26 the volume of the unit ball; local search gets
    within less than half of that.
    """
    spec = SearchSpec(tuple(Decision(name, Real(0.0, 1.0)) for name in "abcde"))

    def hill(values):
        return -float(np.sqrt(sum((value - 0.5) ** 2 for value in values.values())))

    random = -best_of(RandomSearch, spec, 60, hill, 20)
    local = -best_of(LocalSearch, spec, 60, hill, 20)
    assert 0.25 < random.mean() < 0.38
    assert local.mean() < 0.16


def test_local_search_converges_on_a_single_real_decision():
    spec = SearchSpec((Decision("rate", Real(1e-5, 1.0, None, "log")),))
    best = [
        max(
            (score for _, score in search(LocalSearch(), spec, 30, peak, seed)),
        )
        for seed in range(10)
    ]
    # Each of 20 steps cuts the bracket at a random point; 1/64 of five decades is 0.08.
    assert -np.median(best) < 0.08 / 2


def peak(values):
    return -abs(float(np.log10(values["rate"])) + 2.7)


@pytest.mark.parametrize(("improvement", "gap"), [("first", 2.0), ("best", 1.0)])
def test_local_search_beats_random_search_on_an_additive_score(improvement, gap):
    """On ten ternary decisions whose scores add up, 100 trials of each, 20 seeds.

    The best of 100 random sums is near 10 + 2.5 * 2.58 = 16.5 (see the test of evolution).
    Every third edit of a local search improves the score, and 20 trials cover all edits: it
    reaches the optimum, 20, or nearly so.
    """
    random = best_of(RandomSearch, TERNARY, 100, total, 20)
    local = best_of(lambda: LocalSearch(improvement=improvement), TERNARY, 100, total, 20)
    assert 15.2 < random.mean() < 17.2
    assert local.mean() > random.mean() + gap
    assert (local >= random).all()


def test_proposals_with_running_trials_do_not_depend_on_what_was_remembered():
    """A strategy that has seen all calls proposes as one that is given the same trials anew."""
    spec = SearchSpec(tuple(Decision(name, Integer(1, 6)) for name in "abc"))
    strategy, rng = LocalSearch(initial_samples=4), np.random.default_rng(0)
    order, ended, pending = np.random.default_rng(1), [], {}
    while len(ended) + len(pending) < 150:
        if len(pending) == 12:
            number = sorted(pending)[int(order.integers(12))]
            values = pending.pop(number)
            ended.append(
                (number, values, float(-sum((value - 3) ** 2 for value in values.values())))
            )
            strategy.tell(number, values, [ended[-1][2]])
        fresh = LocalSearch(initial_samples=4)
        for number, values, score in ended:
            fresh.tell(number, values, [score])
        tried = [values for _, values, _ in ended] + list(pending.values())
        state = rng.bit_generator.state
        expected = fresh.ask(spec, rng, tried=tried.__contains__, pending=pending)
        rng.bit_generator.state = state
        proposal = strategy.ask(spec, rng, tried=tried.__contains__, pending=pending)
        assert proposal == expected
        pending[f"{len(tried):03d}"] = proposal.values
    assert strategy._waiting

import collections
import math

import numpy as np
import pytest

from keras_nas_plugin import pareto
from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import NSGA2, Observation, RandomSearch
from keras_nas_plugin.strategies.nsga2 import (
    crowded_fitness,
    default_nsga2_population,
    most_crowded,
    two_winners,
)

TERNARY = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(5)))
SIZE = 3**5

# A network whose layers exist only as far as it is deep.
LAYERS = 4
NETWORK = SearchSpec(
    (
        Decision("depth", Integer(1, LAYERS)),
        Decision("rate", Real(1e-4, 1e-1, None, "log")),
        *(
            Decision(
                f"width{i}",
                Integer(4, 256, 2, "log"),
                (Condition("depth", tuple(range(i + 1, LAYERS + 1))),),
            )
            for i in range(LAYERS)
        ),
    )
)


def trade_off(values):
    """Two objectives with couplings between neighbours; 243 configurations, 14 on the front."""
    x = np.array([values[f"d{i}"] for i in range(5)])
    gain = x @ [5.0, 4.0, 3.0, 2.0, 1.0] - 2.5 * (x[1:] == x[:-1]).sum()
    cost = x @ [1.0, 2.0, 3.0, 4.0, 5.0] + 3.0 * (x[0] == x[4])
    return gain, -cost


def network_scores(values):
    """A quality that saturates with size and peaks at a fitting rate, and the negative size."""
    sizes = [values[f"width{i}"] for i in range(values["depth"])]
    size = sum(a * b for a, b in zip([3, *sizes], [*sizes, 10], strict=True))
    misfit = (np.log10(values["rate"]) + 2.0 + 0.2 * values["depth"]) ** 2
    return 1 - np.exp(-np.log2(sizes).sum() / 10) - 0.1 * misfit, -np.log10(size)


def search(strategy, spec, trials, scores_of, seed, *, violation_of=lambda values: 0.0):
    """Run a search; returns its observations in order."""
    rng, tried, history = np.random.default_rng(seed), set(), []
    for number in range(trials):
        proposal = strategy.ask(spec, rng, tried=lambda v: spec.key(v) in tried, pending={})
        if proposal is None:
            break
        values = proposal.values
        spec.validate(values)
        assert spec.key(values) not in tried, "proposed twice"
        tried.add(spec.key(values))
        observation = Observation(str(number), values, scores_of(values), violation_of(values))
        strategy.tell(
            observation.trial_id, values, observation.scores, violation=observation.violation
        )
        history.append(observation)
    return history


def tell(strategy, *trials):
    """Report trials given as scores, or as pairs of scores and violation."""
    for number, scores in enumerate(trials):
        scores, violation = scores if scores and isinstance(scores[0], tuple) else (scores, 0.0)
        strategy.tell(str(number), {"d": number}, scores, violation=violation)


def population_ids(strategy):
    return [member.trial_id for member in strategy.population]


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(1, 2), (8, 2), (12, 3), (40, 10), (200, 10), (300, 15), (800, 40), (9999, 40), (None, 20)],
)
def test_default_population(trials, expected):
    assert default_nsga2_population(trials) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"population_size": 1}, "`population_size` must be at least 2; got 1"),
        (
            {"crossover_probability": 1.5},
            "`crossover_probability` must be between 0 and 1; got 1.5",
        ),
        (
            {"crossover_probability": float("nan")},
            "`crossover_probability` must be between 0 and 1",
        ),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(StrategyError, match=message):
        NSGA2(**arguments)


# ------------------------------------------------------------------ survival


def test_dominated_trials_are_dropped_first():
    strategy = NSGA2(population_size=3)
    tell(strategy, (1.0, 5.0), (0.0, 4.0), (3.0, 3.0), (5.0, 1.0))
    assert population_ids(strategy) == ["0", "2", "3"]
    # It is dominated by trial 2 and dominates none: it does not enter the population.
    strategy.tell("4", {"d": 4}, (2.0, 2.0))
    assert population_ids(strategy) == ["0", "2", "3"]
    # It dominates trials 0 and 2, which are equally crowded: the older one is dropped.
    strategy.tell("5", {"d": 5}, (6.0, 4.0))
    assert population_ids(strategy) == ["0", "3", "5"]


def test_the_most_crowded_trial_of_the_last_front_is_dropped():
    strategy = NSGA2(population_size=4)
    tell(strategy, (0.0, 10.0), (4.0, 6.0), (5.0, 5.0), (10.0, 0.0), (6.5, 3.5))
    # Crowding distances of the three inner trials: 1.0, 0.5 and 1.0.
    assert population_ids(strategy) == ["0", "1", "3", "4"]


def test_of_equally_fit_trials_the_oldest_is_dropped():
    strategy = NSGA2(population_size=3)
    tell(strategy, (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
    # Only the first of equal points has a crowding distance.
    assert population_ids(strategy) == ["0", "2", "3"]


def test_feasible_trials_survive_before_infeasible_ones():
    strategy = NSGA2(population_size=2)
    tell(strategy, ((9.0, 9.0), 0.5), ((8.0, 8.0), 0.1), ((7.0, 7.0), 2.0))
    assert population_ids(strategy) == ["0", "1"]
    strategy.tell("3", {"d": 3}, (0.0, 0.0))
    assert population_ids(strategy) == ["1", "3"]
    strategy.tell("4", {"d": 4}, (0.0, -1.0))
    assert population_ids(strategy) == ["3", "4"]


def test_an_infinite_violation_is_the_worst():
    strategy = NSGA2(population_size=2)
    tell(strategy, ((9.0, 9.0), float("inf")), ((1.0, 1.0), 5.0), ((1.0, 1.0), 4.0))
    assert population_ids(strategy) == ["1", "2"]


@pytest.mark.parametrize("scores", [None, (float("nan"), 1.0), (1.0, float("inf"))])
def test_failed_trials_are_never_parents(scores):
    strategy = NSGA2(population_size=3)
    tell(strategy, (1.0, 1.0), scores, (0.0, 0.0))
    assert population_ids(strategy) == ["0", "2"]


def test_the_latest_observation_of_a_configuration_counts():
    strategy = NSGA2(population_size=3)
    tell(strategy, (1.0, 1.0), (2.0, 0.0))
    strategy.tell("longer", {"d": 0}, (0.5, 3.0))
    assert population_ids(strategy) == ["1", "longer"]
    assert strategy.population[1].scores == (0.5, 3.0)
    strategy.tell("failed later", {"d": 1}, None)
    assert population_ids(strategy) == ["longer"]


def test_the_population_holds_the_best_trials_in_any_order():
    """With one objective, only the score decides."""
    scores = np.random.default_rng(0).permutation(60).astype(float)
    strategy = NSGA2(population_size=7)
    tell(strategy, *((score,) for score in scores))
    assert sorted(member.scores[0] for member in strategy.population) == [*range(53, 60)]


def test_fitness_is_front_and_negative_crowding():
    scores = [(0.0, 3.0), (1.0, 1.0), (3.0, 0.0), (0.0, 0.0)]
    observations = [Observation(str(i), {"d": i}, point) for i, point in enumerate(scores)]
    observations.append(Observation("infeasible", {"d": 9}, (9.0, 9.0), 1.0))
    expected = [(0, -np.inf), (0, -2.0), (0, -np.inf), (1, -np.inf), (2, -np.inf)]
    assert crowded_fitness(observations) == expected
    assert (
        most_crowded(observations) == 4
        and most_crowded(observations[:4]) == 3
        and most_crowded(observations[:3]) == 1
    )


# ------------------------------------------------------------------ selection and variation


def test_tournament_winners_follow_their_formula():
    """Rank r of n wins a binary tournament with ((n - r)^2 - (n - r - 1)^2) / n^2."""
    n, draws = 5, 20_000
    order = [3, 0, 4, 1, 2]
    fitness = [(rank, 0.0) for rank in order]
    rng = np.random.default_rng(0)
    pairs = [two_winners(fitness, rng) for _ in range(draws)]
    assert all(first != second for first, second in pairs)
    first = collections.Counter(order[winner] for winner, _ in pairs)
    after_best = [order[runner_up] for winner, runner_up in pairs if order[winner] == 0]
    # The second tournament is held among the four remaining members.
    second = collections.Counter(after_best)
    for rank in range(n):
        expected = ((n - rank) ** 2 - (n - rank - 1) ** 2) / n**2
        margin = 5 * np.sqrt(expected * (1 - expected) / draws)
        assert first[rank] / draws == pytest.approx(expected, abs=margin)
    for rank in range(1, n):
        m, r = n - 1, rank - 1
        expected = ((m - r) ** 2 - (m - r - 1) ** 2) / m**2
        margin = 5 * np.sqrt(expected * (1 - expected) / len(after_best))
        assert second[rank] / len(after_best) == pytest.approx(expected, abs=margin)


def bred(crossover_probability, count=4000):
    """Children of the two parents 00...0 and 11...1, of 12 decisions with three values."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(12)))
    strategy = NSGA2(population_size=2, crossover_probability=crossover_probability)
    for number in (0, 1):
        parent = dict.fromkeys(spec.names, number)
        strategy.tell(str(number), parent, (float(number), -float(number)))
    rng = np.random.default_rng(0)
    running = {"a": {}, "b": {}}
    children = [
        strategy.ask(spec, rng, tried=lambda v: False, pending=running).values
        for _ in range(count)
    ]
    return np.array([[values[f"d{i}"] for i in range(12)] for values in children])


def share_of_new(hits):
    """Probability that a decision ends with the value that neither parent has.

    An edit moves it to one of the other two values half of the time, and otherwise draws it
    from all three; ``hits`` has the probabilities of 0, 1, 2, ... edits of it.
    """
    share, total = 0.0, 0.0
    for probability in hits:
        total += probability * share
        share = share / 6 + (1 - share) * 5 / 12
    return total


def test_children_mix_their_parents_and_mutate_one_decision_on_average():
    """Binomial(12, 1/12) edits, each of any of 12 decisions: Binomial(12, 1/144) of each."""
    children = bred(1.0)
    hits = [math.comb(12, k) * (1 / 144) ** k * (143 / 144) ** (12 - k) for k in range(13)]
    expected = share_of_new(hits)
    assert expected == pytest.approx(0.033, abs=0.001)
    # Edits of one child are correlated, so that a child counts as one draw.
    error = (12 * expected / len(children)) ** 0.5 / 12**0.5
    assert (children == 2).mean() == pytest.approx(expected, abs=5 * error)
    assert (children == 0).mean() == pytest.approx((children == 1).mean(), abs=5 / 48_000**0.5)
    mixed = ((children == 0).any(axis=1) & (children == 1).any(axis=1)).mean()
    assert mixed > 0.99


def test_children_without_crossover_are_edited_at_least_once():
    """max(1, Binomial(12, 1/12)) edits, of which a sixth draws the current value."""
    children = bred(0.0)
    changed = np.minimum((children != 0).sum(axis=1), (children != 1).sum(axis=1))
    edits = 1 + (11 / 12) ** 12
    # Two edits of the same decision change one: less than a tenth of the children.
    assert 0.95 * edits * 5 / 6 < changed.mean() < edits * 5 / 6
    once = (11 / 12) ** 12 + (11 / 12) ** 11
    assert (changed == 0).mean() == pytest.approx(once / 6, abs=0.03)
    assert changed.max() >= 3


def test_the_first_proposals_are_random():
    random = search(RandomSearch(), TERNARY, 20, trade_off, seed=3)
    history = search(NSGA2(population_size=10), TERNARY, 20, trade_off, seed=3)
    assert history == random


def test_running_trials_count_towards_the_random_first_proposals():
    """Two results are enough for children while eighteen more trials are running."""
    strategy, rng = NSGA2(population_size=10), np.random.default_rng(0)
    for number in (0, 1):
        values = dict.fromkeys(TERNARY.names, number)
        strategy.tell(str(number), values, (float(number), -float(number)))

    def share_of_two(running):
        pending = {f"p{i}": {} for i in range(running)}
        proposals = [
            strategy.ask(TERNARY, rng, tried=lambda v: False, pending=pending).values
            for _ in range(60)
        ]
        return np.mean([value == 2 for values in proposals for value in values.values()])

    # A third of random values; no parent has it.
    error = (2 / 9 / 300) ** 0.5
    assert share_of_two(17) == pytest.approx(1 / 3, abs=5 * error)
    assert 0 < share_of_two(18) < 1 / 3 - 5 * error


def test_a_search_continues_when_every_trial_fails():
    failing = search(NSGA2(population_size=4), TERNARY, SIZE + 9, lambda values: None, seed=0)
    assert len(failing) == SIZE


def test_configurations_that_fail_are_proposed_less_often():
    """A third of all configurations fails, and both objectives favour these."""

    def scores_of(values):
        return None if values["d0"] == 2 else trade_off(values)

    shares = []
    for seed in range(8):
        history = search(NSGA2(population_size=10), TERNARY, 80, scores_of, seed)
        shares.append(np.mean([observation.scores is None for observation in history[20:]]))
    # Mutation alone would draw the value in a fifth of the edits.
    assert np.mean(shares) < 0.1


def test_ask_returns_none_once_the_space_is_exhausted():
    small = SearchSpec(TERNARY.decisions[:3])
    history = search(
        NSGA2(population_size=4), small, 99, lambda v: (v["d0"], -v["d0"] - v["d1"]), 0
    )
    assert len(history) == 27
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    assert len(search(NSGA2(population_size=2), constant, 5, lambda v: (1.0, 2.0), 0)) == 1
    # The only decision with several values is never active.
    closed = SearchSpec(
        (
            Decision("one", Categorical((1,))),
            Decision("never", Categorical((1, 2)), (Condition("one", (2,)),)),
        )
    )
    strategy = NSGA2(population_size=2)
    for number in range(3):
        strategy.tell(str(number), {"one": 1, "n": number}, (1.0, 2.0))
    rng = np.random.default_rng(0)
    assert strategy.ask(closed, rng, tried=lambda values: True, pending={}) is None


def test_decisions_added_during_the_search_are_searched():
    early = SearchSpec(TERNARY.decisions[:2])
    late = Decision("late", Integer(1, 5), default=1)
    child = Decision("child", Integer(1, 5), (Condition("late", (2, 3, 4, 5)),), default=1)
    strategy, rng = NSGA2(population_size=4), np.random.default_rng(0)
    for number in range(8):
        values = early.sample(rng)
        strategy.tell(str(number), values, (values["d0"], -values["d0"]))
    grown = SearchSpec((*early.decisions, late, child))
    proposed = []
    for number in range(60):
        values = strategy.ask(grown, rng, tried=lambda v: v in proposed, pending={}).values
        grown.validate(values)
        proposed.append(values)
        strategy.tell(f"late{number}", values, (values["d0"] + values["late"], -values["late"]))
    assert {values["late"] for values in proposed} == {1, 2, 3, 4, 5}


# ------------------------------------------------------------------ state


def outcome(values):
    """Some trials fail, and some break a constraint."""
    scores = network_scores(values)
    broken = max(0.0, -scores[1] - 3.5)
    return (None if values["depth"] == 2 and values["rate"] > 0.02 else scores), broken


def test_a_search_resumed_at_any_point_makes_the_same_proposals():
    def run(reload_at):
        strategy, rng = NSGA2(population_size=8), np.random.default_rng(0)
        tried, history = set(), []
        for number in range(60):
            if number in reload_at:
                state, strategy = strategy.get_state(), NSGA2(population_size=8)
                strategy.set_state(state, history)
            values = strategy.ask(
                NETWORK, rng, tried=lambda v: NETWORK.key(v) in tried, pending={}
            ).values
            tried.add(NETWORK.key(values))
            scores, violation = outcome(values)
            history.append(Observation(str(number), values, scores, violation))
            strategy.tell(str(number), values, scores, violation=violation)
        return history

    straight = run(())
    assert any(observation.scores is None for observation in straight)
    assert 5 < sum(observation.violation > 0 for observation in straight) < 55
    assert run(range(60)) == straight


def test_set_state_replaces_the_population():
    strategy = NSGA2(population_size=4)
    history = search(strategy, TERNARY, 9, trade_off, seed=0)
    population = strategy.population
    strategy.tell("later", {"d": 1}, (99.0, 99.0))
    for restored in (strategy, NSGA2(population_size=4)):
        restored.set_state(strategy.get_state(), history)
        assert restored.population == population


# ------------------------------------------------------------------ search quality


def true_front():
    configurations = list(TERNARY.configurations(np.random.default_rng(0)))
    scores = np.array([trade_off(values) for values in configurations])
    front = np.flatnonzero(pareto.non_dominated(scores))
    return {TERNARY.key(configurations[index]) for index in front}


def test_nsga2_finds_the_pareto_front_of_a_small_space():
    front = true_front()
    history = search(NSGA2(population_size=10), TERNARY, SIZE + 9, trade_off, seed=0)
    assert len(history) == SIZE
    assert {TERNARY.key(observation.values) for observation in history} >= front
    last = max(
        i for i, observation in enumerate(history) if TERNARY.key(observation.values) in front
    )
    assert last < SIZE - 9, "the front was complete only once the space was exhausted"


def test_nsga2_finds_more_of_the_front_than_random_draws():
    """Of n of 243 configurations, drawn without replacement, n / 243 of the front on average.

    The number found is hypergeometric; the bound is five standard errors above its mean.
    """
    front, n, seeds = true_front(), 100, range(10)
    k, share = len(front), n / SIZE
    assert 10 <= k < SIZE / 10
    variance = share * (1 - share) * (SIZE - k) / (SIZE - 1) / k
    shares_found = []
    for seed in seeds:
        history = search(NSGA2(population_size=10), TERNARY, n, trade_off, seed)
        shares_found.append(
            len(front.intersection(TERNARY.key(observation.values) for observation in history)) / k
        )
    assert np.mean(shares_found) > share + 5 * (variance / len(seeds)) ** 0.5


TEN = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))


def volume(history):
    scores = np.array([observation.scores for observation in history])
    return pareto.hypervolume(scores, np.array([-1.0, -6.0]))


def test_nsga2_reaches_a_higher_hypervolume_than_random_search():
    """In a mixed, conditional space: 150 trials, 12 seeds, one-sided t-test, p < 0.01."""
    gains = [
        volume(search(NSGA2(population_size=10), NETWORK, 150, network_scores, seed))
        - volume(search(RandomSearch(), NETWORK, 150, network_scores, seed))
        for seed in range(12)
    ]
    assert np.mean(gains) > 2.72 * np.std(gains, ddof=1) / 12**0.5 > 0


def test_nsga2_finds_a_small_feasible_region_and_stays_in_it():
    """One of 27 configurations is feasible, and both objectives favour infeasible ones.

    A child of two feasible parents stays feasible unless one of three decisions in ten is
    edited, which about one edit per child rarely does.
    """

    def violation_of(values):
        return float(values["d0"] + values["d1"] + values["d2"])

    def scores_of(values):
        return sum(values.values()), values["d0"] + 2.0 * values["d9"] - values["d8"]

    shares = []
    for seed in range(10):
        history = search(
            NSGA2(population_size=10), TEN, 150, scores_of, seed, violation_of=violation_of
        )
        shares.append(np.mean([observation.violation == 0 for observation in history[60:]]))
    assert np.mean(shares) > 0.5

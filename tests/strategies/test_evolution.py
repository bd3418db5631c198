import collections
import doctest

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles import RegularizedEvolutionOracle
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, SearchSpec
from keras_nas_plugin.strategies import RandomSearch, RegularizedEvolution, evolution
from keras_nas_plugin.strategies.evolution import (
    DEFAULT_CROSSOVER,
    default_population,
    default_tournament,
    tournament,
)

TERNARY = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(10)))
WIDE = SearchSpec(tuple(Decision(f"d{i}", Categorical(tuple(range(20)))) for i in range(10)))


def search(strategy, spec, trials, score, seed):
    """Run a search; returns the values and scores of its trials, in order."""
    rng, tried, history = np.random.default_rng(seed), set(), []
    for number in range(trials):
        proposal = strategy.ask(spec, rng, tried=lambda v: spec.key(v) in tried, pending={})
        if proposal is None:
            break
        values = proposal.values
        spec.validate(values)
        assert spec.key(values) not in tried, "proposed twice"
        tried.add(spec.key(values))
        scored = score(values)
        strategy.tell(str(number), values, None if scored is None else (scored,))
        history.append((values, scored))
    return history


def total(values):
    return float(sum(values.values()))


def rng_of(seed):
    return np.random.default_rng(seed)


def ask(strategy, spec, rng, tried, pending=()):
    return strategy.ask(
        spec,
        rng,
        tried=lambda values: values in tried or values in pending,
        pending={str(number): values for number, values in enumerate(pending)},
    ).values


def is_child(values, parents):
    """Whether all values but one come from two of the parents (never by chance in WIDE)."""
    return any(
        sum(values[name] not in (first[name], second[name]) for name in values) <= 1
        for first in parents
        for second in parents
    )


def test_examples_in_the_docstrings():
    assert doctest.testmod(evolution).failed == 0


def test_the_winner_of_a_tournament_follows_its_formula():
    """The best of k uniform draws from n has rank r with probability (r^k - (r-1)^k) / n^k."""
    n, k, draws = 6, 3, 30_000
    scores = np.random.default_rng(1).permutation(n).astype(float)
    rng = np.random.default_rng(0)
    won = collections.Counter(scores[tournament(scores, k, rng)] for _ in range(draws))
    for rank in range(1, n + 1):
        expected = (rank**k - (rank - 1) ** k) / n**k
        # Five standard errors of a share.
        margin = 5 * np.sqrt(expected * (1 - expected) / draws)
        assert won[rank - 1.0] / draws == pytest.approx(expected, abs=margin)


def test_a_tournament_of_size_one_is_uniform():
    rng = np.random.default_rng(0)
    won = collections.Counter(tournament([0.0, 1.0], 1, rng) for _ in range(10_000))
    assert won[0] / 10_000 == pytest.approx(0.5, abs=0.025)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(None, (20, 5)), (1, (4, 2)), (12, (4, 2)), (50, (10, 3)), (100, (20, 5)), (9999, (20, 5))],
)
def test_default_sizes_depend_on_the_budget(trials, expected):
    strategy = RegularizedEvolution.for_budget(trials)
    assert (strategy.population_size, strategy.tournament_size) == expected
    assert default_population(trials) == expected[0]
    assert default_tournament(expected[0]) == expected[1]


def test_the_population_drops_its_oldest_trial_not_its_worst():
    strategy = RegularizedEvolution(population_size=3, tournament_size=2)
    scores = [0.9, 0.1, 0.2, 0.3, 0.4]
    for number, score in enumerate(scores):
        strategy.tell(str(number), {"d": number}, (score,))
    assert [member.trial_id for member in strategy.population] == ["2", "3", "4"]
    assert [member.scores for member in strategy.population] == [(0.2,), (0.3,), (0.4,)]


def test_the_first_population_is_random_and_later_proposals_are_mutations():
    strategy = RegularizedEvolution(population_size=8, tournament_size=8, crossover=0.0)
    random = search(RandomSearch(), TERNARY, 8, total, seed=3)
    history = search(strategy, TERNARY, 30, total, seed=3)
    assert history[:8] == random
    for number in range(8, 30):
        child, population = (
            history[number][0],
            [values for values, _ in history[number - 8 : number]],
        )
        edits = min(sum(child[k] != member[k] for k in child) for member in population)
        assert edits == 1, f"child {number} must differ from a member in one decision; got {edits}"


def test_a_large_tournament_selects_the_best_of_the_population():
    strategy = RegularizedEvolution(population_size=6, tournament_size=200)
    history = search(strategy, TERNARY, 40, total, seed=0)
    for number in range(6, 40):
        population = history[number - 6 : number]
        best = max(score for _, score in population)
        parents = [values for values, score in population if score == best]
        child = history[number][0]
        assert min(sum(child[k] != parent[k] for k in child) for parent in parents) <= 4
    first_children = [history[number][1] for number in range(6, 12)]
    assert np.mean(first_children) > np.mean([score for _, score in history[:6]])


def test_failed_trials_are_never_parents():
    strategy = RegularizedEvolution(population_size=5, tournament_size=3)

    def score(values):
        return None if values["d0"] == 2 else total(values)

    history = search(strategy, TERNARY, 60, score, seed=0)
    assert any(scored is None for _, scored in history)
    assert all(member.values["d0"] != 2 for member in strategy.population)
    latest = [values for values, scored in history if scored is not None][-5:]
    assert [member.values for member in strategy.population] == latest


def test_a_search_continues_when_every_trial_fails():
    strategy = RegularizedEvolution(population_size=4, tournament_size=2)
    assert len(search(strategy, TERNARY, 40, lambda values: None, seed=0)) == 40


def test_mutation_starts_once_a_tournament_of_trials_succeeded():
    """Five of eight trials succeeded: enough parents for a tournament of five."""
    strategy, rng = RegularizedEvolution(population_size=8, tournament_size=5), rng_of(0)
    configurations = [WIDE.sample(rng) for _ in range(8)]
    for number, values in enumerate(configurations):
        strategy.tell(str(number), values, None if number < 3 else (total(values),))
    child = ask(strategy, WIDE, rng, configurations)
    assert len(strategy.population) == 5
    assert is_child(child, [member.values for member in strategy.population])
    # Four are too few.
    strategy.tell("retried", configurations[7], None)
    assert len(strategy.population) == 4
    assert not is_child(ask(strategy, WIDE, rng, configurations), configurations)


def test_crossover_takes_every_value_from_one_of_the_two_parents():
    """Parent `i` has the value `i` everywhere: the values of a child show its parents."""
    strategy = RegularizedEvolution(population_size=3, tournament_size=1, crossover=1.0)
    parents = [{f"d{i}": value for i in range(10)} for value in range(3)]
    for number, values in enumerate(parents):
        strategy.tell(str(number), values, (0.0,))
    rng, mixed, single = rng_of(0), 0, 0
    for _ in range(300):
        child = ask(strategy, TERNARY, rng, parents)
        counts = sorted(collections.Counter(child.values()).values())
        assert len(counts) == 2, "a child of crossover must not be mutated"
        # A mutation of one parent also has one value of another.
        mixed += counts[0] > 1
        single += counts[0] == 1
    # A third of the pairs are the same parent twice, whose copy is mutated; 20 in 1024 of the
    # remaining pairs take one of ten values from one parent. The share has an error of 0.027.
    assert single / 300 == pytest.approx(1 / 3 + 2 / 3 * 20 / 1024, abs=0.11)
    assert mixed + single == 300


def test_without_crossover_a_child_is_a_mutation_of_one_parent():
    strategy = RegularizedEvolution(population_size=3, tournament_size=1, crossover=0.0)
    parents = [{f"d{i}": value for i in range(10)} for value in range(3)]
    for number, values in enumerate(parents):
        strategy.tell(str(number), values, (0.0,))
    rng = rng_of(0)
    for _ in range(50):
        counts = sorted(
            collections.Counter(ask(strategy, TERNARY, rng, parents).values()).values()
        )
        assert counts == [1, 9]


def test_crossover_children_that_were_tried_are_mutated():
    """Parents that differ in one decision can only produce copies of themselves."""
    strategy = RegularizedEvolution(population_size=2, tournament_size=1, crossover=1.0)
    parents = [dict.fromkeys((f"d{i}" for i in range(10)), 0)]
    parents.append({**parents[0], "d0": 1})
    for number, values in enumerate(parents):
        strategy.tell(str(number), values, (0.0,))
    rng = rng_of(0)
    for _ in range(20):
        child = ask(strategy, TERNARY, rng, parents)
        assert child not in parents and is_child(child, parents)


def test_parallel_workers_get_distinct_children():
    strategy, rng = RegularizedEvolution(population_size=8, tournament_size=3), rng_of(0)
    ended, running = [], []
    for number in range(8):
        ended.append(ask(strategy, WIDE, rng, ended))
        strategy.tell(str(number), ended[-1], (total(ended[-1]),))
    for _ in range(20):
        running.append(ask(strategy, WIDE, rng, ended, running))
        assert running[-1] not in ended and running[-1] not in running[:-1]
        assert is_child(running[-1], ended)
    # Selection has an effect: children of the best of three are better than the average.
    assert np.mean([*map(total, running)]) > np.mean([*map(total, ended)])


def test_running_trials_count_towards_the_random_first_population():
    """With a population of twenty, twelve ended and eight running trials are enough."""
    strategy, rng, ended, running = RegularizedEvolution(), rng_of(0), [], []
    for number in range(12):
        ended.append(WIDE.sample(rng))
        strategy.tell(str(number), ended[-1], (total(ended[-1]),))
    for number in range(10):
        running.append(ask(strategy, WIDE, rng, ended, running))
        assert is_child(running[-1], ended) == (number >= 8), number


def test_the_latest_score_of_a_configuration_replaces_earlier_ones():
    strategy = RegularizedEvolution(population_size=3, tournament_size=2)
    for number, score in enumerate((0.1, 0.2, 0.3)):
        strategy.tell(str(number), {"d": number}, (score,))
    strategy.tell("trained longer", {"d": 0}, (0.9,))
    assert [(member.values["d"], member.scores) for member in strategy.population] == [
        (1, (0.2,)),
        (2, (0.3,)),
        (0, (0.9,)),
    ]
    strategy.tell("failed later", {"d": 2}, None)
    assert [member.values["d"] for member in strategy.population] == [1, 0]


def test_the_best_warm_start_trials_form_the_first_population():
    """They are reported from worst to best, so that the population drops the worst first."""
    strategy, rng = RegularizedEvolution(), rng_of(0)
    earlier = sorted((WIDE.sample(rng) for _ in range(500)), key=total)
    for number, values in enumerate(earlier):
        scores = None if number < 50 else (total(values),)
        strategy.tell(f"earlier-{number}", values, scores)
    assert [member.values for member in strategy.population] == earlier[-20:]
    child = ask(strategy, WIDE, rng, earlier)
    assert is_child(child, earlier[-20:])
    strategy.tell("0", child, (0.0,))
    assert [member.values for member in strategy.population] == [*earlier[-19:], child]


def test_telling_the_same_trial_twice_has_no_effect():
    strategy = RegularizedEvolution(population_size=3, tournament_size=2)
    for _ in range(2):
        strategy.tell("0", {"d": 1}, (0.5,))
        strategy.tell("1", {"d": 2}, None)
    assert [member.trial_id for member in strategy.population] == ["0"]


def test_a_trial_whose_update_raised_can_be_told_again():
    class Fragile(RegularizedEvolution):
        broken = True

        def learn(self, observation):
            if self.broken:
                raise ZeroDivisionError
            super().learn(observation)

    strategy = Fragile(population_size=3, tournament_size=2)
    with pytest.raises(ZeroDivisionError):
        strategy.tell("0", {"d": 1}, (0.5,))
    strategy.broken = False
    strategy.tell("0", {"d": 1}, (0.5,))
    assert len(strategy.population) == 1


def test_set_state_replaces_the_population():
    strategy = RegularizedEvolution(population_size=4, tournament_size=2)
    search(strategy, TERNARY, 3, total, seed=0)
    history = strategy.population
    state = strategy.get_state()
    strategy.tell("later", {"d": 1}, (0.1,))
    for restored in (strategy, RegularizedEvolution(population_size=4, tournament_size=2)):
        restored.set_state(state, history)
        assert restored.population == history


def test_decisions_added_during_the_search_are_searched():
    strategy = RegularizedEvolution(population_size=4, tournament_size=2)
    early = SearchSpec(TERNARY.decisions[:2])
    late = Decision("late", Integer(1, 5), default=1)
    child = Decision("child", Integer(1, 5), (Condition("late", (2, 3, 4, 5)),), default=1)
    rng = np.random.default_rng(0)
    for number in range(4):
        values = early.sample(rng)
        strategy.tell(str(number), values, (total(values),))
    grown = SearchSpec((*early.decisions, late, child))
    proposed = []
    for number in range(40):
        values = strategy.ask(grown, rng, tried=lambda v: v in proposed, pending={}).values
        grown.validate(values)
        proposed.append(values)
        strategy.tell(f"late{number}", values, (total(values),))
    assert {values["late"] for values in proposed} == {1, 2, 3, 4, 5}


def test_ask_returns_none_once_the_space_is_exhausted():
    strategy = RegularizedEvolution(population_size=2, tournament_size=2)
    small = SearchSpec(TERNARY.decisions[:3])
    assert len(search(strategy, small, 100, total, seed=0)) == 27
    constant = SearchSpec((Decision("one", Categorical((1,))),))
    strategy = RegularizedEvolution(population_size=2, tournament_size=2)
    assert len(search(strategy, constant, 5, lambda values: 1.0, seed=0)) == 1
    strategy.tell("other", {"one": 1}, (1.0,))
    rng = np.random.default_rng(0)
    assert strategy.ask(constant, rng, tried=lambda values: True, pending={}) is None


@pytest.mark.parametrize("sizes", [{"population_size": 1}, {"tournament_size": 0}])
def test_invalid_sizes_are_rejected(sizes):
    (name,) = sizes
    with pytest.raises(StrategyError, match=f"`{name}` must be at least"):
        RegularizedEvolution(**sizes)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_crossover_outside_zero_to_one_is_rejected(share):
    with pytest.raises(StrategyError, match=f"`crossover` .* between 0 and 1; got {share}"):
        RegularizedEvolution(crossover=share)


def test_the_oracle_passes_its_options_to_the_strategy():
    oracle = RegularizedEvolutionOracle("val_accuracy", 50)
    assert (oracle.strategy.population_size, oracle.strategy.tournament_size) == (10, 3)
    assert oracle.strategy.crossover == DEFAULT_CROSSOVER
    oracle = RegularizedEvolutionOracle("val_accuracy", 50, population_size=40, crossover=0.0)
    assert (oracle.strategy.population_size, oracle.strategy.tournament_size) == (40, 10)
    assert oracle.strategy.crossover == 0.0


def test_evolution_beats_random_search_on_an_additive_score():
    """On ten ternary decisions whose scores add up, 150 trials of each, 20 seeds.

    Random search: the best of 150 sums of ten draws from {0, 1, 2}. One sum has mean 10 and
    deviation (10 * 2/3)^0.5 = 2.58; the best of 150 is near 10 + 2.6 * 2.58, between 16 and
    17. Evolution reaches the optimum, 20, or nearly so. A gap of 2 is far above the error of the
    mean over 20 seeds, which is about 0.15.
    """
    best = {}
    for name, make in (
        ("random", RandomSearch),
        ("evolution", lambda: RegularizedEvolution(population_size=20, tournament_size=5)),
    ):
        runs = [search(make(), TERNARY, 150, total, seed) for seed in range(20)]
        best[name] = np.array([max(score for _, score in run) for run in runs])
    assert 15.5 < best["random"].mean() < 17.5
    assert best["evolution"].mean() > best["random"].mean() + 2.0
    assert (best["evolution"] >= best["random"]).all()

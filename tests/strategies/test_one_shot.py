"""The search on a supernet's scores, its finalists, and what happens if the ranks are poor."""

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.domains import Categorical
from keras_nas_plugin.space.spec import Decision, SearchSpec
from keras_nas_plugin.strategies.calibration import kendall
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.strategies.one_shot import OneShotSearch
from keras_nas_plugin.strategies.random import RandomSearch

SPEC = SearchSpec(
    tuple(Decision(name, Categorical((0, 1, 2, 3), ordered=True)) for name in "abcdef")
)


def total(values):
    return float(sum(values.values()))


class Scorer:
    """Scores by a function; decision ``f`` is fixed at 1."""

    def __init__(self, score):
        self.score, self.calls, self.released = score, 0, 0

    def restricted(self, spec):
        fixed = Decision("f", Categorical((1,)), default=1)
        return SearchSpec((*(d for d in spec.decisions if d.name != "f"), fixed))

    def __call__(self, values):
        self.calls += 1
        return self.score(values)

    def parameters(self, values):
        return float(values["a"])

    def release(self):
        self.released += 1


def searching(score, *, base=None, search=RandomSearch, **options):
    options = {"evaluations": 60, "calibration_trials": 5, **options}
    scorer = Scorer(score)
    return OneShotSearch(scorer, search=search, base=base or RandomSearch(), **options), scorer


def run(strategy, score, trials, seed=0):
    rng, tried, proposed = np.random.default_rng(seed), set(), []
    for number in range(trials):
        proposal = strategy.ask(
            SPEC, rng, tried=lambda values: SPEC.key(values) in tried, pending={}
        )
        SPEC.validate(proposal.values)
        tried.add(SPEC.key(proposal.values))
        proposed.append(proposal.values)
        strategy.tell(str(number), proposal.values, score(proposal.values))
    return proposed


def test_finalists_are_good_and_different():
    strategy, scorer = searching(
        lambda values: (total(values),), search=lambda: RegularizedEvolution(population_size=10)
    )
    proposed = run(strategy, lambda values: (total(values),), 8)
    assert all(values["f"] == 1 for values in proposed)
    assert total(proposed[0]) >= 14  # of 16
    for index in (1, 2, 4, 5, 6):  # every fourth is drawn at random
        differences = [
            sum(proposed[index][name] != other[name] for name in "abcdef")
            for other in proposed[:index]
        ]
        assert min(differences) >= 2
    assert scorer.released == 1
    calibration = strategy.calibration
    assert calibration.supernet.value == pytest.approx(1.0)
    assert calibration.better
    assert "the next finalists follow the supernet" in str(calibration)


def test_poor_ranks_are_said_and_the_base_strategy_continues():
    base = RegularizedEvolution(population_size=4)
    strategy, _ = searching(lambda values: (-total(values),), base=base)
    proposed = run(strategy, lambda values: (total(values),), 12)
    calibration = strategy.calibration
    assert calibration.supernet.value == pytest.approx(-1.0)
    assert not calibration.better
    assert "it is not better than the number of parameters" in str(calibration)
    assert {values["f"] for values in proposed[:5]} == {1}
    # The supernet does not restrict what the base strategy proposes; it has learned all trials.
    assert len({values["f"] for values in proposed[5:]}) > 1
    assert len(base.population) == 4


def test_infeasible_architectures_are_no_finalists_and_the_base_proposes_the_rest():
    strategy, _ = searching(
        lambda values: (total(values),) if values["a"] == 3 else None, evaluations=20
    )
    rng, tried = np.random.default_rng(0), set()
    finalists = []
    for _ in range(22):
        proposal = strategy.ask(
            SPEC, rng, tried=lambda values: SPEC.key(values) in tried, pending={}
        )
        tried.add(SPEC.key(proposal.values))
        finalists.append(strategy.scored(SPEC, proposal.values))
        assert proposal.values["a"] == 3 or not finalists[-1]
    assert finalists == sorted(finalists, reverse=True)
    assert 1 <= sum(finalists) < 20


def test_several_objectives_are_ranked_by_front():
    strategy, _ = searching(
        lambda values: (total(values), -float(values["a"])),
        base=NSGA2(population_size=4),
        search=lambda: NSGA2(population_size=8),
    )
    assert strategy.multi_objective
    proposed = run(strategy, lambda values: (total(values), -float(values["a"])), 60)
    scored = [(total(values), -values["a"]) for values in proposed]
    first = scored[0]
    assert not any(
        other != first and other[0] >= first[0] and other[1] >= first[1] for other in scored
    )


def test_an_error_while_scoring_leaves_the_next_proposal_unchanged():
    strategy, scorer = searching(lambda values: (total(values),))
    expected = run(strategy, lambda values: (total(values),), 1)
    other, scorer = searching(lambda values: (total(values),))
    failing = iter([RuntimeError("no memory")])

    def score(values):
        error = next(failing, None)
        if error is not None:
            raise error
        return (total(values),)

    scorer.score = score
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    with pytest.raises(RuntimeError, match="no memory"):
        other.ask(SPEC, rng, tried=lambda values: False, pending={})
    rng.bit_generator.state = state
    assert other.ask(SPEC, rng, tried=lambda values: False, pending={}).values == expected[0]


def test_numbers_that_are_too_small_are_rejected():
    with pytest.raises(StrategyError, match="`evaluations` must be at least 1; got 0"):
        searching(lambda values: (0.0,), evaluations=0)
    with pytest.raises(StrategyError, match="`calibration_trials` must be at least 2; got 1"):
        searching(lambda values: (0.0,), calibration_trials=1)


def test_the_interval_of_kendalls_tau_covers_the_true_value():
    """Correlated normal variables, whose tau is 2/pi * arcsin(rho) (Kendall 1949)."""
    rng = np.random.default_rng(0)
    true = 2 / np.pi * np.arcsin(0.6)
    covered = []
    for _ in range(300):
        first = rng.normal(size=15)
        second = 0.6 * first + 0.8 * rng.normal(size=15)
        tau = kendall(first, second)
        covered.append(tau.low <= true <= tau.high)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert kendall([1, 2, 3], [1, 2, 3]).low == -1.0
    assert kendall([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).value == 0.0

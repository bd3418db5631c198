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


def test_a_search_by_time_scores_as_long_as_it_may_and_resumes_with_the_same_finalists():
    strategy, scorer = searching(lambda values: (total(values),))
    strategy.may_score = lambda: scorer.calls < 17
    proposed = run(strategy, lambda values: (total(values),), 4)
    assert scorer.calls == 17
    resumed, scorer = searching(lambda values: (total(values),))
    resumed.set_state(strategy.get_state(), strategy._observations)
    proposal = resumed.ask(
        SPEC, np.random.default_rng(1), tried=lambda values: values in proposed, pending={}
    )
    assert scorer.calls == 17, "though nothing limits it now"
    # The same order of finalists: the next one follows those that were proposed.
    finalists = resumed._planned_once(SPEC, strategy.get_state()["seed"]).finalists
    assert proposed == list(finalists[:4]) and proposal.values == finalists[4]


def test_ten_architectures_are_scored_even_if_the_time_is_short():
    strategy, scorer = searching(lambda values: (total(values),))
    strategy.may_score = lambda: False
    run(strategy, lambda values: (total(values),), 1)
    assert scorer.calls == 10


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


class Parts(Scorer):
    """Sub-supernets, one for each value of a decision."""

    decision = "a"


def opposite(values):
    return (-total(values),)


def true(values):
    return (total(values),)


def test_sub_supernets_replace_a_supernet_whose_ranks_are_poor():
    parts = Parts(true)
    strategy, whole = searching(opposite, split=parts)
    proposed = run(strategy, true, 5)
    assert strategy.calibration is None
    assert total(proposed[0]) <= 4  # the worst of 60
    # The sixth proposal follows the sub-supernets: it is the best of those that were scored.
    proposed = run(strategy, true, 4, seed=1)
    assert strategy.calibration_before.supernet.value == pytest.approx(-1.0)
    assert strategy.calibration.split
    assert strategy.calibration.supernet.value == pytest.approx(1.0)
    assert "the next finalists follow the sub-supernets" in str(strategy.calibration)
    assert strategy.current_scorer is parts
    assert total(proposed[0]) == max(map(total, proposed))
    assert total(proposed[0]) >= 12
    assert parts.released == 2  # after the comparison, and after the search
    calls = whole.calls

    resumed, other = searching(opposite, split=Parts(true))
    resumed.set_state(strategy.get_state(), [])
    assert resumed.calibration == strategy.calibration
    assert resumed.calibration_before == strategy.calibration_before
    assert run(resumed, true, 4, seed=1) == proposed
    assert (other.calls, whole.calls) == (0, calls)


def test_sub_supernets_whose_ranks_are_poor_as_well_are_not_followed():
    base = RegularizedEvolution(population_size=4)
    parts = Parts(lambda values: (-float(values["a"] + values["b"]),))
    strategy, whole = searching(opposite, base=base, split=parts)
    proposed = run(strategy, true, 12)
    assert strategy.calibration.split
    assert not strategy.calibration.better
    assert "they are not better than the number of parameters" in str(strategy.calibration)
    assert strategy.current_scorer is whole
    assert parts.calls == 5  # the finalists that were compared
    assert len({values["f"] for values in proposed[5:]}) > 1


@pytest.mark.parametrize("split", [None, "nothing to split"])
def test_a_supernet_that_cannot_be_split_is_left(split):
    parts = split and Parts(true)
    if parts:
        parts.decision = None
    strategy, _ = searching(opposite, split=parts)
    run(strategy, true, 7)
    assert not strategy.calibration.split
    assert strategy.calibration_before is None


def test_an_error_while_parts_are_trained_leaves_the_comparison_to_the_next_proposal():
    def failing(values):
        raise RuntimeError("no memory")

    parts = Parts(failing)
    strategy, _ = searching(opposite, split=parts)
    run(strategy, true, 5)
    with pytest.raises(RuntimeError, match="no memory"):
        run(strategy, true, 1, seed=1)
    assert strategy.calibration is None
    assert parts.released == 1
    parts.score = true
    run(strategy, true, 1, seed=1)
    assert strategy.calibration.better

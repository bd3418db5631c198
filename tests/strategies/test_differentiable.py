"""Architectures from the weights of a relaxed supernet: their order, and when they are left."""

import collections
import itertools

import numpy as np
import pytest

from keras_nas_plugin.space.domains import Categorical
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec
from keras_nas_plugin.strategies.differentiable import (
    DifferentiableSearch,
    most_probable,
    sampled,
)
from keras_nas_plugin.strategies.random import RandomSearch

OPTIONS = ("conv", "pool", "skip")
SPEC = SearchSpec(
    (
        *(Decision(name, Categorical(OPTIONS), default="conv") for name in "abc"),
        Decision("rate", Categorical((1, 2)), (Condition("a", ("conv",)),), default=1),
        Decision("optimizer", Categorical(("adam", "sgd")), default="adam"),
    )
)
WEIGHTS = {
    "a": list(zip(OPTIONS, (0.6, 0.3, 0.1), strict=True)),
    "b": list(zip(OPTIONS, (0.2, 0.5, 0.3), strict=True)),
    "c": list(zip(OPTIONS, (0.45, 0.35, 0.2), strict=True)),
    "rate": [(1, 0.25), (2, 0.75)],
}
DERIVED = {"a": "conv", "b": "pool", "c": "conv", "rate": 2, "optimizer": "adam"}


class Scorer:
    """A supernet that prefers convolutions, and records what it is asked."""

    def __init__(self, infeasible=(), perturbed=None):
        self.infeasible, self.derived = infeasible, perturbed
        self.asked, self.released = [], 0

    def restricted(self, spec):
        return spec

    def architecture_weights(self):
        return WEIGHTS

    def perturbed(self):
        return self.derived

    def __call__(self, values):
        self.asked.append(values)
        if SPEC.key(values) in self.infeasible:
            return None
        return (float(sum(values[name] == "conv" for name in "abc")),)

    def parameters(self, values):
        return 10.0

    def release(self):
        self.released += 1


def probability(values):
    return np.prod([dict(WEIGHTS[name])[values[name]] for name in WEIGHTS if name in values])


def test_the_most_probable_architectures_come_first():
    order = list(most_probable(SPEC, WEIGHTS))
    assert order[0] == DERIVED
    keys = [SPEC.key(values) for values in order]
    # 9 times two values of `rate`, and 18 architectures without it.
    assert len(set(keys)) == len(keys) == 18 + 18
    full = [values for values in order if "rate" in values]
    assert [probability(v) for v in full] == sorted(map(probability, full), reverse=True)
    # The weight of a decision that is not active belongs to an architecture as well.
    first = next(index for index, values in enumerate(order) if "rate" not in values)
    assert probability(order[first]) * 0.75 <= probability(order[first - 1])


def test_samples_have_the_weights():
    rng = np.random.default_rng(0)
    draws = 2000
    counts = collections.Counter()
    for _ in range(draws):
        values = sampled(SPEC, WEIGHTS, rng)
        SPEC.validate(values)
        counts.update(values.items())
    for name, option in (("a", "conv"), ("b", "skip"), ("optimizer", "sgd")):
        expected = dict(WEIGHTS.get(name, [("sgd", 0.5)]))[option]
        error = np.sqrt(expected * (1 - expected) / draws)
        assert counts[name, option] / draws == pytest.approx(expected, abs=4 * error)


def search(scorer, **options):
    settings = {"evaluations": 12, "calibration_trials": 4, **options}
    return DifferentiableSearch(scorer, base=RandomSearch(), **settings)


def proposals(strategy, count, score):
    rng, tried, proposed = np.random.default_rng(0), set(), []
    for number in range(count):
        proposal = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
        tried.add(SPEC.key(proposal.values))
        proposed.append(proposal.values)
        result = score(number, proposal.values)
        strategy.tell(str(number), proposal.values, None if result is None else (result,))
    return proposed


def test_the_derived_architecture_is_first_and_nothing_infeasible_is_proposed():
    infeasible = {SPEC.key(DERIVED), SPEC.key({**DERIVED, "c": "pool"})}
    scorer = Scorer(infeasible)
    strategy = search(scorer)
    proposed = proposals(strategy, 8, lambda number, values: 1.0)
    best = next(
        values for values in most_probable(SPEC, WEIGHTS) if SPEC.key(values) not in infeasible
    )
    assert proposed[0] == best
    assert not infeasible & {SPEC.key(values) for values in proposed}
    assert scorer.released == 1
    assert all(strategy.scored(SPEC, values) for values in proposed)
    # Samples follow in the order of their scores, with a random control at each fourth place.
    scores = [scorer(values)[0] for index, values in enumerate(proposed[1:]) if index % 4 != 3]
    assert len(set(scores)) > 1


def test_the_derived_architecture_can_come_from_a_perturbation():
    perturbed = {"a": "skip", "b": "skip", "c": "skip", "optimizer": "sgd"}
    assert proposals(search(Scorer(perturbed=perturbed)), 1, lambda *_: 1.0) == [perturbed]
    rejected = Scorer({SPEC.key(perturbed)}, perturbed)
    assert proposals(search(rejected), 1, lambda *_: 1.0) == [DERIVED]


@pytest.mark.parametrize("derived", [5.0, -5.0, None])
def test_trials_follow_the_weights_only_if_the_derived_architecture_is_good(derived):
    strategy = search(Scorer())

    def score(number, values):
        return derived if number == 0 else float(number % 3)

    count = 6 if derived is None else 5
    proposed = proposals(strategy, count, score)
    calibration = strategy.calibration
    assert calibration.derived == derived
    assert calibration.median == 1.0
    assert calibration.better is (derived == 5.0)
    text = str(calibration)
    expected = {
        5.0: "the derived architecture is at least as good as the median",
        -5.0: "the derived architecture is worse than the median of the other finalists",
        None: "the trial of the derived architecture failed",
    }
    assert text.startswith(expected[derived])
    assert ("from the scores of the trials alone" in text) is (derived != 5.0)
    restored = search(Scorer())
    restored.set_state(strategy.get_state(), [])
    assert restored.calibration == calibration
    rng, tried = np.random.default_rng(1), {SPEC.key(values) for values in proposed}
    following = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
    planned = strategy.scored(SPEC, following.values)
    if derived == 5.0:
        assert planned


def test_a_space_without_weights_is_sampled():
    scorer = Scorer()
    scorer.architecture_weights = dict
    proposed = proposals(search(scorer, evaluations=6), 8, lambda *_: 1.0)
    assert len({SPEC.key(values) for values in proposed}) == 8
    assert proposed[0] == SPEC.fill({})
    assert list(itertools.islice(most_probable(SPEC, {}), 2)) == [SPEC.fill({})]

"""Objectives and their gradients, against central differences and exhaustive sums."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nas_plugin.space import Categorical, Decision, Integer, SearchSpec
from keras_nas_plugin.strategies import policy_gradient
from keras_nas_plugin.strategies.policy import Layout
from keras_nas_plugin.strategies.policy_gradient import (
    choice_log_probs,
    clipped_objective,
    entropies,
    generalized_advantages,
    log_policy,
    make_batch,
    moving_average,
    predicted_values,
    rank_rewards,
    reinforce_objective,
    value_loss,
)
from tests.space.generators import specs

STEP = 1e-6
PAIR = SearchSpec(tuple(Decision(name, Categorical((0, 1, 2))) for name in "ab"))


def case(spec, seed, trials=4, hidden=3):
    """A layout, random weights, a batch of random trials, and a generator."""
    layout, rng = Layout(spec, hidden), np.random.default_rng(seed)
    weights = {name: rng.normal(0, 1, x.shape) for name, x in layout.zero_weights().items()}
    rows = [layout.encode(spec.sample(rng)) for _ in range(trials)]
    return layout, weights, make_batch(layout, rows), rng


def check_gradient(function, weights, rng):
    """Compare with central differences along every weight, or 40 of them.

    The error of a central difference is about ``STEP^2`` times the third derivative plus
    rounding, ``1e-16 / STEP``: near 1e-9 for values of size 10.
    """
    _, gradient = function(weights)
    for name, slope in gradient.items():
        indices = list(np.ndindex(slope.shape))
        chosen = rng.permutation(len(indices))[:40]
        for index in (indices[i] for i in chosen):
            ends = []
            for sign in (1, -1):
                moved = {**weights, name: weights[name].copy()}
                moved[name][index] += sign * STEP
                ends.append(function(moved)[0])
            assert slope[index] == pytest.approx((ends[0] - ends[1]) / (2 * STEP), abs=1e-6)


def test_examples_in_the_docstrings():
    assert doctest.testmod(policy_gradient).failed == 0


# ---------------------------------------------------------------------- gradients


@settings(max_examples=40)
@given(specs(endless=True), st.integers(0, 99), st.sampled_from([0.0, 0.7]))
def test_the_reinforce_gradient_agrees_with_finite_differences(spec, seed, entropy):
    layout, weights, batch, rng = case(spec, seed)
    advantages = rng.normal(size=4)
    check_gradient(
        lambda w: reinforce_objective(w, layout, batch, advantages, entropy), weights, rng
    )


@settings(max_examples=40)
@given(specs(endless=True), st.integers(0, 99))
def test_the_entropy_gradient_agrees_with_finite_differences(spec, seed):
    layout, weights, batch, rng = case(spec, seed)
    nothing = np.zeros(4)
    check_gradient(lambda w: reinforce_objective(w, layout, batch, nothing, 1.0), weights, rng)


@settings(max_examples=40)
@given(specs(endless=True), st.integers(0, 99), st.sampled_from([0.0, 0.7]))
def test_the_clipped_gradient_agrees_with_finite_differences(spec, seed, entropy):
    """Old log-probabilities spread around the new ones: some ratios are clipped, some not."""
    layout, weights, batch, rng = case(spec, seed)
    advantages = rng.normal(size=batch.cells.shape)
    old = choice_log_probs(log_policy(weights, layout, batch), batch)
    old = old + rng.normal(0, 0.4, old.shape)
    check_gradient(
        lambda w: clipped_objective(w, layout, batch, advantages, old, 0.2, entropy), weights, rng
    )


@settings(max_examples=40)
@given(specs(endless=True), st.integers(0, 99))
def test_the_value_gradient_agrees_with_finite_differences(spec, seed):
    _, weights, batch, rng = case(spec, seed)
    returns = rng.normal(size=batch.cells.shape)
    check_gradient(lambda w: value_loss(w, batch, returns), weights, rng)


def every_pair():
    layout = Layout(PAIR, 3)
    rows = [layout.encode({"a": a, "b": b}) for a in range(3) for b in range(3)]
    return layout, make_batch(layout, rows)


@pytest.mark.parametrize("baseline", [0.0, 5.0])
def test_the_expected_gradient_is_the_gradient_of_the_expected_reward(baseline):
    """Williams 1992, theorem 1: with any baseline, over all configurations."""
    layout, batch = every_pair()
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=9)
    weights = {name: rng.normal(size=x.shape) for name, x in layout.zero_weights().items()}

    def chances(w):
        return np.exp(choice_log_probs(log_policy(w, layout, batch), batch).sum(axis=0))

    # The objective is a mean; the expectation weights each of nine by its probability.
    expected = chances(weights) * (rewards - baseline) * 9
    _, gradient = reinforce_objective(weights, layout, batch, expected, 0.0)
    check_gradient(
        lambda w: (float(chances(w) @ rewards), {k: gradient[k] for k in gradient}), weights, rng
    )


def test_the_ppo_gradient_at_ratio_one_is_the_reinforce_gradient():
    """At ratio 1 the clipped objective has REINFORCE's gradient."""
    layout, weights, batch, rng = case(PAIR, 0)
    advantages = rng.normal(size=4)
    old = choice_log_probs(log_policy(weights, layout, batch), batch)
    each = np.broadcast_to(advantages, batch.cells.shape)
    _, clipped = clipped_objective(weights, layout, batch, each, old, 0.2, 0.3)
    _, plain = reinforce_objective(weights, layout, batch, advantages, 0.3)
    for name in plain:
        np.testing.assert_allclose(clipped[name], plain[name], atol=1e-12)


@pytest.mark.parametrize(
    ("advantage", "shift", "moves"),
    [(1.0, 0.5, False), (1.0, -0.5, True), (-1.0, -0.5, False), (-1.0, 0.5, True)],
)
def test_a_choice_beyond_the_clip_has_no_gradient(advantage, shift, moves):
    """Schulman et al. 2017, figure 1; ``shift`` is how far the log-ratio has moved."""
    layout, weights, batch, _ = case(PAIR, 0)
    old = choice_log_probs(log_policy(weights, layout, batch), batch) - shift
    advantages = np.full(batch.cells.shape, advantage)
    _, gradient = clipped_objective(weights, layout, batch, advantages, old, 0.2, 0.0)
    assert (np.abs(gradient["bias"]).max() > 1e-6) == moves


# ---------------------------------------------------------------------- learning


def climb(weights, layout, batch, advantages, steps, fixed=()):
    for _ in range(steps):
        log_probs = choice_log_probs(log_policy(weights, layout, batch), batch).sum(axis=0)
        on_policy = advantages * np.exp(log_probs) * len(advantages)
        _, gradient = reinforce_objective(weights, layout, batch, on_policy, 0.0)
        for name in set(gradient) - set(fixed):
            weights[name] = weights[name] + gradient[name]
    return np.exp(choice_log_probs(log_policy(weights, layout, batch), batch).sum(axis=0))


def test_conditioning_learns_a_reward_of_pairs_of_choices():
    """A reward for ``a == b``: no single value is better than another.

    A policy without conditions can only match by picking one of three modes. It starts where
    these balance, with a gradient of 0, so that it stays at a third up to rounding.
    """
    layout, batch = every_pair()
    match = np.array([float(a == b) for a in range(3) for b in range(3)])
    flat = climb(layout.zero_weights(), layout, batch, match - 1 / 3, 100, fixed=("context",))
    assert flat @ match == pytest.approx(1 / 3, abs=1e-3)
    # The bias is fixed, so that only the conditions are learned.
    learned = climb(layout.zero_weights(), layout, batch, match - 1 / 3, 3000, fixed=("bias",))
    assert learned @ match > 0.9


def test_learning_a_number_generalises_to_nearby_values():
    spec = SearchSpec((Decision("n", Integer(1, 16)),))
    layout = Layout(spec, 3)
    batch = make_batch(layout, [layout.encode({"n": 5})])
    weights = layout.zero_weights()
    _, gradient = reinforce_objective(weights, layout, batch, np.ones(1), 0.0)
    weights["bias"] = gradient["bias"]
    log_p = log_policy(weights, layout, batch)[0, 0]
    assert np.argmax(log_p) == 4
    assert log_p[3] > log_p[1] > log_p[10] and log_p[5] > log_p[7] > log_p[12]
    assert log_p[5] > -math.log(16) > log_p[10]


def test_entropy_is_maximal_at_the_prior_of_the_space():
    spec = SearchSpec((Decision("n", Integer(1, 9, None, "log")),))
    layout, weights, batch, _ = case(spec, 0)
    for candidate, sign in ((layout.zero_weights(), 0), (weights, -1)):
        entropy, slope = entropies(log_policy(candidate, layout, batch), layout, batch)
        assert np.sign(entropy.round(12)).tolist() == [[sign] * 4]
        assert (np.abs(slope).max() < 1e-12) == (sign == 0)


# ---------------------------------------------------------------------- advantages and rewards


@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 99))
def test_generalized_advantages_equal_their_explicit_sum(choices, decay, seed):
    """``sum_l decay^l delta_k+l``, over the scored choices only."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(choices, 3))
    scored = rng.random((choices, 3)) < 0.7
    rewards = rng.normal(size=3)
    advantages = generalized_advantages(values, scored, rewards, decay)
    for trial in range(3):
        made = np.flatnonzero(scored[:, trial])
        path = [*values[made, trial], rewards[trial]]
        deltas = np.diff(path)
        for start, k in enumerate(made):
            tail = deltas[start:]
            assert advantages[k, trial] == pytest.approx(tail @ decay ** np.arange(len(tail)))
        assert (advantages[~scored[:, trial], trial] == 0).all()


def test_values_are_predicted_from_earlier_choices_only():
    _, weights, batch, _ = case(PAIR, 0)
    values = predicted_values(weights, batch)
    assert np.ptp(values[0]) < 1e-12, "the first value must not depend on any choice"
    first = batch.cells[0]
    for cell in set(first.tolist()):
        assert np.ptp(values[1][first == cell]) < 1e-12
    assert np.ptp(values[1]) > 0


def test_fitting_the_value_head_predicts_the_rewards():
    layout, batch = every_pair()
    rewards = np.repeat([0.0, 1.0, 5.0], 3)
    returns = np.broadcast_to(rewards, batch.cells.shape)
    weights = layout.zero_weights()
    for _ in range(4000):
        _, slope = value_loss(weights, batch, returns)
        for name in slope:
            weights[name] = weights[name] - slope[name]
    values = predicted_values(weights, batch)
    assert values[0] == pytest.approx(rewards.mean(), abs=0.05)
    assert values[1] == pytest.approx(rewards, abs=0.05)


@given(st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=20))
def test_rank_rewards_depend_only_on_the_order_of_scores(scores):
    rewards = rank_rewards(scores)
    if len(set(scores)) == len(scores):
        assert rewards.sum() == pytest.approx(0.0, abs=1e-9)
    grown = [None if score is None else math.exp(3.0 * score) for score in scores]
    np.testing.assert_array_equal(rewards, rank_rewards(grown))
    finite_scores = np.array([-math.inf if score is None else score for score in scores])
    np.testing.assert_array_equal(
        finite_scores[:, None] > finite_scores, rewards[:, None] > rewards
    )


def test_the_moving_average_discounts_old_rewards():
    assert moving_average([5.0], 0.9) == 5.0
    assert moving_average([1.0, 2.0, 3.0], 0.0) == 3.0
    rewards = [0.0] * 50 + [1.0] * 10
    assert moving_average(rewards, 0.9) == pytest.approx(1 - 0.9**10, abs=0.01)

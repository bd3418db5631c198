"""Tests of REINFORCE alone; `test_policy_search` has those shared with PPO."""

import base64

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Decision, SearchSpec
from keras_nas_plugin.strategies import Reinforce
from keras_nas_plugin.strategies.policy import Layout
from keras_nas_plugin.strategies.policy_gradient import log_policy, make_batch, rank_rewards

SPEC = SearchSpec(tuple(Decision(name, Categorical((0, 1, 2))) for name in "ab"))
TRIALS = [({"a": 0, "b": 0}, 1.0), ({"a": 1, "b": 2}, 3.0), ({"a": 2, "b": 1}, 2.0)]


def ask(strategy):
    return strategy.ask(
        SPEC, np.random.default_rng(0), tried=lambda values: False, pending={}
    ).values


def biases(strategy):
    """Biases by name, shape ``[2, 3]``."""
    ask(strategy)
    heads = strategy.get_state()["weights"].values()
    return np.array([np.frombuffer(base64.b64decode(head["bias"]), "<f8") for head in heads])


def test_the_newest_trial_moves_the_policy_along_its_score_gradient():
    """Williams' rule by hand: ``rate * (R - b) * (one-hot - p)`` for each trial in turn.

    With ``entropy=0`` and no baseline memory (decay 0) the baseline is the newest reward, so
    a decay near 1 is used: then it is the mean of the rewards, which is 0 for ranks.
    """
    strategy = Reinforce(learning_rate=0.5, entropy=0.0, baseline_decay=1 - 1e-9, reuse=False)
    for number, (values, score) in enumerate(TRIALS):
        strategy.tell(str(number), values, (score,))
    expected = np.zeros((2, 3))
    context = np.zeros((16, 3))
    layout = Layout(SPEC, 16)
    for number, (values, _) in enumerate(TRIALS):
        reward = rank_rewards([score for _, score in TRIALS[: number + 1]])[-1]
        hidden = make_batch(layout, [layout.encode(values)]).hidden[1, 0]
        for row, name in enumerate("ab"):
            logits = expected[row] + (hidden @ context if row else 0.0)
            slope = np.eye(3)[values[name]] - np.exp(logits) / np.exp(logits).sum()
            expected[row] += 0.5 * reward * slope
            if row:
                # Conditions learn at half the rate.
                context += 0.25 * reward * np.outer(hidden, slope)
    np.testing.assert_allclose(biases(strategy), expected, atol=1e-6)


def test_good_choices_become_likely_and_bad_ones_unlikely():
    strategy = Reinforce()
    for number, (values, score) in enumerate(TRIALS * 3):
        strategy.tell(str(number), values, (score,))
    bias = biases(strategy)
    assert bias[0].argsort().tolist() == [0, 2, 1]
    assert bias[1].argsort().tolist() == [0, 1, 2]


def test_trials_that_became_unlikely_stop_moving_the_policy():
    """A single bad trial does not drive its values to probability 0.

    Without importance weights it would lower them as long as it is in the window.
    """
    strategy = Reinforce(entropy=0.0)
    strategy.tell("bad", {"a": 0, "b": 0}, (0.0,))
    # Configurations without the bad values, repeated so that the bad trial stays in the window.
    for number in range(200):
        values = {"a": 1 + number % 2, "b": 1 + number // 2 % 2}
        strategy.tell(str(number), values, (1.0,))
    ask(strategy)
    layout = Layout(SPEC, 16)
    batch = make_batch(layout, [layout.encode({"a": 0, "b": 0})])
    chances = np.exp(log_policy(strategy._weights, layout, batch))
    assert strategy._memory[0].score == 0.0
    assert 1e-3 < chances[0, 0, 0] < 0.2


def proposals(strategy, spec, count):
    rng, proposed = np.random.default_rng(0), []
    for number in range(count):
        values = strategy.ask(spec, rng, tried=lambda v: v in proposed, pending={}).values
        proposed.append(values)
        strategy.tell(str(number), values, (float(sum(values.values())),))
    return proposed


def test_a_higher_entropy_weight_explores_more():
    """Late proposals of a search repeat their values less often."""
    spec = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(8)))
    repeats = {}
    for entropy in (0.0, 1.0):
        proposed = proposals(Reinforce(entropy=entropy), spec, 80)
        late = [list(values.values()) for values in proposed[40:]]
        repeats[entropy] = np.mean(
            [np.bincount(column).max() for column in zip(*late, strict=True)]
        )
    # Of 40 draws, random search has its favourite about 16 times.
    assert repeats[1.0] + 6 < repeats[0.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_an_invalid_baseline_decay_is_rejected(decay):
    with pytest.raises(StrategyError, match=f"`baseline_decay` must be .* got {decay}"):
        Reinforce(baseline_decay=decay)

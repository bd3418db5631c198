"""Tests of PPO alone; `test_policy_search` has those shared with REINFORCE."""

import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Categorical, Decision, SearchSpec
from keras_nas_plugin.strategies import PPO, ppo
from keras_nas_plugin.strategies.policy import Layout
from keras_nas_plugin.strategies.policy_gradient import (
    choice_log_probs,
    log_policy,
    make_batch,
    predicted_values,
)

SPEC = SearchSpec(tuple(Decision(f"d{i}", Categorical((0, 1, 2))) for i in range(4)))


def tell(strategy, count, score=lambda values: float(sum(values.values()))):
    rng = np.random.default_rng(0)
    for number in range(count):
        values = SPEC.sample(rng)
        strategy.tell(str(number), values, (score(values),))
        strategy.ask(SPEC, rng, tried=lambda v: False, pending={})


def test_weights_change_only_when_a_batch_is_full():
    strategy, biases = PPO(batch_size=5), []
    rng = np.random.default_rng(0)
    for number in range(11):
        strategy.tell(str(number), SPEC.sample(rng), (float(rng.random()),))
        strategy.ask(SPEC, rng, tried=lambda v: False, pending={})
        biases.append(strategy._weights["bias"].copy())
    changed = [number for number in range(1, 11) if (biases[number] != biases[number - 1]).any()]
    assert changed == [4, 9] and not biases[0].any()
    assert strategy.get_state()["covered"] == 10


def test_each_batch_is_used_for_the_given_number_of_epochs(monkeypatch):
    calls = []
    original = ppo.clipped_objective
    monkeypatch.setattr(
        ppo, "clipped_objective", lambda *args: calls.append(args[4]) or original(*args)
    )
    tell(PPO(batch_size=4, epochs=3), 8)
    assert len(calls) == 6
    # The old policy is the one before the batch: fixed for its epochs, new for the next batch.
    assert all((calls[0] == log_probs).all() for log_probs in calls[:3])
    assert calls[3].shape != calls[0].shape


def test_an_update_moves_no_choice_far_beyond_the_clip():
    """Many small epochs move ratios to the clip and no further; without a clip they continue."""
    moved = {}
    rng = np.random.default_rng(0)
    configurations = [SPEC.sample(rng) for _ in range(8)]
    for clip in (0.1, 1e9):
        strategy = PPO(
            learning_rate=0.05, entropy=0.0, batch_size=8, window=8, epochs=400, clip=clip
        )
        for number, values in enumerate(configurations):
            strategy.tell(str(number), values, (float(values["d0"]),))
        strategy.ask(SPEC, rng, tried=lambda v: False, pending={})
        layout = Layout(SPEC, 16)
        batch = make_batch(layout, [layout.encode(values) for values in configurations])
        flat = np.log(1.0 / 3.0)
        log_probs = choice_log_probs(log_policy(strategy._weights, layout, batch), batch)
        moved[clip] = np.abs(np.exp(log_probs - flat)[0] - 1.0).max()
    # The probability that one choice gains is lost by others, clipped or not.
    assert 0.09 < moved[0.1] < 0.25 and moved[1e9] > 1.0


def test_the_value_head_learns_the_value_of_the_first_choice():
    """The score is the first choice alone, so that it is determined before the second."""
    strategy = PPO(entropy=5.0)
    tell(strategy, 400, score=lambda values: float(values["d0"]))
    layout = Layout(SPEC, 16)
    rows = [layout.encode({"d0": d0, "d1": 0, "d2": 0, "d3": 0}) for d0 in range(3)]
    values = predicted_values(strategy._weights, make_batch(layout, rows))
    assert values[1][0] + 0.1 < values[1][1] < values[1][2] - 0.1
    assert np.ptp(values[0]) == 0.0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"window": 3, "batch_size": 4}, "window"),
        ({"epochs": 0}, "epochs"),
        ({"clip": 0.0}, "clip"),
        ({"gae_decay": 1.1}, "gae_decay"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, name):
    with pytest.raises(StrategyError, match=f"`{name}` must be .* got {arguments[name]}"):
        PPO(**arguments)

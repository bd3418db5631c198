"""Contracts of every strategy, without KerasTuner and without Keras."""

import dataclasses
import inspect
import subprocess
import sys

import numpy as np
import pytest

import keras_nas_plugin.strategies as strategies
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import Proposal, Strategy
from keras_nas_plugin.strategies.proxy_guided import ProxyGuidedSearch

ALL = {
    name: value
    for name, value in vars(strategies).items()
    if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
}

SPEC = SearchSpec(
    (
        Decision("kind", Categorical(("a", "b", "c"))),
        Decision("rate", Real(1e-4, 1e-1, None, "log")),
        Decision("width", Integer(1, 64, 2, "log"), (Condition("kind", ("b", "c")),)),
        Decision("depth", Integer(1, 9), (Condition("width", (2, 4, 8)),)),
    )
)

# Run in a fresh interpreter: prints the proposals of every strategy.
_PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import json, test_strategies as t
print(json.dumps({{name: t.proposals(make(), 60) for name, make in sorted(t.ALL.items())}}))
assert not {{"keras", "keras_tuner", "tensorflow"}} & set(sys.modules)
"""


def outcome(values):
    score = values["rate"] * len(values)
    return None if values["kind"] == "c" and score < 0.01 else (score,)


def proposals(strategy, count, *, seed=0, reload_at=()):
    rng, tried, history, proposed = np.random.default_rng(seed), set(), [], []
    for number in range(count):
        if number in reload_at:
            state, fresh = strategy.get_state(), type(strategy)()
            fresh.set_state(state, history)
            strategy = fresh
        values = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={}).values
        SPEC.validate(values)
        assert SPEC.key(values) not in tried
        tried.add(SPEC.key(values))
        proposed.append(values)
        strategy.tell(str(number), values, outcome(values))
        history.append(strategies.Observation(str(number), values, outcome(values)))
    return proposed


@pytest.mark.parametrize("name", ALL)
def test_a_search_resumed_at_any_point_makes_the_same_proposals(name):
    expected = proposals(ALL[name](), 60)
    assert proposals(ALL[name](), 60, reload_at=range(60)) == expected


@pytest.mark.parametrize("name", ALL)
def test_proposals_are_determined_by_the_seed(name):
    runs = [proposals(ALL[name](), 30, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", ALL)
def test_proposals_leave_the_global_generators_alone(name):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    proposals(ALL[name](), 20)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_proposals_are_the_same_in_another_process():
    """Whatever its hash seed, and without importing Keras or KerasTuner."""
    from pathlib import Path

    program = _PROGRAM.format(folder=str(Path(__file__).parent))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] and len(outputs[0]) > 1000


def settings(strategy):
    """Public attributes: what the constructor was given."""
    return {name: value for name, value in vars(strategy).items() if name[0] != "_"}


@pytest.mark.parametrize("name", ALL)
def test_none_means_the_default_for_the_budget(name):
    parameters = inspect.signature(ALL[name]).parameters
    expected = settings(ALL[name].for_budget(30))
    assert settings(ALL[name].for_budget(30, **dict.fromkeys(parameters))) == expected


@pytest.mark.parametrize("name", ALL)
def test_an_argument_overrides_the_default_for_the_budget(name):
    arguments = {
        parameter.name: parameter.default
        for parameter in inspect.signature(ALL[name]).parameters.values()
    }
    for budget in (None, 1, 30, 10**6):
        assert settings(ALL[name].for_budget(budget, **arguments)) == settings(ALL[name]())


def test_an_unknown_argument_is_rejected():
    with pytest.raises(TypeError, match="populations"):
        strategies.NSGA2.for_budget(30, populations=8)


def test_a_pool_of_a_given_size_is_scored_before_the_first_trial():
    def scorer(values):
        return {"proxy": 0.0}

    growing = ProxyGuidedSearch.for_budget(25, scorer=scorer, pool_size=None)
    assert (growing.pool_size, growing.first_pool, growing.initial_trials) == (100, 16, 5)
    fixed = ProxyGuidedSearch.for_budget(25, scorer=scorer, pool_size=60)
    assert (fixed.pool_size, fixed.first_pool, fixed.initial_trials) == (60, 60, 5)


def test_a_proposal_names_each_parent_once_and_in_order():
    parents = [strategies.Observation(trial_id, {}, (0.0,)) for trial_id in ("4", "2", "4")]
    assert Proposal.from_parents({"x": 1}, parents) == Proposal({"x": 1}, ("4", "2"))
    assert Proposal({"x": 1}).parents == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Proposal({"x": 1}).parents = ("4",)

"""What holds for every strategy, without KerasTuner and without Keras."""

import subprocess
import sys

import numpy as np
import pytest

import keras_nas_plugin.strategies as strategies
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.strategies import Strategy

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
        values = strategy.ask(SPEC, rng, tried=lambda v: SPEC.key(v) in tried, pending={})
        SPEC.validate(values)
        assert SPEC.key(values) not in tried
        tried.add(SPEC.key(values))
        proposed.append(values)
        strategy.tell(str(number), values, outcome(values))
        history.append(strategies.Observation(str(number), values, outcome(values)))
    return proposed


@pytest.mark.parametrize("name", ALL)
def test_a_state_saved_at_any_point_changes_nothing(name):
    expected = proposals(ALL[name](), 60)
    assert proposals(ALL[name](), 60, reload_at=range(60)) == expected


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(name):
    runs = [proposals(ALL[name](), 30, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", ALL)
def test_proposals_leave_the_global_generators_alone(name):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    proposals(ALL[name](), 20)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_another_process_proposes_the_same():
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

"""Properties of every strategy on random search spaces, whatever happens to its trials.

A search is a list of events, drawn by hypothesis: the strategy is asked, a running trial ends
with a score or without, a configuration is reported again, the process restarts, the space
grows. New strategies are included automatically.
"""

import dataclasses
import inspect
import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_nas_plugin.strategies as strategies
from keras_nas_plugin.space import SearchSpec
from keras_nas_plugin.strategies import Observation, Strategy
from tests.space.generators import specs

ALL = {
    name: value
    for name, value in vars(strategies).items()
    if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy
}
# Extremes, equal scores, and the usual.
SCORES = (1e300, -1e300, 1e-300, -1e-300, 0.0, 0.0, 0.25, 0.5, 0.75)
EVENTS = st.lists(
    st.sampled_from(["ask"] * 6 + ["end"] * 4 + ["fail", "break", "again"]),
    min_size=12,
    max_size=24,
)
SEEDS = st.integers(0, 2**32 - 1)

few = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def small(name):
    """A strategy whose populations, batches and the like fit into a dozen trials."""
    parameters = inspect.signature(ALL[name].__init__).parameters.values()
    sizes = {
        parameter.name: 4
        for parameter in parameters
        if type(parameter.default) is int and parameter.default > 4
    }
    return ALL[name](**sizes)


class Search:
    """A strategy and what an oracle does around it."""

    def __init__(self, name, spec, seed):
        self.name, self.spec = name, spec
        self.strategy = small(name)
        self.rng = np.random.default_rng(seed)
        # What happens to trials is drawn by another generator than the proposals.
        self.fate = np.random.default_rng([seed, 1])
        self.keys, self.pending, self.history, self.asked = set(), {}, [], 0

    def tried(self, values):
        return self.spec.key(values) in self.keys

    def ask(self):
        """Ask for values and check them; returns None if the space is exhausted."""
        pending = {trial: dict(values) for trial, values in self.pending.items()}
        proposal = self.strategy.ask(self.spec, self.rng, tried=self.tried, pending=pending)
        assert pending == self.pending, "the strategy changed what it was given"
        if proposal is None:
            configurations = self.spec.configurations(np.random.default_rng(0))
            untried = next((values for values in configurations if not self.tried(values)), None)
            assert untried is None, f"the strategy proposed nothing, but {untried} is untried"
            return None
        values = proposal.values
        assert {*proposal.parents} <= {observation.trial_id for observation in self.history}
        # Raises where values are missing, inactive or outside their domain.
        self.spec.validate(values)
        assert not self.tried(values), "proposed twice"
        assert json.loads(json.dumps(values)) == values, "values must be plain JSON"
        self.keys.add(self.spec.key(values))
        self.pending[str(self.asked)] = values
        self.asked += 1
        return dict(values)

    def end(self, how):
        """End a running trial, which the fate generator chooses."""
        if self.pending:
            running = list(self.pending)
            trial = running[int(self.fate.integers(len(running)))]
            self.report(trial, self.pending.pop(trial), how)

    def again(self):
        """Report a configuration that ended once more, with another score."""
        if self.history:
            observation = self.history[int(self.fate.integers(len(self.history)))]
            self.report(f"again-{len(self.history)}", dict(observation.values), "end")

    def report(self, trial, values, how):
        count = 2 if self.strategy.multi_objective else 1
        scores = None
        if how != "fail":
            scores = tuple(float(score) for score in self.fate.choice(SCORES, size=count))
        violation = 0.5 if how == "break" else 0.0
        self.strategy.tell(trial, values, scores, violation=violation)
        self.history.append(Observation(trial, values, scores, violation))

    def restart(self):
        """Resume from the saved state, in a fresh strategy or one that saw other trials."""
        state = json.loads(json.dumps(self.strategy.get_state()))
        if len(self.history) % 2:
            self.strategy = small(self.name)
        else:
            count = 2 if self.strategy.multi_objective else 1
            values = self.spec.sample(np.random.default_rng(len(self.history)))
            self.strategy.tell("of another search", values, (2.0,) * count)
            self.strategy.tell("its failure", values, None)
        self.strategy.set_state(state, list(self.history))

    def do(self, event):
        if event == "ask":
            return self.ask()
        if event == "again":
            return self.again()
        return self.end(event)


def with_defaults(spec):
    """The spec with a default for every decision, as KerasTuner has for hyperparameters."""
    return SearchSpec(
        tuple(
            dataclasses.replace(decision, default=decision.domain.at(0.0))
            for decision in spec.decisions
        )
    )


@pytest.mark.parametrize("name", ALL)
@given(specs(endless=True), EVENTS, SEEDS)
@few
def test_proposals_are_valid_untried_and_unchanged_by_restarts(name, spec, events, seed):
    straight, restarted = Search(name, spec, seed), Search(name, spec, seed)
    for event in events:
        restarted.restart()
        assert restarted.do(event) == straight.do(event)


@pytest.mark.parametrize("name", ALL)
@given(specs(), SEEDS)
@few
def test_ask_returns_none_exactly_when_the_space_is_exhausted(name, spec, seed):
    """`Search.ask` compares with a list of all configurations."""
    listed = spec.configurations(np.random.default_rng(0))
    size = sum(1 for _ in itertools.islice(listed, 25))
    search = Search(name, spec, seed)
    for number in range(min(size, 24)):
        assert search.ask() is not None
        if number % 3:
            search.end("fail" if number % 7 == 1 else "end")
    if size < 25:
        assert search.ask() is None
        search.restart()
        assert search.ask() is None


@pytest.mark.parametrize("name", ALL)
@given(specs(endless=True), st.integers(1, 4), EVENTS, SEEDS)
@few
def test_proposals_stay_valid_and_reproducible_when_the_space_grows(
    name, spec, early_count, events, seed
):
    grown = with_defaults(spec)
    early = SearchSpec(grown.decisions[:early_count])
    straight, restarted = Search(name, early, seed), Search(name, early, seed)
    for number, event in enumerate(events):
        if number == len(events) // 2:
            straight.spec = restarted.spec = grown
        restarted.restart()
        assert restarted.do(event) == straight.do(event)


@pytest.mark.parametrize("name", ALL)
@given(specs(endless=True), SEEDS)
@few
def test_proposals_after_a_warm_start_are_unchanged_by_restarts(name, spec, seed):
    straight, restarted = Search(name, spec, seed), Search(name, spec, seed)
    for search in (straight, restarted):
        rng = np.random.default_rng(seed)
        for number in range(12):
            values = spec.sample(rng)
            search.keys.add(spec.key(values))
            search.report(f"earlier-{number}", values, "fail" if number < 3 else "end")
    for event in ["ask", "ask", "end"] * 3:
        restarted.restart()
        assert restarted.do(event) == straight.do(event)


@pytest.mark.parametrize("name", ALL)
@given(specs(endless=True), SEEDS)
@few
def test_telling_the_same_trial_twice_has_no_effect(name, spec, seed):
    once, twice = Search(name, spec, seed), Search(name, spec, seed)
    for event in ["ask", "ask", "end", "ask", "fail", "ask", "end"] * 2:
        assert once.do(event) == twice.do(event)
        if twice.history:
            last = twice.history[-1]
            twice.strategy.tell(last.trial_id, last.values, last.scores, violation=last.violation)


@pytest.mark.parametrize("name", ALL)
@given(specs(endless=True), SEEDS)
@few
def test_the_state_does_not_grow_with_the_trials(name, spec, seed):
    """Between 12 and 24 trials, only the digits of a few numbers change the length."""
    search = Search(name, spec, seed)
    lengths = []
    for _ in range(24):
        if search.ask() is None:
            return
        search.end("end")
        lengths.append(len(json.dumps(search.strategy.get_state())))
    assert max(lengths[12:]) <= 1.5 * max(lengths[:12]) + 200

"""The common base of REINFORCE and PPO: a policy, the latest trials, and their state."""

from __future__ import annotations

import abc
import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import (
    MOST_OPENING_TRIALS,
    Observation,
    Proposal,
    Strategy,
    random_proposal,
)
from keras_nas_plugin.strategies.failures import FailureMemory
from keras_nas_plugin.strategies.policy import Layout, Sampler, Weights
from keras_nas_plugin.strategies.policy_gradient import (
    Batch,
    choice_log_probs,
    log_policy,
    make_batch,
)

# Maximum number of draws from the policy before a draw from the space, and how much each draw
# raises the temperature of the next one. A policy that has converged repeats itself: a proposal
# omits as many draws as were tried before for the previous proposal, less a few.
_DRAWS = 32
_HEAT = 0.15
_FEWER = 6
# Maximum number of trials to learn from before one proposal: bounds the cost of a long warm start.
_BACKLOG = 256
# Learning rates relative to those of the biases. It takes more trials to tell interactions from
# noise than single values; the value head only has to follow the mean.
_CONTEXT_RATE = 0.5
_VALUE_RATE = 0.1


#: Stands in for the space until the first proposal, which passes the actual one.
_NO_SPACE = SearchSpec(())


@dataclasses.dataclass
class _Remembered:
    """A trial with its encoding.

    Attributes:
        arrival: Its number in the order of arrival.
        values: Its active values.
        score: Its score; None when it failed.
        key: Key of its configuration in the current space.
        row: See `Layout.encode`.
        behaviour: Its log-probability when it was first learned from.
    """

    arrival: int
    values: Mapping[str, Any]
    score: float | None
    key: str
    row: tuple[np.ndarray, np.ndarray]
    behaviour: float = 0.0


class PolicySearch(Strategy):
    """Samples from an autoregressive policy, and improves it by gradients: see `policy`.

    Learning uses no random numbers and happens before the next proposal: one update per
    ``step`` trials in the order of arrival, from the latest trials only, so that the cost of a
    proposal does not grow with the search. The state holds the weights, the number of
    observations they were learned from, and the probabilities of the latest trials when they
    arrived.

    Weights belong to a decision, not to its index: a decision that is added later starts with
    the space's own distribution and does not affect the others. Failed trials rank below all
    others, and what they have in common is proposed less often: see `failures`. Running trials
    are never proposed again, and since proposals are random draws, parallel ones differ.

    Args:
        learning_rate: Step along the gradient, above 0.
        entropy: Weight of the entropy bonus, at least 0.
        window: Number of latest trials to learn from, at least 2.
        hidden: Units of the policy's fixed layer, at least 1.
        step: Number of trials per update, at least 1.

    Raises:
        StrategyError: An argument is too small.
    """

    opening_trials = MOST_OPENING_TRIALS

    def __init__(
        self, *, learning_rate: float, entropy: float, window: int, hidden: int, step: int
    ) -> None:
        super().__init__()
        if not learning_rate > 0.0:
            raise StrategyError(f"`learning_rate` must be above 0; got {learning_rate}")
        check_at_least("entropy", entropy, 0.0)
        check_at_least("window", window, 2)
        check_at_least("hidden", hidden, 1)
        self.learning_rate = learning_rate
        self.entropy = entropy
        self.window = window
        self.hidden = hidden
        self._step = step
        self._reset()

    def _reset(self) -> None:
        self._failures = FailureMemory()
        self._spec = _NO_SPACE
        self._layout = Layout(_NO_SPACE, self.hidden)
        self._weights: Weights = self._layout.zero_weights()
        # Draws of the last proposal that were omitted or tried before.
        self._repeats = 0
        # The state of the generator before the last proposal, and the draws as they were then.
        self._before: tuple[Mapping[str, Any], int] | None = None
        self._memory: list[_Remembered] = []
        self._covered = 0
        self._arrived = 0
        # Trials to learn from, with their numbers in the order of arrival.
        self._queue: list[tuple[int, Observation]] = []
        # A saved state that waits for the space, which the next proposal passes.
        self._saved: dict[str, Any] = {}

    # ------------------------------------------------------------------ proposals

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        self._adapt(spec)
        self._learn_queued()
        if not spec.decisions:
            return random_proposal(spec, rng, tried)
        sampler = Sampler(self._weights, self._layout)
        state = rng.bit_generator.state
        if self._before is not None and self._before[0] == state:
            self._repeats = self._before[1]  # that proposal was taken back
        self._before = state, self._repeats
        self._repeats = max(0, self._repeats - _FEWER)
        heats = iter(1.0 + _HEAT * np.arange(self._repeats, _DRAWS))

        def draw() -> Proposal | None:
            for heat in heats:
                values = sampler.draw(rng, heat)
                if not tried(values):
                    return Proposal(values)
                self._repeats += 1
            return None

        proposal = self._failures.avoid(draw, spec, rng)
        return random_proposal(spec, rng, tried) if proposal is None else proposal

    def _adapt(self, spec: SearchSpec) -> None:
        """Rebuild what depends on the space, when it has grown or after a reload."""
        if spec is self._spec:
            return
        weights = self._saved["weights"] if self._saved else self._weights_by_decision()
        self._spec, self._layout = spec, Layout(spec, self.hidden)
        self._weights = _padded_weights(weights, self._layout)
        self._memory = [
            self._encoded(trial.arrival, trial.values, trial.score, trial.behaviour)
            for trial in self._memory
        ]
        if self._saved:
            self._restore_memory()

    def _encoded(
        self,
        arrival: int,
        values: Mapping[str, Any],
        score: float | None,
        behaviour: float = 0.0,
    ) -> _Remembered:
        """A trial with its encoding in the current space."""
        key, row = self._spec.key(self._spec.fill(values)), self._layout.encode(values)
        return _Remembered(arrival, values, score, key, row, behaviour)

    # ------------------------------------------------------------------ learning

    def learn(self, observation: Observation) -> None:
        """Queue a trial to learn from before the next proposal, which passes the space."""
        self._failures.learn(observation)
        self._queue.append((self._arrived, observation))
        self._arrived += 1

    def _learn_queued(self) -> None:
        """Learn from the queued trials in the order of arrival; a long queue is mixed first."""
        count = len(self._queue) // self._step * self._step
        ready, self._queue = self._queue[:count], self._queue[count:]
        self._covered += count
        if count > self.window:
            # Trials reported all at once are often sorted by score, but each window needs good
            # and bad ones.
            ready = ready[-(_BACKLOG // self._step * self._step) :]
            ready = [ready[index] for index in mixed_order(len(ready))]
        for start in range(0, len(ready), self._step):
            for arrival, observation in ready[start : start + self._step]:
                self._remember(arrival, observation)
            self._update()

    def _remember(self, arrival: int, observation: Observation) -> None:
        """Add a trial to the memory; only the latest result of a configuration counts."""
        trial = self._encoded(arrival, observation.values, _score_of(observation))
        same = [member for member in self._memory if member.key == trial.key]
        if any(member.arrival > arrival for member in same):
            return
        batch = make_batch(self._layout, [trial.row])
        trial.behaviour = float(self._log_probs(batch).sum())
        different = [member for member in self._memory if member.key != trial.key]
        self._memory = [*different, trial][-self.window :]

    def _log_probs(self, batch: Batch) -> np.ndarray:
        """Log-probability of each choice under the current policy, shape ``[K, B]``."""
        return choice_log_probs(log_policy(self._weights, self._layout, batch), batch)

    @abc.abstractmethod
    def _update(self) -> None:
        """Improve the policy; the last ``step`` trials in the memory are new."""

    def _batch(self) -> Batch:
        """The trials in the memory, oldest first."""
        return make_batch(self._layout, [trial.row for trial in self._memory])

    def _importance(self, log_probs: np.ndarray) -> np.ndarray:
        """Truncated importance weights of the trials: ``min(1, pi / pi_then)``.

        The truncation bounds their variance (Ionides 2008, "Truncated Importance Sampling").
        Without these weights, trials that the policy has moved away from would push it ever
        further.

        Args:
            log_probs: Shape ``[K, B]``, of the trials in the memory under the current policy.

        Returns:
            Shape ``[B]``.
        """
        behaviour = np.array([trial.behaviour for trial in self._memory])
        return np.exp(np.minimum(log_probs.sum(axis=0) - behaviour, 0.0))

    def _gradient_step(self, gradient: Weights, sign: float = 1.0) -> None:
        """One step along a gradient."""
        rates = {"context": _CONTEXT_RATE, "value_bias": _VALUE_RATE}
        rates["value"] = _VALUE_RATE * _CONTEXT_RATE
        for name, slope in gradient.items():
            rate = sign * self.learning_rate * rates.get(name, 1.0)
            self._weights[name] = self._weights[name] + rate * slope

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        """See `Strategy.get_state`; its size depends only on the space and the window."""
        if self._spec is _NO_SPACE:
            return self._saved
        return {
            "covered": self._covered,
            "repeats": self._repeats,
            "weights": self._weights_by_decision(),
            "memory": [[trial.arrival, trial.behaviour] for trial in self._memory],
        }

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._reset()
        self._saved = dict(state)
        super().set_state(state, history)

    def _restore_memory(self) -> None:
        """Restore the memory of a saved state from the history."""
        for arrival, behaviour in self._saved["memory"]:
            if arrival < len(self._queue):
                _, observation = self._queue[arrival]
                score = _score_of(observation)
                trial = self._encoded(arrival, observation.values, score, behaviour)
                self._memory.append(trial)
        self._covered = self._saved["covered"]
        self._repeats = self._saved.get("repeats", 0)
        del self._queue[: self._covered]
        self._saved = {}

    def _weights_by_decision(self) -> dict[str, dict[str, Any]]:
        """Weights by decision, as texts (see `_text_of`) and without padding."""
        weights = {}
        for index, head in enumerate(self._layout.heads):
            width = head.features.shape[1]
            if width:
                weights[head.key] = {
                    "bias": _text_of(self._weights["bias"][index, :width]),
                    "context": _text_of(self._weights["context"][index, :, :width]),
                    **self._value_head(index),
                }
        return weights

    def _value_head(self, index: int) -> dict[str, Any]:
        """Weights of a decision's value head; empty while it predicts 0."""
        bias, value = self._weights["value_bias"][index], self._weights["value"][index]
        if bias == 0.0 and not value.any():
            return {}
        return {"value_bias": float(bias), "value": _text_of(value)}


def _score_of(observation: Observation) -> float | None:
    return None if observation.scores is None else observation.scores[0]


def mixed_order(count: int) -> list[int]:
    """A permutation in which any few consecutive indices are spread over the range.

    The order of the fractional parts of multiples of the golden ratio (the additive recurrence
    of Weyl 1916, which is most even for this number).

    >>> mixed_order(8)
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    return np.argsort(np.arange(count) * ((5.0**0.5 - 1.0) / 2.0) % 1.0).tolist()


def _padded_weights(saved: Mapping[str, Mapping[str, Any]], layout: Layout) -> Weights:
    """Weights of a space as padded arrays; 0 for decisions that are not in ``saved``."""
    weights = layout.zero_weights()
    for index, head in enumerate(layout.heads):
        width = head.features.shape[1]
        own = saved.get(head.key, {})
        if own:
            shape = (layout.hidden, width)
            weights["bias"][index, :width] = _array_of(own["bias"], (width,))
            weights["context"][index, :, :width] = _array_of(own["context"], shape)
            weights["value_bias"][index] = own.get("value_bias", 0.0)
            if "value" in own:
                weights["value"][index] = _array_of(own["value"], (layout.hidden,))
    return weights


def _text_of(array: np.ndarray) -> str:
    """Numbers as a text: each trial saves all weights twice, and digits take milliseconds.

    >>> _text_of(np.array([0.5]))
    'AAAAAAAA4D8='
    """
    return base64.b64encode(array.astype("<f8").tobytes()).decode("ascii")


def _array_of(saved: str | Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a text from `_text_of`; older states have lists of numbers."""
    if isinstance(saved, str):
        return np.frombuffer(base64.b64decode(saved), "<f8").reshape(shape)
    return np.array(saved, float).reshape(shape)


def check_at_least(name: str, value: float, least: float) -> None:
    """Check the lower bound of an argument.

    Raises:
        StrategyError: The value is smaller, or NaN.
    """
    if not value >= least:
        raise StrategyError(f"`{name}` must be at least {least:g}; got {value}")

"""What REINFORCE and PPO share: a policy, the latest trials, and how both are kept."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.failures import FailureMemory
from keras_nas_plugin.strategies.policy import Layout, Sampler, Weights
from keras_nas_plugin.strategies.policy_gradient import (
    Batch,
    choice_log_probs,
    log_policy,
    make_batch,
)

# Draws from the policy before one from the space; each that is known heats the next.
_DRAWS = 32
_HEAT = 0.15
# Most trials that one proposal learns from: bounds what a long warm start costs.
_BACKLOG = 256
# Learning rates relative to those of the biases. Interactions need more trials to tell from
# noise than single values do; the value head only has to follow the mean.
_CONTEXT_RATE = 0.5
_VALUE_RATE = 0.1


@dataclasses.dataclass
class _Remembered:
    """A trial with its encoding.

    ``place`` is its number in the order of arrival, ``behaviour`` its log-probability when it
    was first learned from.
    """

    place: int
    values: Mapping[str, Any]
    score: float | None
    key: str = ""
    row: tuple[np.ndarray, np.ndarray] | None = None
    behaviour: float = 0.0


class PolicySearch(Strategy):
    """Samples an autoregressive policy, and improves it by gradients: see `policy`.

    Learning uses no random numbers and happens when the next proposal is asked for, one
    update for each ``step`` trials in the order of arrival, from the latest trials only: what
    a proposal costs does not grow with the search. The state holds the weights, how many
    observations they have learned from, and how likely the latest trials were when they
    arrived.

    Weights belong to a decision, not to its place: a decision found late starts at the space's
    own distribution and changes nothing else. Failed trials count as the worst of all, and
    what they had in common is refused now and then: see `failures`. Trials that run are
    never proposed again, and because each proposal is a draw, parallel ones differ.

    Args:
        learning_rate: Step along the gradient, above 0.
        entropy: Weight of the entropy bonus, at least 0.
        window: How many of the latest trials are learned from, at least 2.
        hidden: Units of the policy's fixed layer, at least 1.
        step: Trials for each update, at least 1.

    Raises:
        StrategyError: An argument is too small.
    """

    def __init__(
        self, *, learning_rate: float, entropy: float, window: int, hidden: int, step: int
    ) -> None:
        super().__init__()
        if not learning_rate > 0.0:
            raise StrategyError(f"`learning_rate` needs to be above 0; received {learning_rate}")
        check_at_least("entropy", entropy, 0.0)
        check_at_least("window", window, 2)
        check_at_least("hidden", hidden, 1)
        self.learning_rate = learning_rate
        self.entropy = entropy
        self.window = window
        self.hidden = hidden
        self._step = step
        self._forget()

    def _forget(self) -> None:
        self._failures = FailureMemory()
        self._spec: SearchSpec | None = None
        self._layout: Layout | None = None
        self._weights: Weights = {}
        self._memory: list[_Remembered] = []
        self._covered = 0
        self._arrived = 0
        # Numbers in the order of arrival, with the trials.
        self._untaken: list[tuple[int, Observation]] = []
        self._saved: dict[str, Any] = {}

    # ------------------------------------------------------------------ proposals

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """See `Strategy.ask`."""
        self._adapt(spec)
        self._catch_up()
        if not spec.decisions:
            return spec.untried(rng, tried)
        sampler = Sampler(self._weights, self._layout)
        heats = iter(1.0 + _HEAT * np.arange(_DRAWS))

        def draw() -> Values | None:
            for heat in heats:
                values = sampler.draw(rng, heat)
                if not tried(values):
                    return values
            return None

        proposal = self._failures.avoid(draw, spec, rng)
        return spec.untried(rng, tried) if proposal is None else proposal

    def _adapt(self, spec: SearchSpec) -> None:
        """Rebuild what depends on the space, when it grew or after a reload."""
        if spec is self._spec:
            return
        kept = self._saved.get("weights", {}) if self._layout is None else self._kept_weights()
        self._spec, self._layout = spec, Layout(spec, self.hidden)
        self._weights = _unpacked(kept, self._layout)
        for one in self._memory:
            self._place(one)
        if self._saved:
            self._recall()

    def _place(self, one: _Remembered) -> None:
        """Encode a trial for the space as it is now."""
        one.key = self._spec.key(self._spec.fill(one.values))
        one.row = self._layout.encode(one.values)

    # ------------------------------------------------------------------ learning

    def learn(self, observation: Observation) -> None:
        """Queue a trial; the next proposal learns from it, because it knows the space."""
        self._failures.learn(observation)
        self._untaken.append((self._arrived, observation))
        self._arrived += 1

    def _catch_up(self) -> None:
        """Learn from what arrived, in the order of arrival or, of a warm start, mixed."""
        whole = len(self._untaken) // self._step * self._step
        ready, self._untaken = self._untaken[:whole], self._untaken[whole:]
        self._covered += whole
        if whole > self.window:
            # Told all at once, often sorted by score: each window needs good and bad ones.
            ready = ready[-(_BACKLOG // self._step * self._step) :]
            ready = [ready[index] for index in mixed_order(len(ready))]
        for start in range(0, len(ready), self._step):
            for place, observation in ready[start : start + self._step]:
                self._remember(place, observation)
            self._update()

    def _remember(self, place: int, observation: Observation) -> None:
        """Add a trial to the latest; of a configuration the latest result counts."""
        one = self._encoded(place, observation)
        if any(other.key == one.key and other.place > place for other in self._memory):
            return
        batch = make_batch(self._layout, [one.row])
        one.behaviour = float(self._log_probs(batch).sum())
        others = [other for other in self._memory if other.key != one.key]
        self._memory = [*others, one][-self.window :]

    def _encoded(self, place: int, observation: Observation) -> _Remembered:
        score = None if observation.scores is None else observation.scores[0]
        one = _Remembered(place, observation.values, score)
        self._place(one)
        return one

    def _log_probs(self, batch: Batch) -> np.ndarray:
        """Log-probability of each choice under the policy as it is, shape ``[K, B]``."""
        return choice_log_probs(log_policy(self._weights, self._layout, batch), batch)

    @abc.abstractmethod
    def _update(self) -> None:
        """Improve the policy; the last ``step`` remembered trials are new."""

    def _batch(self) -> Batch:
        """The latest trials, oldest first."""
        return make_batch(self._layout, [one.row for one in self._memory])

    def _importance(self, log_probs: np.ndarray) -> np.ndarray:
        """How much each trial still tells about this policy: ``min(1, pi / pi_then)``.

        Truncated importance weights keep the variance bounded (Ionides 2008, "Truncated
        Importance Sampling"). They keep trials that the policy has turned away from, from
        pushing it further and further.

        Args:
            log_probs: Shape ``[K, B]``, of the latest trials under the policy as it is.

        Returns:
            Shape ``[B]``.
        """
        then = np.array([one.behaviour for one in self._memory])
        return np.exp(np.minimum(log_probs.sum(axis=0) - then, 0.0))

    def _climb(self, gradient: Weights, sign: float = 1.0) -> None:
        """One step along a gradient."""
        rates = {"context": _CONTEXT_RATE, "value_bias": _VALUE_RATE}
        rates["value"] = _VALUE_RATE * _CONTEXT_RATE
        for name, slope in gradient.items():
            rate = sign * self.learning_rate * rates.get(name, 1.0)
            self._weights[name] = self._weights[name] + rate * slope

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        """See `Strategy.get_state`; its size depends on the space and the window alone."""
        if self._layout is None:
            return self._saved
        return {
            "covered": self._covered,
            "weights": self._kept_weights(),
            "memory": [[one.place, one.behaviour] for one in self._memory],
        }

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._forget()
        self._saved = dict(state)
        super().set_state(state, history)

    def _recall(self) -> None:
        """Put the trials that a saved state covers back into the memory."""
        known = [pair for pair in self._saved["memory"] if pair[0] < len(self._untaken)]
        for place, behaviour in known:
            one = self._encoded(*self._untaken[place])
            one.behaviour = behaviour
            self._memory.append(one)
        self._covered = self._saved["covered"]
        del self._untaken[: self._covered]
        self._saved = {}

    def _kept_weights(self) -> dict[str, dict[str, Any]]:
        """Weights by decision, as plain numbers and without padding."""
        kept = {}
        for index, head in enumerate(self._layout.heads):
            width = head.features.shape[1]
            if width:
                kept[head.key] = {
                    "bias": self._weights["bias"][index, :width].tolist(),
                    "context": self._weights["context"][index, :, :width].tolist(),
                    **self._kept_values(index),
                }
        return kept

    def _kept_values(self, index: int) -> dict[str, Any]:
        """Weights of a decision's value head; nothing while it predicts 0."""
        bias, value = self._weights["value_bias"][index], self._weights["value"][index]
        if bias == 0.0 and not value.any():
            return {}
        return {"value_bias": float(bias), "value": value.tolist()}


def mixed_order(count: int) -> list[int]:
    """An order in which any few in a row are spread over the whole range.

    That of the fractional parts of multiples of the golden ratio (the additive recurrence of
    Weyl 1916, whose points are the most even with this number).

    >>> mixed_order(8)
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    return np.argsort(np.arange(count) * ((5.0**0.5 - 1.0) / 2.0) % 1.0).tolist()


def _unpacked(kept: Mapping[str, Mapping[str, Any]], layout: Layout) -> Weights:
    """Weights of a space; those of decisions that ``kept`` lacks are 0."""
    weights = layout.zero_weights()
    for index, head in enumerate(layout.heads):
        width = head.features.shape[1]
        own = kept.get(head.key, {})
        if own:
            weights["bias"][index, :width] = own["bias"]
            weights["context"][index, :, :width] = own["context"]
            weights["value_bias"][index] = own.get("value_bias", 0.0)
            weights["value"][index] = own.get("value", 0.0)
    return weights


def check_at_least(name: str, value: float, least: float) -> None:
    """Refuse an argument that is too small.

    Raises:
        StrategyError: It is, or it is not a number.
    """
    if not value >= least:
        raise StrategyError(f"`{name}` needs at least {least:g}; received {value}")

"""Local search: change one decision of the best configuration, again and again."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.failures import FailureMemory
from keras_nas_plugin.strategies.neighbourhood import Edit, Neighbourhoods, Running

IMPROVEMENTS = ("first", "best")

# Ranks that a configuration loses for each of its neighbours that was tried: after two of
# them the second best has its turn. It keeps a lucky score from using up a whole search.
_PATIENCE = 0.5


def default_initial_samples(max_trials: int | None) -> int:
    """Random configurations before the first step: ten, as White et al., or a quarter.

    >>> default_initial_samples(100), default_initial_samples(20), default_initial_samples(3)
    (10, 5, 1)
    """
    return 10 if max_trials is None else min(10, max(1, max_trials // 4))


class _Ranking:
    """Keys by score, the best first; equal scores in the order of arrival."""

    def __init__(self) -> None:
        self._sorted: list[tuple[float, int, str]] = []
        self._entries: dict[str, tuple[float, int, str]] = {}
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return (key for _, _, key in self._sorted)

    def put(self, key: str, score: float | None) -> None:
        """Rank a key by its latest score; without one, it is not ranked."""
        if key in self._entries:
            del self._sorted[bisect.bisect_left(self._sorted, self._entries.pop(key))]
        if score is not None:
            self._arrived += 1
            self._entries[key] = -score, self._arrived, key
            bisect.insort(self._sorted, self._entries[key])


class LocalSearch(Strategy):
    """Local search that goes on from the most promising configuration seen.

    Starts from random configurations and tries those that differ from the current one in
    one active decision, in random order. With ``improvement="first"`` it moves at the
    first better one, with ``"best"`` when all were tried. A local optimum does not end
    it: it goes on from the best configuration that still has untried neighbours.

    Scores of trained models are noisy, and the best of many is often a lucky one. So a
    configuration is judged by its rank among all, and loses a rank for every two
    neighbours that were tried: in a large neighbourhood, the second best has its turn
    before the best is done. Along long and continuous decisions, where neighbours have no
    end, a step leads between the current value and the nearest tried one on that side,
    until these lie close together. What failed trials have in common is proposed less
    often: see `failures`.

    Source: White, Nolen & Savani 2021, "Exploring the Loss Landscape in Neural
    Architecture Search" (ten random ones first, first improvement or all neighbours, and
    in their code also without a stop at a local optimum); Den Ottelander et al. 2021,
    "Local Search is a Remarkably Strong Baseline for Neural Architecture Search".

    Args:
        initial_samples: Random configurations to start from, at least 1.
        improvement: ``"first"`` or ``"best"``.

    Raises:
        StrategyError: An argument is none of these.
    """

    def __init__(self, *, initial_samples: int = 10, improvement: str = "first") -> None:
        super().__init__()
        if initial_samples < 1:
            raise StrategyError(f"`initial_samples` needs at least 1; received {initial_samples}")
        if improvement not in IMPROVEMENTS:
            raise StrategyError(
                f"`improvement` needs one of {IMPROVEMENTS}; received {improvement!r}"
            )
        self.initial_samples = initial_samples
        self.improvement = improvement
        self._failures = FailureMemory()
        self._forget()

    def _forget(self) -> None:
        self._observations: list[Observation] = []
        self._failures.clear()
        self._index: Neighbourhoods | None = None
        self._ranking = _Ranking()
        self._indexed = 0
        # The trial that was the latest of a configuration, by key.
        self._ids: dict[str, str] = {}
        # Configurations without an untried neighbour: only the time to look again is saved.
        self._exhausted: set[str] = set()
        # The configuration whose neighbours are all tried, and how many that are.
        self._current: Values | None = None
        self._until = 0

    def learn(self, observation: Observation) -> None:
        """Kept until the next proposal, which knows the space."""
        self._observations.append(observation)
        self._failures.learn(observation)

    def _index_new(self, spec: SearchSpec) -> None:
        """Sort in what was learned since the last proposal; everything when the space grew."""
        if self._index is None or self._index.spec != spec:
            self._index, self._indexed = Neighbourhoods(spec), 0
            self._ranking, self._exhausted, self._ids = _Ranking(), set(), {}
        for observation in self._observations[self._indexed :]:
            values = spec.fill(observation.values)
            key = spec.key(values)
            self._index.add(key, values)
            self._ids[key] = observation.trial_id
            score = None if observation.scores is None else observation.scores[0]
            self._ranking.put(key, score)
        self._indexed = len(self._observations)

    def ask(
        self,
        spec: SearchSpec,
        rng: np.random.Generator,
        *,
        tried: Tried,
        pending: Mapping[str, Values],
    ) -> Values | None:
        """See `Strategy.ask`."""
        self._index_new(spec)
        self.parents, values = (), None
        if not self._starts(len(pending)):
            running = self._index.running(pending.values())
            values = self._step(running, rng, tried)
        if values is None:
            values = self._failures.avoid(lambda: spec.untried(rng, tried), spec, rng)
        return values

    def _starts(self, pending: int) -> bool:
        """Whether random configurations are still to be tried.

        Those that run or failed count, but half of them must have a score.
        """
        if 2 * len(self._ranking) < self.initial_samples:
            return True
        return len(self._observations) + pending < self.initial_samples

    def _step(self, running: Running, rng: np.random.Generator, tried: Tried) -> Values | None:
        """An untried neighbour of the first configuration that has one."""
        for key in self._centres(running):
            edits = self._index.edits(key, running, tried)
            if edits:
                self._move(key, len(edits) + self._index.tried_around(key, running))
                values = self._neighbour(key, edits, rng, tried)
                if values is not None:
                    self.parents = (self._ids[key],)
                    return values
            elif not (running and self._index.edits(key, {}, tried)):
                self._exhausted.add(key)
        return None

    def _neighbour(
        self, key: str, edits: Sequence[Edit], rng: np.random.Generator, tried: Tried
    ) -> Values | None:
        """A configuration after one of ``edits``; None when all that were drawn are known."""
        order = iter(rng.permutation(len(edits)))

        def draw() -> Values | None:
            drawn = (self._index.edited(key, edits[number], rng) for number in order)
            return next((values for values in drawn if not tried(values)), None)

        return self._failures.avoid(draw, self._index.spec, rng)

    def _centres(self, running: Running) -> Iterator[str]:
        """Configurations with untried neighbours, the most promising first."""
        if self._current is not None:
            key = self._index.spec.key(self._index.spec.fill(self._current))
            known = key in self._ranking and key not in self._exhausted
            if known and self._index.tried_around(key, running) < self._until:
                yield key
            self._current = None
        waiting: list[tuple[float, int, str]] = []
        for rank, key in enumerate(self._ranking):
            if key in self._exhausted:
                continue
            # Nothing that comes later can be better than its rank.
            while waiting and waiting[0][0] <= rank:
                yield heapq.heappop(waiting)[2]
            lost = _PATIENCE * self._index.tried_around(key, running)
            heapq.heappush(waiting, (rank + lost, rank, key))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _move(self, key: str, until: int) -> None:
        """Make a configuration the current one, if neighbours are tried to the end."""
        if self.improvement == "best" and self._current is None:
            self._current, self._until = self._index.values(key), until

    def get_state(self) -> dict[str, Any]:
        """See `Strategy.get_state`: the current configuration, where it is kept."""
        if self._current is None:
            return {}
        return {"current": dict(self._current), "until": self._until}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._forget()
        super().set_state(state, history)
        if "current" in state:
            self._current, self._until = dict(state["current"]), int(state["until"])

"""Local search: repeatedly change one decision of the best configuration."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from keras_nas_plugin.strategies.neighbourhood import Edit, Neighbourhoods, Running

IMPROVEMENTS = ("first", "best")

# Ranks that a configuration loses per tried neighbour: after two neighbours of the best, it is the
# turn of the second best. This keeps a lucky score from consuming a whole search.
_PATIENCE = 0.5


def default_initial_samples(max_trials: int | None) -> int:
    """Number of random configurations before the first step.

    Ten as in White et al., but at most a quarter of the trials.

    >>> default_initial_samples(100), default_initial_samples(20), default_initial_samples(3)
    (10, 5, 1)
    """
    return 10 if max_trials is None else min(10, max(1, max_trials // 4))


class _Ranking:
    """Keys in descending order of their scores; ties in the order of arrival."""

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
        """Rank a key by its latest score; a key without a score is not ranked."""
        if key in self._entries:
            del self._sorted[bisect.bisect_left(self._sorted, self._entries.pop(key))]
        if score is not None:
            self._arrived += 1
            self._entries[key] = -score, self._arrived, key
            bisect.insort(self._sorted, self._entries[key])


class LocalSearch(Strategy):
    """Local search that continues from the most promising configuration so far.

    It starts from random configurations and tries those that differ from the current one in
    one active decision, in random order. With ``improvement="first"`` it moves to the first
    improvement, with ``"best"`` to the best neighbour once all have been tried. It does not
    stop at a local optimum: it continues from the best configuration that still has untried
    neighbours.

    Scores of trained models are noisy, and the best of many is often a lucky one. A
    configuration is therefore judged by its rank among all, and loses a rank for every two
    neighbours that were tried: in a large neighbourhood, it is the turn of the second best
    before the neighbours of the best are exhausted. Long and continuous decisions have too
    many neighbours to try all; there, a step leads to a value between the current one and the
    nearest tried one on that side, until these are close together. What failed trials have in
    common is proposed less often: see `failures`.

    Source: White, Nolen & Savani 2021, "Exploring the Loss Landscape in Neural
    Architecture Search" (ten random configurations first, first improvement or all neighbours,
    and in their code also without stopping at a local optimum); Den Ottelander et al. 2021,
    "Local Search is a Remarkably Strong Baseline for Neural Architecture Search".

    Args:
        initial_samples: Number of random configurations to start from, at least 1.
        improvement: ``"first"`` or ``"best"``.

    Raises:
        StrategyError: An argument is out of range.
    """

    adjustable = frozenset({"initial_samples"})
    opening_trials = MOST_OPENING_TRIALS

    def __init__(self, *, initial_samples: int = 10, improvement: str = "first") -> None:
        super().__init__()
        if initial_samples < 1:
            raise StrategyError(f"`initial_samples` must be at least 1; got {initial_samples}")
        if improvement not in IMPROVEMENTS:
            raise StrategyError(
                f"`improvement` must be one of {IMPROVEMENTS}; got {improvement!r}"
            )
        self.initial_samples = initial_samples
        self.improvement = improvement
        self._failures = FailureMemory()
        self._reset()

    @classmethod
    def budget_defaults(
        cls, max_trials: int | None, explicit: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Strategy.budget_defaults` and `default_initial_samples`."""
        return {"initial_samples": default_initial_samples(max_trials)}

    def _reset(self) -> None:
        self._observations: list[Observation] = []
        self._failures.clear()
        # For an empty space until the first proposal, which passes the actual one.
        self._index = Neighbourhoods(SearchSpec(()))
        self._ranking = _Ranking()
        self._indexed = 0
        # Id of the latest trial of each configuration, by key.
        self._ids: dict[str, str] = {}
        # Configurations without untried neighbours: a cache, so that they are examined only once.
        self._exhausted: set[str] = set()
        # Configurations whose untried neighbours are all running, with `changes_around` them.
        self._waiting: dict[str, int] = {}
        # With "best": the configuration whose neighbours are being tried, and their number.
        self._current: Values | None = None
        self._until = 0

    def learn(self, observation: Observation) -> None:
        """Store the trial until the next proposal, which passes the space."""
        self._observations.append(observation)
        self._failures.learn(observation)

    def _index_new(self, spec: SearchSpec) -> None:
        """Index the trials since the last proposal; all trials when the space has grown."""
        if self._index.spec != spec:
            self._index, self._indexed = Neighbourhoods(spec), 0
            self._ranking, self._exhausted, self._ids = _Ranking(), set(), {}
            self._waiting = {}
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
    ) -> Proposal | None:
        """See `Strategy.ask`."""
        self._index_new(spec)
        proposal = None
        if not self._starts(len(pending)):
            running = self._index.running(pending)
            proposal = self._step(running, rng, tried)
        if proposal is None:
            proposal = self._failures.avoid(lambda: random_proposal(spec, rng, tried), spec, rng)
        return proposal

    def _starts(self, pending: int) -> bool:
        """Whether the next proposal is a random configuration.

        Running and failed trials count as initial samples, but at least half of the initial
        samples must have a score.
        """
        if 2 * len(self._ranking) < self.initial_samples:
            return True
        return len(self._observations) + pending < self.initial_samples

    def _step(self, running: Running, rng: np.random.Generator, tried: Tried) -> Proposal | None:
        """An untried neighbour of the most promising configuration that has one."""
        for key in self._centres(running):
            changes = self._index.changes_around(key)
            if self._waiting.get(key) == changes:
                continue
            edits = self._index.edits(key, running, tried)
            if edits:
                self._move(key, len(edits) + self._index.tried_around(key, running))
                neighbour = self._neighbour(key, edits, rng, tried)
                if neighbour is not None:
                    return neighbour
            elif not (running and self._index.edits(key, {}, tried)):
                self._exhausted.add(key)
            else:
                self._waiting[key] = changes
        return None

    def _neighbour(
        self, key: str, edits: Sequence[Edit], rng: np.random.Generator, tried: Tried
    ) -> Proposal | None:
        """A neighbour by one of ``edits``; None when all neighbours drawn were tried before."""
        order, parents = iter(rng.permutation(len(edits))), (self._ids[key],)

        def draw() -> Proposal | None:
            drawn = (self._index.edited(key, edits[number], rng) for number in order)
            return next((Proposal(values, parents) for values in drawn if not tried(values)), None)

        return self._failures.avoid(draw, self._index.spec, rng)

    def _centres(self, running: Running) -> Iterator[str]:
        """Configurations with untried neighbours, the most promising first."""
        if self._current is not None:
            key = self._index.spec.key(self._index.spec.fill(self._current))
            unfinished = key in self._ranking and key not in self._exhausted
            if unfinished and self._index.tried_around(key, running) < self._until:
                yield key
            self._current = None
        waiting: list[tuple[float, int, str]] = []
        for rank, key in enumerate(self._ranking):
            if key in self._exhausted:
                continue
            # All that follow have at least this rank, and can only lose further ranks.
            while waiting and waiting[0][0] <= rank:
                yield heapq.heappop(waiting)[2]
            lost = _PATIENCE * self._index.tried_around(key, running)
            heapq.heappush(waiting, (rank + lost, rank, key))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _move(self, key: str, until: int) -> None:
        """Make a configuration the current one, if all its neighbours are to be tried."""
        if self.improvement == "best" and self._current is None:
            self._current, self._until = self._index.values(key), until

    def get_state(self) -> dict[str, Any]:
        """See `Strategy.get_state`: the current configuration, with ``improvement="best"``."""
        if self._current is None:
            return {}
        return {"current": dict(self._current), "until": self._until}

    def set_state(self, state: Mapping[str, Any], history: Iterable[Observation]) -> None:
        """See `Strategy.set_state`."""
        self._reset()
        super().set_state(state, history)
        if "current" in state:
            self._current, self._until = dict(state["current"]), int(state["until"])

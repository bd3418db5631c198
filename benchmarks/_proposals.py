"""Proposal time of an oracle after few and after many finished trials."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks import _peers
from benchmarks._tables import Oven, Table
from keras_nas_plugin.strategies.base import random_proposal

#: Numbers of finished trials at which proposals are timed.
COUNTS = (100, 300, 3000)
# Number of proposals to time at each count; the median is reported.
_TIMED = 15
# Seconds per proposal above which random trials replace the proposals after the first count.
_PATIENCE = 0.02


def seconds_per_proposal(name: str, table: Table, counts: tuple[int, ...] = COUNTS) -> dict:
    """Median seconds of `create_trial` at each number of finished trials.

    The search proposes the trials in between. If this would take too long, they are random
    and are reported to the oracle like its own trials, because the time of a proposal depends
    on the number of trials.

    Args:
        name: One of `_peers.ours`.
        table: Any table.
        counts: Numbers of finished trials.

    Returns:
        Seconds by number of trials (as a string), and ``own``: the number of trials that the
        search itself proposed.
    """
    search = _peers.make(name, table, max(counts) + _TIMED, 0)
    oven, rng = Oven(table, 0), np.random.default_rng(0)
    times: list[float] = []
    result: dict[str, Any] = {}
    filled = 0
    for count in counts:
        while len(times) < count:
            random = bool(result) and statistics.median(times[-_TIMED:]) > _PATIENCE
            random = random or filled > 0
            filled += random
            times.append(_step(search, table, oven, rng if random else None))
        times += [_step(search, table, oven, None) for _ in range(_TIMED)]
        result[str(count)] = statistics.median(times[-_TIMED:])
    return {**result, "own": len(times) - filled}


def _step(search: Any, table: Table, oven: Oven, rng: np.random.Generator | None) -> float:
    """Run a trial (random if ``rng`` is not None) and return the seconds of its proposal."""
    strategy = search.oracle.strategy
    if rng is not None:
        # An instance attribute shadows the method until it is deleted.
        strategy.ask = lambda spec, _, *, tried, pending: random_proposal(spec, rng, tried)
    before = time.perf_counter()
    values = search.ask()
    taken = time.perf_counter() - before
    if rng is not None:
        del strategy.ask
    search.tell({table.metric: oven.train(table.row(values))})
    return taken

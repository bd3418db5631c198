"""How long an oracle takes to propose, with few and with many finished trials."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from benchmarks import _peers
from benchmarks._tables import Oven, Table

#: Numbers of finished trials at which proposals are timed.
COUNTS = (100, 300, 3000)
# Proposals that are timed at each; their median counts.
_TIMED = 15
# A search that is slower than this at the first count is filled up with random trials.
_PATIENCE = 0.02


def seconds_per_proposal(name: str, table: Table, counts: tuple[int, ...] = COUNTS) -> dict:
    """Median seconds of `create_trial` at each number of finished trials.

    The trials before are the search's own. Where those would take too long, they are random
    ones that the oracle is told of as of its own: what a proposal costs depends on their
    number.

    Args:
        name: One of `_peers.ours`.
        table: Any.
        counts: Numbers of finished trials.

    Returns:
        By number of trials, as text, the seconds; and ``own``: how many trials before the
        last measurement were the search's own.
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
    """One trial; with a generator, a random one in place of the search's own."""
    strategy = search.oracle.strategy
    if rng is not None:
        # An attribute of the instance hides the method until it is deleted again.
        strategy.ask = lambda spec, _, *, tried, pending: spec.untried(rng, tried)
    before = time.perf_counter()
    values = search.ask()
    taken = time.perf_counter() - before
    if rng is not None:
        del strategy.ask
    search.tell({table.metric: oven.train(table.row(values))})
    return taken

"""Names of what a model costs, as metrics, objectives and constraints have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PARAMETERS = "parameters"
FLOPS = "flops"
PEAK_MEMORY = "peak_memory_bytes"
LATENCY = "latency_ms"
LATENCY_P95 = "latency_p95_ms"
ENERGY = "energy_mj"
ENERGY_ESTIMATE = "energy_estimate_mj"

#: Read off the model: every trial has them, and they are checked first.
ANALYTIC = (PARAMETERS, FLOPS, PEAK_MEMORY)
#: Take time, or are of use to few: a trial has those that were asked for.
ON_REQUEST = (LATENCY, LATENCY_P95, ENERGY, ENERGY_ESTIMATE)
COSTS = frozenset((*ANALYTIC, *ON_REQUEST))

_ALIASES = {
    "params": PARAMETERS,
    "macs": FLOPS,
    "memory": PEAK_MEMORY,
    "peak_memory": PEAK_MEMORY,
    "latency": LATENCY,
    "energy": ENERGY,
}


def canonical(name: str) -> str:
    """The metric behind a short name; any other name is its own.

    >>> canonical("params"), canonical("flops"), canonical("val_loss")
    ('parameters', 'flops', 'val_loss')
    """
    return _ALIASES.get(name, name)


def lookup(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric by its own name, else by the one that a short name stands for; None without.

    What training itself reports as ``"params"`` is what a limit on ``"params"`` is about.

    >>> lookup({"parameters": 10.0}, "params"), lookup({"loss": 1.0}, "params")
    (10.0, None)
    """
    return metrics.get(name, metrics.get(canonical(name)))


def costs_among(names: Iterable[str]) -> tuple[str, ...]:
    """Those of several names that are costs, canonical and each once, cheapest to find first.

    >>> costs_among(["latency", "val_loss", "params"])
    ('parameters', 'latency_ms')
    """
    wanted = {canonical(name) for name in names}
    return tuple(name for name in (*ANALYTIC, *ON_REQUEST) if name in wanted)

"""Names of the costs of a model, as used for metrics, objectives and constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PARAMETERS = "parameters"
FLOPS = "flops"
PEAK_MEMORY = "peak_memory_bytes"
LATENCY = "latency_ms"
LATENCY_P95 = "latency_p95_ms"
ENERGY = "energy_mj"
ENERGY_ESTIMATE = "energy_estimate_mj"

#: Derived from the model without running it: every trial reports them, and they are checked first.
ANALYTIC = (PARAMETERS, FLOPS, PEAK_MEMORY)
#: Slow to measure, or of interest to few users: a trial reports only those that were requested.
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
    """The metric that a short name stands for; any other name is returned unchanged.

    >>> canonical("params"), canonical("flops"), canonical("val_loss")
    ('parameters', 'flops', 'val_loss')
    """
    return _ALIASES.get(name, name)


def lookup(metrics: Mapping[str, float], name: str) -> float | None:
    """A metric by this name, or else by the full name of the cost; None if there is neither.

    If training itself reports ``"params"``, a constraint on ``"params"`` refers to that metric.

    >>> lookup({"parameters": 10.0}, "params"), lookup({"loss": 1.0}, "params")
    (10.0, None)
    """
    return metrics.get(name, metrics.get(canonical(name)))


def costs_among(names: Iterable[str]) -> tuple[str, ...]:
    """The costs among these names: full names without duplicates, cheapest to determine first.

    >>> costs_among(["latency", "val_loss", "params"])
    ('parameters', 'latency_ms')
    """
    requested = {canonical(name) for name in names}
    return tuple(cost for cost in (*ANALYTIC, *ON_REQUEST) if cost in requested)

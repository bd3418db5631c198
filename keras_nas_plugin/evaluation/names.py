"""Names of the costs of a model, as used for metrics, objectives and constraints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

PARAMETERS = "parameters"
FLOPS = "flops"
PEAK_MEMORY = "peak_memory_bytes"
LATENCY = "latency_ms"
LATENCY_P95 = "latency_p95_ms"
ENERGY = "energy_mj"
ENERGY_ESTIMATE = "energy_estimate_mj"
DEVICE_LATENCY = "device_latency_ms"

#: Derived from the model without running it: every trial reports them, and they are checked first.
ANALYTIC = (PARAMETERS, FLOPS, PEAK_MEMORY)
#: Slow to measure, or of interest to few users: a trial reports only those that were requested.
ON_REQUEST = (LATENCY, LATENCY_P95, ENERGY, ENERGY_ESTIMATE, DEVICE_LATENCY)

#: Formats that models are exported to, with the quantizations of each; None for none.
EXPORT_FORMATS: dict[str, tuple[str | None, ...]] = {
    "savedmodel": (None,),
    "litert": (None, "int8", "float16", "dynamic"),
    "onnx": (None, "int8", "float16", "dynamic"),
    "openvino": (None, "float16"),
}
EXPORTABLE, BYTES, ACCURACY, MSE = "exportable", "bytes", "accuracy", "mse"
_QUANTITIES = (EXPORTABLE, BYTES, LATENCY, LATENCY_P95, ACCURACY, MSE)
_LARGER_IS_BETTER = (EXPORTABLE, ACCURACY)


@dataclasses.dataclass(frozen=True)
class ExportedCost:
    """A property of a model after its conversion to another format.

    Attributes:
        format: A key of `EXPORT_FORMATS`.
        quantize: One of its quantizations, or None.
        quantity: ``"exportable"`` (1 or 0), ``"bytes"`` of its files, ``"latency_ms"`` and
            ``"latency_p95_ms"`` in its runtime on one thread, or ``"accuracy"`` or ``"mse"`` of
            its predictions on the validation data.
    """

    format: str
    quantize: str | None
    quantity: str

    @property
    def name(self) -> str:
        """The name of the cost.

        >>> ExportedCost("litert", "int8", "bytes").name
        'litert_int8_bytes'
        """
        return "_".join(part for part in (self.format, self.quantize, self.quantity) if part)

    @property
    def needs_training(self) -> bool:
        """Whether only a trained model has it."""
        return self.quantity in (ACCURACY, MSE)


#: Every property of an exported model by its name, such as ``"litert_int8_bytes"``.
EXPORTED: dict[str, ExportedCost] = {
    cost.name: cost
    for cost in (
        ExportedCost(format_name, quantize, quantity)
        for quantity in _QUANTITIES
        for format_name, quantizations in EXPORT_FORMATS.items()
        for quantize in quantizations
    )
}
COSTS = frozenset((*ANALYTIC, *ON_REQUEST, *EXPORTED))

_ALIASES = {
    "params": PARAMETERS,
    "macs": FLOPS,
    "memory": PEAK_MEMORY,
    "peak_memory": PEAK_MEMORY,
    "latency": LATENCY,
    "energy": ENERGY,
    "device_latency": DEVICE_LATENCY,
} | {name.removesuffix("_ms"): name for name, cost in EXPORTED.items() if name.endswith("_ms")}


def canonical(name: str) -> str:
    """The metric that a short name stands for; any other name is returned unchanged.

    >>> canonical("params"), canonical("litert_int8_latency"), canonical("val_loss")
    ('parameters', 'litert_int8_latency_ms', 'val_loss')
    """
    return _ALIASES.get(name, name)


def direction_of(cost: str) -> str:
    """Whether larger (``"max"``) or smaller (``"min"``) values of a cost are better.

    >>> direction_of("parameters"), direction_of("litert_int8_accuracy")
    ('min', 'max')
    """
    exported = EXPORTED.get(canonical(cost))
    return "max" if exported is not None and exported.quantity in _LARGER_IS_BETTER else "min"


def is_checked_before_training(name: str) -> bool:
    """Whether a name is that of a cost that a model has before it is trained.

    >>> [is_checked_before_training(name) for name in ("params", "litert_accuracy", "val_loss")]
    [True, False, False]
    """
    name = canonical(name)
    return name in COSTS and not (name in EXPORTED and EXPORTED[name].needs_training)


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
    return tuple(cost for cost in (*ANALYTIC, *ON_REQUEST, *EXPORTED) if cost in requested)

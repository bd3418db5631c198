"""Costs of a model by name: those that are derived from it, and those that are measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import energy, names
from keras_nas_plugin.evaluation.flops import CostWarning, count_flops, count_parameters
from keras_nas_plugin.evaluation.latency import measure_latency
from keras_nas_plugin.evaluation.memory import peak_activation_memory

if TYPE_CHECKING:
    import keras


def analytic_costs(
    model: keras.Model,
    requested: Collection[str] = names.ANALYTIC,
    *,
    needed: Collection[str] = (),
    report: Callable[[str, Exception], None] | None = None,
) -> dict[str, float]:
    """Costs that are derived from a model without running it.

    Args:
        model: A built model.
        requested: Names among `names.ANALYTIC` and ``energy_estimate_mj``.
        needed: Names of costs that must not be missing.
        report: Called with what is missing and the error; None for a `CostWarning`.

    Returns:
        Costs by name. A cost that cannot be determined is missing, whatever the error was.

    Raises:
        CostError: One of ``needed`` cannot be determined.
        Exception: Determining one of ``needed`` raised another error.
    """
    counters: dict[str, Callable[[keras.Model], float]] = {
        names.PARAMETERS: count_parameters,
        names.FLOPS: count_flops,
        names.PEAK_MEMORY: peak_activation_memory,
        names.ENERGY_ESTIMATE: energy.estimate_energy,
    }
    costs = {}
    for name in names.costs_among(requested):
        if name not in counters:
            continue
        try:
            costs[name] = float(counters[name](model))
        except Exception as error:
            if name in needed:
                raise
            if report is not None:
                report(f"`{name}` is left out", error)
                continue
            text = str(error).replace(repr(model.name), type(model).__name__)
            if not isinstance(error, CostError):
                text = f"{type(error).__name__}: {text}"
            warnings.warn(f"`{name}` is left out: {text}", CostWarning, stacklevel=2)
    return costs


def measured_costs(model: keras.Model, requested: Iterable[str]) -> dict[str, float]:
    """Costs that are measured by running the model, with a batch of one.

    Args:
        model: A built model.
        requested: Names among ``latency_ms``, ``latency_p95_ms`` and ``energy_mj``.

    Raises:
        CostError: Energy is requested, and the machine has no readable meter.
    """
    requested, costs = set(requested), {}
    if requested & {names.LATENCY, names.LATENCY_P95}:
        latency = measure_latency(model)
        costs = {names.LATENCY: latency.p50_ms, names.LATENCY_P95: latency.p95_ms}
    if names.ENERGY in requested:
        costs[names.ENERGY] = energy.measure_energy(model, required_meter())
    return costs


def required_meter() -> energy.Meter:
    """The energy meter of this machine.

    Raises:
        CostError: It has none.
    """
    meter = energy.find_meter()
    if meter is None:
        raise CostError(
            f"`{names.ENERGY}` must be measured on a machine with an energy meter (readable RAPL "
            "counters in /sys/class/powercap, or an NVIDIA GPU and the package nvidia-ml-py); got "
            f"neither. `{names.ENERGY_ESTIMATE}` is an estimate that requires no meter."
        )
    return meter

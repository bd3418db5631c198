"""All costs of a model by name, those that are read off it first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import energy, names
from keras_nas_plugin.evaluation.flops import CostWarning, count_flops, count_parameters
from keras_nas_plugin.evaluation.latency import measure_latency
from keras_nas_plugin.evaluation.memory import peak_activation_memory


def analytic_costs(
    model: Any, wanted: Collection[str] = names.ANALYTIC, *, needed: Collection[str] = ()
) -> dict[str, float]:
    """Costs that are read off a model, without running it.

    Args:
        model: A built `keras.Model`.
        wanted: Names among `names.ANALYTIC` and ``energy_estimate_mj``.
        needed: Those that must not be missing.

    Returns:
        By name; what cannot be found out is left out, with a `CostWarning` that says why.

    Raises:
        CostError: One of ``needed`` cannot be found out.
    """
    finders: dict[str, Callable[[Any], float]] = {
        names.PARAMETERS: count_parameters,
        names.FLOPS: count_flops,
        names.PEAK_MEMORY: peak_activation_memory,
        names.ENERGY_ESTIMATE: energy.estimate_energy,
    }
    found = {}
    for name in names.costs_among(wanted):
        if name not in finders:
            continue
        try:
            found[name] = float(finders[name](model))
        except CostError as error:
            if name in needed:
                raise
            text = str(error).replace(repr(model.name), type(model).__name__)
            warnings.warn(f"`{name}` is left out: {text}", CostWarning, stacklevel=2)
    return found


def measured_costs(model: Any, wanted: Iterable[str]) -> dict[str, float]:
    """Costs that are found by running the model, with a batch of one.

    Args:
        model: A built `keras.Model`.
        wanted: Names among ``latency_ms``, ``latency_p95_ms`` and ``energy_mj``.

    Raises:
        CostError: Energy is wanted, and the machine has no meter that can be read.
    """
    wanted, found = set(wanted), {}
    if wanted & {names.LATENCY, names.LATENCY_P95}:
        measured = measure_latency(model)
        found = {names.LATENCY: measured.p50_ms, names.LATENCY_P95: measured.p95_ms}
    if names.ENERGY in wanted:
        found[names.ENERGY] = energy.measure_energy(model, required_meter())
    return found


def required_meter() -> energy.Meter:
    """The machine's energy meter.

    Raises:
        CostError: There is none.
    """
    meter = energy.find_meter()
    if meter is None:
        raise CostError(
            f"`{names.ENERGY}` needs a machine that says what it uses (readable RAPL counters in "
            "/sys/class/powercap, or an NVIDIA GPU and the package nvidia-ml-py); received none. "
            f"`{names.ENERGY_ESTIMATE}` is an estimate that needs no meter."
        )
    return meter

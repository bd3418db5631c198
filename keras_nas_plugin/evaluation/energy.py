"""Energy of an inference: measured where the machine has a meter, estimated where asked to.

The two never share a name: `measure_energy` reads a counter of the hardware, `estimate_energy`
multiplies operations and bytes by constants of a technology of 2014.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.evaluation.graph import graph_of, sizes_of, volume
from keras_nas_plugin.evaluation.latency import inference
from keras_nas_plugin.evaluation.memory import item_size

logger = logging.getLogger("keras_nas_plugin")

# Picojoules of a multiplication and an addition, 45 nm, 0.9 V: Horowitz 2014, "Computing's
# Energy Problem (and what we can do about it)", figure 1.1.9. FP32 3.7 + 0.9, FP16 1.1 + 0.4.
PICOJOULES_PER_MULTIPLY_ADD = {4: 4.6, 2: 1.5}
# Of a byte from DRAM: the same figure, 1.3 to 2.6 nJ for 64 bits; the lower end over 8 bytes.
PICOJOULES_PER_BYTE = 162.5

_RAPL = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy that only grows."""

    #: What it counts, for people.
    name: str

    def millijoules(self) -> float:
        """What was used since an unknown beginning."""


class RaplMeter:
    """Intel's and AMD's running average power limit counters, as Linux shows them.

    Counts whole processor packages, idle power and other programs included.

    Args:
        folder: ``/sys/class/powercap``, or one like it.

    Raises:
        CostError: There is no readable counter.
    """

    def __init__(self, folder: Path = _RAPL) -> None:
        # Packages are intel-rapl:0, intel-rapl:1, ...; what has two numbers is a part of one.
        packages = [one for one in Path(folder).glob("intel-rapl:*") if one.name.count(":") == 1]
        self._counters = [one / "energy_uj" for one in sorted(packages)]
        self._ranges: list[int] = []
        try:
            self._last = [int(one.read_text()) for one in self._counters]
            self._ranges = [
                int((one.parent / "max_energy_range_uj").read_text()) for one in self._counters
            ]
        except (OSError, ValueError) as error:
            raise CostError(f"RAPL counters cannot be read: {error}") from error
        if not self._counters:
            raise CostError(f"there is no RAPL counter in {folder}")
        self.name = f"RAPL, {len(self._counters)} processor package(s)"
        self._total = 0

    def millijoules(self) -> float:
        """See `Meter`; a counter that began anew is followed."""
        now = [int(one.read_text()) for one in self._counters]
        for new, old, most in zip(now, self._last, self._ranges, strict=True):
            self._total += new - old if new >= old else new + most - old
        self._last = now
        return self._total / 1e3


class NvmlMeter:
    """The counter of an NVIDIA GPU (Volta or newer), by the package ``nvidia-ml-py``.

    Counts the whole device.

    Args:
        index: Which GPU.

    Raises:
        CostError: The package is not installed, or there is no such counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise CostError("NVML needs the package nvidia-ml-py, which is missing") from error
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self._read = pynvml.nvmlDeviceGetTotalEnergyConsumption
            self._read(self._handle)
        except pynvml.NVMLError as error:
            raise CostError(f"NVML has no energy counter of GPU {index}: {error}") from error
        self.name = f"NVML, GPU {index}"

    def millijoules(self) -> float:
        """See `Meter`."""
        return float(self._read(self._handle))


def find_meter() -> Meter | None:
    """A meter of what inference runs on: the GPU where Keras sees one, else the processor.

    Returns:
        None where the machine does not say what it uses.
    """
    for kind in (NvmlMeter,) if _on_gpu() else (RaplMeter,):
        try:
            return kind()
        except CostError as error:
            logger.debug("No energy is measured: %s", error)
    return None


def _on_gpu() -> bool:
    import keras

    return any("gpu" in str(one).lower() for one in keras.distribution.list_devices())


def measure_energy(
    model: Any,
    meter: Meter,
    batch_size: int = 1,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Millijoules of one inference: what the meter counts while it is repeated.

    All that the device uses in that time counts, idle power and other programs included.

    Args:
        model: A `keras.Model` that knows the shapes of its inputs.
        meter: See `find_meter`.
        batch_size: Examples per inference.
        seconds: How long to repeat it at least; counters tick in milliseconds.
        clock: Seconds, as `time.perf_counter`.
    """
    infer = inference(model, batch_size)
    infer()  # compiles
    runs, before, began = 0, meter.millijoules(), clock()
    while runs == 0 or clock() - began < seconds:
        infer()
        runs += 1
    return (meter.millijoules() - before) / runs


def estimate_energy(model: Any, batch_size: int = 1) -> float:
    """Millijoules of one inference by operations and bytes: an estimate, to compare models.

    Each multiply-add costs what it did in 45 nm, each weight comes from DRAM once per batch,
    and each activation goes there once and comes back once per use. No cache, no idle power, no
    present-day device: only ratios between models of one kind mean something.

    Source: Horowitz 2014, "Computing's Energy Problem (and what we can do about it)", ISSCC,
    figure 1.1.9; the form, compute plus traffic, as in Yang, Chen & Sze 2017, "Designing
    Energy-Efficient Convolutional Neural Networks Using Energy-Aware Pruning".

    Args:
        model: A functional or built Sequential `keras.Model`.
        batch_size: Examples per inference.

    Raises:
        CostError: The model is of another kind.
    """
    graph = graph_of(model)
    uses = [number for call in graph.calls for number in (*call.reads, *call.writes)]
    tensors = [graph.tensors[number] for number in uses]
    shapes = sizes_of(tensors)
    activations = sum(
        volume(shape) * item_size(tensor.dtype)
        for tensor, shape in zip(tensors, shapes, strict=True)
    )
    weights = sum(volume(one.shape) * item_size(one.dtype) for one in model.weights)
    width = item_size(getattr(model, "compute_dtype", "float32"))
    per_multiply_add = PICOJOULES_PER_MULTIPLY_ADD.get(width, PICOJOULES_PER_MULTIPLY_ADD[4])
    compute = count_flops(model) * batch_size * per_multiply_add
    traffic = (weights + activations * batch_size) * PICOJOULES_PER_BYTE
    return (compute + traffic) / 1e9

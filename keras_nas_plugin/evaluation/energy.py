"""Energy of an inference: measured if the machine has a meter, estimated on request.

The two are always reported under different names: `measure_energy` reads a counter of the
hardware, whereas `estimate_energy` multiplies operations and bytes by constants published in 2014.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.evaluation.graph import graph_of, sizes_of, volume
from keras_nas_plugin.evaluation.latency import inference
from keras_nas_plugin.evaluation.memory import item_size

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("keras_nas_plugin")

# Picojoules of a multiplication and an addition, 45 nm, 0.9 V: Horowitz 2014, "Computing's
# Energy Problem (and what we can do about it)", figure 1.1.9. FP32 3.7 + 0.9, FP16 1.1 + 0.4.
PICOJOULES_PER_MULTIPLY_ADD = {4: 4.6, 2: 1.5}
# Picojoules per byte from DRAM: the same figure gives 1.3 to 2.6 nJ per 64 bits; this is the lower
# end divided by 8 bytes.
PICOJOULES_PER_BYTE = 162.5

_RAPL = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy that never decreases."""

    #: Description of what the meter counts.
    name: str

    def millijoules(self) -> float:
        """Energy since an arbitrary start, in millijoules."""


class RaplMeter:
    """Intel's and AMD's running average power limit counters, as exposed by Linux.

    Counts entire processor packages, including idle power and other programs.

    Args:
        folder: ``/sys/class/powercap``, or a folder with the same layout.

    Raises:
        CostError: There is no readable counter.
    """

    def __init__(self, folder: Path = _RAPL) -> None:
        # Packages are intel-rapl:0, intel-rapl:1, ...; names with two numbers denote their parts.
        packages = sorted(
            path for path in Path(folder).glob("intel-rapl:*") if path.name.count(":") == 1
        )
        self._counters = [package / "energy_uj" for package in packages]
        try:
            self._last = [int(counter.read_text()) for counter in self._counters]
            self._ranges = [
                int((package / "max_energy_range_uj").read_text()) for package in packages
            ]
        except (OSError, ValueError) as error:
            raise CostError(f"RAPL counters cannot be read: {error}") from error
        if not self._counters:
            raise CostError(f"there is no RAPL counter in {folder}")
        self.name = f"RAPL, {len(self._counters)} processor package(s)"
        self._total = 0

    def millijoules(self) -> float:
        """See `Meter`; counters that overflowed are corrected."""
        current = [int(counter.read_text()) for counter in self._counters]
        for new, old, largest in zip(current, self._last, self._ranges, strict=True):
            self._total += new - old if new >= old else new + largest - old
        self._last = current
        return self._total / 1e3


class NvmlMeter:
    """The counter of an NVIDIA GPU (Volta or newer), read with the package ``nvidia-ml-py``.

    Counts the entire device.

    Args:
        index: Index of the GPU.

    Raises:
        CostError: The package is not installed, or there is no such counter.
    """

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise CostError(
                "NVML requires the package nvidia-ml-py, which is not installed"
            ) from error
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
    """A meter of the device that runs inference: the GPU if Keras uses one, else the processor.

    Returns:
        The meter; None if the device has no readable one.
    """
    for kind in (NvmlMeter,) if _on_gpu() else (RaplMeter,):
        try:
            return kind()
        except CostError as error:
            logger.debug("No energy is measured: %s", error)
    return None


def _on_gpu() -> bool:
    import keras

    return any("gpu" in str(device).lower() for device in keras.distribution.list_devices())


def measure_energy(
    model: keras.Model,
    meter: Meter,
    batch_size: int = 1,
    *,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Millijoules of one inference, counted by a meter while inference is repeated.

    All energy that the device uses in that time is counted, including that for idle power and
    other programs.

    Args:
        model: A model that knows the shapes of its inputs.
        meter: See `find_meter`.
        batch_size: Examples per inference.
        seconds: Minimum duration of the measurement; counters tick in milliseconds.
        clock: Returns seconds, like `time.perf_counter`.
    """
    infer = inference(model, batch_size)
    infer()  # compiles
    runs, start_energy, start_time = 0, meter.millijoules(), clock()
    while runs == 0 or clock() - start_time < seconds:
        infer()
        runs += 1
    return (meter.millijoules() - start_energy) / runs


def estimate_energy(model: keras.Model, batch_size: int = 1) -> float:
    """Millijoules of one inference from operations and bytes: an estimate to compare models.

    Each multiply-add costs what it did on a 45 nm chip, each weight is read from DRAM once per
    batch, and each activation is written once and read once per use. Caches, idle power and
    present-day hardware are not modelled: only ratios between similar models are meaningful.

    Source: Horowitz 2014, "Computing's Energy Problem (and what we can do about it)", ISSCC,
    figure 1.1.9; the form, compute plus traffic, as in Yang, Chen & Sze 2017, "Designing
    Energy-Efficient Convolutional Neural Networks Using Energy-Aware Pruning".

    Args:
        model: A functional or built Sequential model.
        batch_size: Examples per inference.

    Raises:
        CostError: The model is neither functional nor a built Sequential model.
    """
    graph = graph_of(model)
    accesses = [number for call in graph.calls for number in (*call.reads, *call.writes)]
    tensors = [graph.tensors[number] for number in accesses]
    shapes = sizes_of(tensors)
    activations = sum(
        volume(shape) * item_size(tensor.dtype)
        for tensor, shape in zip(tensors, shapes, strict=True)
    )
    weights = sum(volume(weight.shape) * item_size(weight.dtype) for weight in model.weights)
    width = item_size(getattr(model, "compute_dtype", "float32"))
    per_multiply_add = PICOJOULES_PER_MULTIPLY_ADD.get(width, PICOJOULES_PER_MULTIPLY_ADD[4])
    compute = count_flops(model) * batch_size * per_multiply_add
    traffic = (weights + activations * batch_size) * PICOJOULES_PER_BYTE
    return (compute + traffic) / 1e9

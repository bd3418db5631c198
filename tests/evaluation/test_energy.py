import os
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from keras import layers

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import energy
from keras_nas_plugin.evaluation.costs import measured_costs, required_meter


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((10,)), layers.Dense(20), layers.Dense(5)])


@pytest.fixture
def packages(tmp_path):
    """A powercap folder as on Linux, with two packages, a subzone and another device."""
    for name, start in (
        ("intel-rapl:0", 900),
        ("intel-rapl:1", 50),
        ("intel-rapl:0:0", 7),
        ("dtpm", 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{start}\n")
        (folder / "max_energy_range_uj").write_text("1000\n")
    return tmp_path


def test_rapl_packages_are_summed_and_overflows_corrected(packages):
    meter = energy.RaplMeter(packages)
    assert meter.millijoules() == 0.0
    (packages / "intel-rapl:0" / "energy_uj").write_text(
        "100\n"
    )  # 100 before the overflow, 100 after it
    (packages / "intel-rapl:1" / "energy_uj").write_text("80\n")
    (packages / "intel-rapl:0:0" / "energy_uj").write_text("999\n")
    assert meter.millijoules() == pytest.approx(0.23)
    assert meter.millijoules() == pytest.approx(0.23)
    (packages / "intel-rapl:1" / "energy_uj").write_text("90\n")
    assert meter.millijoules() == pytest.approx(0.24)


def test_a_machine_without_readable_counters_has_no_meter(tmp_path, packages, monkeypatch):
    with pytest.raises(CostError, match="no RAPL counter"):
        energy.RaplMeter(tmp_path / "nowhere")
    (packages / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(CostError, match="cannot be read"):
        energy.RaplMeter(packages)
    monkeypatch.setattr(energy, "find_meter", lambda: None)
    with pytest.raises(
        CostError, match="`energy_mj` must be measured on a machine.*`energy_estimate_mj`"
    ):
        required_meter()


class FakeNVML(types.ModuleType):
    class NVMLError(Exception):
        pass

    def __init__(self, broken=False):
        super().__init__("pynvml")
        self.total, self.broken = 5_000, broken

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("no driver")

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"GPU {index}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.total += 30
        return self.total


def test_gpu_energy_is_read_from_nvml(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML())
    monkeypatch.setattr(energy, "_on_gpu", lambda: True)
    meter = energy.find_meter()
    assert meter.name == "NVML, GPU 0"
    # 30 mJ between two readings, divided by the runs within three seconds.
    seconds = iter([0.0, 1.0, 2.0, 3.0]).__next__
    assert energy.measure_energy(model, meter, seconds=3.0, clock=seconds) == pytest.approx(10.0)
    assert measured_costs(model, ["energy_mj"]).keys() == {"energy_mj"}
    monkeypatch.setitem(sys.modules, "pynvml", FakeNVML(broken=True))
    assert energy.find_meter() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(CostError, match="nvidia-ml-py"):
        energy.NvmlMeter()


def test_the_energy_estimate_follows_from_its_constants(model):
    multiply_adds, weights = 10 * 20 + 20 * 5, 10 * 20 + 20 + 20 * 5 + 5
    # Each activation is written once and read once per use; the last one is not read.
    activations = 10 + 20 + 20 + 5
    for batch in (1, 4):
        picojoules = multiply_adds * batch * 4.6 + (weights + activations * batch) * 4 * 162.5
        assert energy.estimate_energy(model, batch) == pytest.approx(picojoules / 1e9)

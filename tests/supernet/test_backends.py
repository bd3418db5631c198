"""One-shot search on the other backends of Keras, where they are installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_nas_plugin.records.trial import TrialRecord, load_records

ROOT = Path(__file__).parents[2]

SEARCH = """
import sys

import keras
import numpy as np

from keras_nas_plugin import NASTuner, OneShotOracle
from tests.oracles.test_few_shot import space
from keras_nas_plugin.supernet import Supernet

rng = np.random.default_rng(0)
x = rng.normal(size=(96, 4)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int32")
oracle = OneShotOracle(
    "val_loss", max_trials=2, seed=0, supernet_epochs=2, evaluations=5, sampling="sandwich"
)
tuner = NASTuner(space(), oracle=oracle, directory=sys.argv[1], project_name="search")
tuner.search(
    x[:64], y[:64], epochs=1, validation_data=(x[64:], y[64:]), batch_size=16, verbose=0
)
supernet = Supernet(space())
values = supernet.spec.fill({"1/units": 3})
supernet.recalibrate([x[:16]], supernet.mask(values))
network = supernet.extract(values)
difference = network.predict(x, verbose=0) - supernet.predict(x, supernet.mask(values))
print(keras.backend.backend(), float(np.abs(difference).max()))
"""


def run(backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    completed = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert completed.returncode == 0, completed.stdout[-2000:] + completed.stderr[-4000:]
    return completed.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
class TestBackend:
    @pytest.fixture(autouse=True)
    def _installed(self, backend):
        if importlib.util.find_spec(backend) is None:
            pytest.skip(f"{backend} is not installed")

    def test_a_search_trains_scores_and_extracts(self, backend, tmp_path):
        name, difference = run(backend, "-c", SEARCH, str(tmp_path)).split()[-2:]
        assert name == backend
        assert float(difference) < 1e-5
        project = tmp_path / "search"
        records = list(load_records(project))
        assert [record.status for record in records] == ["FINISHED"] * 2
        assert all(set(record.proxies) == {"supernet", "parameters"} for record in records)
        supernet = TrialRecord.load(project / "supernet")
        assert all(logs["distillation_loss"] > 0 for logs in supernet.curves[0])

    def test_a_step_is_the_mean_of_the_gradients_of_its_paths(self, backend):
        """The tests of single steps, whose results are computed by hand."""
        files = [f"tests/supernet/test_{name}.py" for name in ("distillation", "sampling")]
        selected = "learns or weights_change or without_distillation"
        output = run(
            backend, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", selected
        )
        assert "4 passed" in output

import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers

from keras_nas_plugin import Constraint
from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import names
from keras_nas_plugin.evaluation.constraints import broken_by, total_violation
from keras_nas_plugin.evaluation.costs import analytic_costs, measured_costs
from keras_nas_plugin.evaluation.flops import CostWarning


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((10,)), layers.Dense(20), layers.Dense(5)])


def test_costs_are_returned_by_name(model):
    assert analytic_costs(model) == {
        "parameters": 220 + 105,
        "flops": 300,
        "peak_memory_bytes": 30 * 4,
    }
    assert analytic_costs(model, ["params", "energy_estimate_mj"]).keys() == {
        "parameters",
        "energy_estimate_mj",
    }
    assert measured_costs(model, ["latency_ms"]).keys() == {"latency_ms", "latency_p95_ms"}
    assert measured_costs(model, ["parameters"]) == {}


def test_a_cost_that_cannot_be_determined_is_omitted_with_a_warning():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    with pytest.warns(CostWarning, match="`peak_memory_bytes` is left out"):
        assert analytic_costs(model) == {"parameters": 8, "flops": 6}
    with pytest.raises(CostError, match="functional"):
        analytic_costs(model, needed=["peak_memory_bytes"])


def test_a_short_cost_name_is_resolved_unless_training_reports_it():
    limit = Constraint("params", max=100)
    assert limit.value({"parameters": 150}) == 150
    assert limit.value({"params": 50, "parameters": 150}) == 50
    assert limit.value({"flops": 1}) is None
    assert total_violation([limit], {"parameters": 150}) == 0.5
    assert total_violation([limit], {}) == math.inf
    limits = [limit, Constraint("flops", max=10), Constraint("latency", min=1.0)]
    metrics = {"parameters": 150, "flops": 10, "latency_ms": 0.5}
    assert broken_by(limits, metrics) == {"params": 0.5, "latency": 0.5}
    assert broken_by(limits, {"flops": 20}) == {"flops": 1.0}


def test_costs_among_returns_canonical_names_from_cheap_to_expensive():
    requested = ["energy", "latency", "val_loss", "memory", "macs", "params", "parameters"]
    assert names.costs_among(requested) == (
        "parameters",
        "flops",
        "peak_memory_bytes",
        "latency_ms",
        "energy_mj",
    )

"""Bytes, latency and accuracy of exported models as limits and objectives of a search."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from mlflow import MlflowClient

from keras_nas_plugin import Constraint, NASTuner, NSGA2Oracle, RandomOracle
from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.errors import ArgumentError, CostError, SearchSpaceError
from keras_nas_plugin.evaluation.constraints import with_exportability
from keras_nas_plugin.export import LatencyTable, write_operations
from keras_nas_plugin.export.costs import ExportRows, exported_costs
from keras_nas_plugin.oracles.objectives import checked_objective
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.training.costing import export_rows
from keras_nas_plugin.training.fit_arguments import FitArguments
from tests import stores

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = (X.sum(axis=-1) > 0).astype("int32")


class Inverse(keras.layers.Layer):
    """An operation that LiteRT does not have."""

    def call(self, x):
        return keras.ops.erfinv(0.5 * keras.ops.tanh(x))


def build_model(hp):
    units, activation = (
        hp.Choice("units", [4, 8, 512]),
        hp.Choice("activation", ["relu", "inverse"]),
    )
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(units)(inputs)
    hidden = Inverse()(hidden) if activation == "inverse" else keras.layers.ReLU()(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def built(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = {"units": 4, "activation": "relu", **values}
    return build_model(hp)


def search(oracle, folder, **options):
    tuner = NASTuner(build_model, oracle, directory=folder, project_name="search", **options)
    tuner.search(X[:48], Y[:48], validation_data=(X[48:], Y[48:]), epochs=1, verbose=0)
    return tuner, load_records(tuner.project_dir)


def test_a_search_within_limits_of_the_exported_model(tmp_path):
    oracle = NSGA2Oracle(
        ["litert_int8_accuracy", "litert_int8_bytes"],
        max_trials=2,
        seed=0,
        constraints=[Constraint("litert_int8_bytes", max=4_000)],
        initial=[
            {"units": 512, "activation": "relu"},
            {"units": 8, "activation": "inverse"},
        ],
    )
    tuner, records = search(oracle, tmp_path)
    assert [objective.direction for objective in oracle.objectives] == ["max", "min"]
    assert [record.status for record in records] == ["FINISHED"] * 2
    for record in records:
        assert record.values["units"] != 512 and record.values["activation"] == "relu"
        assert record.costs["litert_int8_bytes"] <= 4_000
        assert record.costs["litert_int8_exportable"] == 1.0
        model = tuner.load_model(tuner.oracle.get_trial(record.trial_id))
        rows = ExportRows(X[:48], X[48:], Y[48:])
        costs, _ = exported_costs(model, ["litert_int8_accuracy"], rows)
        assert costs["litert_int8_accuracy"] == record.costs["litert_int8_accuracy"]
        # What was checked before training are the bytes of a trained model.
        costs, _ = exported_costs(
            built(**record.values), ["litert_int8_bytes"], ExportRows(x=X), trained=False
        )
        assert costs["litert_int8_bytes"] == record.costs["litert_int8_bytes"]
    lines = ProjectLayout.of(tuner.project_dir).infeasible_log.read_text().splitlines()
    large, inverse, *_ = map(json.loads, lines)
    assert [*large["broken"]] == ["litert_int8_bytes"]
    assert "litert_int8_bytes" in large["reason"] and "at most 4,000" in large["reason"]
    assert [*inverse["broken"]] == ["litert_int8_exportable"]
    assert "(Inverse) stands in the way of an export to LiteRT" in inverse["reason"]


def test_exportable_models_only(tmp_path):
    oracle = RandomOracle(
        "val_accuracy",
        max_trials=1,
        seed=1,
        exportable="litert",
        initial=[{"units": 4, "activation": "inverse"}],
    )
    assert [limit.name for limit in oracle.constraints] == ["litert_exportable"]
    _, (record,) = search(oracle, tmp_path, measure=["onnx_bytes"])
    assert record.values["activation"] == "relu" and record.costs["onnx_bytes"] > 0
    assert oracle.infeasible.by_constraint["litert_exportable"] >= 1
    with pytest.raises(SearchSpaceError, match="`exportable` must name formats among savedmodel"):
        RandomOracle("val_accuracy", exportable="coreml")


def test_conditions_on_exportability_follow_from_costs():
    limits = [Constraint("litert_int8_bytes", max=1), Constraint("val_loss", max=1)]
    names = [limit.name for limit in with_exportability(limits, ["onnx_latency"], "litert-int8")]
    assert names == [
        "litert_int8_bytes",
        "val_loss",
        "litert_int8_exportable",
        "onnx_exportable",
    ]
    assert checked_objective("litert_int8_latency").name == "litert_int8_latency_ms"
    assert checked_objective("onnx_accuracy").direction == "max"


def test_costs_of_exported_models():
    rows = ExportRows(X[:8], X, Y)
    wanted = ["litert_bytes", "litert_latency_ms", "litert_latency_p95_ms", "onnx_accuracy"]
    costs, reasons = exported_costs(built(), wanted, rows)
    assert costs.keys() == {*wanted} and not reasons
    assert costs["litert_latency_p95_ms"] >= costs["litert_latency_ms"] > 0
    costs, reasons = exported_costs(built(activation="inverse"), wanted[:1], rows)
    assert costs == {"litert_exportable": 0.0}
    assert "Inverse" in reasons["litert_exportable"]
    with pytest.raises(CostError, match="`validation_data` must be arrays for the accuracy"):
        exported_costs(built(), ["onnx_accuracy"])
    with pytest.raises(CostError, match="must have labels of classes"):
        exported_costs(built(), ["onnx_accuracy"], ExportRows(x=X, y=X))


def test_models_before_training_have_the_bytes_of_trained_ones():
    inputs = keras.Input((6,))
    hidden = inputs
    for _ in range(4):
        hidden = keras.layers.Dense(32, "relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    initial = model.get_weights()
    wanted = ["litert_int8_bytes"]
    as_is = exported_costs(model, wanted)[0]["litert_int8_bytes"]
    estimate = exported_costs(model, wanted, trained=False)[0]["litert_int8_bytes"]
    for weight, before in zip(model.get_weights(), initial, strict=True):
        np.testing.assert_array_equal(weight, before)
    rng = np.random.default_rng(1)
    model.set_weights([weight + rng.normal(0, 0.1, weight.shape) for weight in initial])
    bytes_of_trained = exported_costs(model, wanted)[0]["litert_int8_bytes"]
    assert as_is < 0.97 * bytes_of_trained  # the converter stores equal biases once
    assert estimate == pytest.approx(bytes_of_trained, rel=0.01)


def test_rows_of_a_search_for_exported_models():
    split = export_rows(FitArguments.bind((X, Y), {"validation_split": 0.25}))
    assert split.calibration.shape == (48, 6) and len(split.x) == len(split.y) == 16
    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(24)
    rows = export_rows(FitArguments.bind((batches,), {"validation_data": batches}))
    np.testing.assert_array_equal(rows.x, X)
    np.testing.assert_array_equal(rows.y, Y)
    assert export_rows(FitArguments.bind((X, Y), {})).x is None


MEASURE = """
import runpy, sys
for name in ("keras", "tensorflow", "keras_nas_plugin"):
    sys.modules[name] = None  # an import raises
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Operations of two models, measured by the script as on a device; the table's file."""
    folder = tmp_path_factory.mktemp("device")
    models = [convolutional(4), convolutional(8)]
    assert write_operations(models, folder / "operations") == 8
    script = folder / "operations" / "device_latency.py"
    words = [sys.executable, "-c", MEASURE, script, folder / "operations", "--runs", "9"]
    words += ["--output", folder / "table.json"]
    completed = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=folder)
    assert completed.returncode == 0, completed.stderr
    return folder / "table.json"


def convolutional(filters):
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(filters, 3)(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Activation("relu")(hidden)
    hidden = keras.layers.Dropout(0.1)(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Reshape((filters,))(hidden)))


def test_a_latency_table_is_a_sum_over_operations(table):
    latencies = LatencyTable.load(table)
    kinds = sorted(entry["kind"] for entry in latencies.operations.values())
    assert kinds.count("Conv2D+BatchNormalization+Activation") == 2
    measured = convolutional(8)
    keys = latencies.models[1]["keys"]
    net = sum(max(0.0, latencies.operations[k]["p50_ms"] - latencies.overhead_ms) for k in keys)
    assert latencies(measured) == pytest.approx(latencies.overhead_ms + net)
    assert latencies.coverage(measured) == 1.0
    assert latencies.coverage(convolutional(6)) < 1.0
    assert latencies(convolutional(6)) > 0
    assert latencies.error.models == 2 and "2 whole models" in str(latencies.error)
    with pytest.raises(CostError, match="operations of the kind LSTM"):
        latencies(keras.Sequential([keras.Input((3, 2)), keras.layers.LSTM(1)]))
    with pytest.raises(ArgumentError, match="must be a table that device_latency.py wrote"):
        LatencyTable.load(table.parent / "operations" / "operations.json")


def test_interpolation_between_measured_operations():
    def operation(flops, milliseconds):
        return {"kind": "Dense", "flops": flops, "p50_ms": milliseconds}

    latencies = LatencyTable(
        "here", 1, None, 0.5, {"a": operation(8, 1.5), "b": operation(16, 2.5)}
    )
    dense = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(n)]) for n in (2, 3, 4, 8)]
    assert [latencies(model) for model in dense] == pytest.approx([1.5, 2.0, 2.5, 4.5])
    assert latencies.error is None


def test_a_table_is_a_cost_of_a_search(table, tmp_path):
    with pytest.raises(CostError, match="`measure` must contain a `LatencyTable`"):
        NASTuner(build_model, RandomOracle("device_latency_ms"), directory=tmp_path)
    entry = {"kind": "Dense", "flops": 24.0, "p50_ms": 2.0}
    other = {kind: {"kind": kind, "flops": 0.0, "p50_ms": 1.5} for kind in ("ReLU", "Inverse")}
    operations = {"a": entry, "Dense+ReLU": {**entry, "kind": "Dense+ReLU"}, **other}
    latencies = LatencyTable("here", 1, None, 1.0, operations)
    oracle = RandomOracle(
        "val_accuracy", max_trials=1, seed=0, constraints=[Constraint("device_latency", max=9)]
    )
    _, (record,) = search(oracle, tmp_path, measure=[latencies])
    assert record.values["units"] != 512
    assert 1.0 < record.costs["device_latency_ms"] <= 9


RECIPE = """
import keras, numpy as np
def build_model(hp):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(hp.Choice("u", [4, 8]))])
    model.add(keras.layers.Dense(2, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
def load_data():
    x = np.random.default_rng(0).normal(size=(90, 6)).astype("float32")
    y = (x.sum(axis=-1) > 0).astype("int32")
    return (x[:50], y[:50]), (x[50:70], y[50:70]), (x[70:], y[70:])
"""


def test_a_trial_is_exported_by_its_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = stores.new_database(tmp_path)
    (tmp_path / "tiny.py").write_text(RECIPE)
    limits = ["--constraint", "litert_int8_bytes<=9kB", "--exportable", "onnx"]
    words = [
        "search",
        "tiny.py",
        "--max-trials",
        "1",
        "--epochs",
        "1",
        "--tracking-uri",
        uri,
        *limits,
    ]
    run = CliRunner().invoke(cli, words, standalone_mode=False)
    assert run.exception is None, run.output
    words = ["export", "best", "--format", "litert", "--quantize", "int8", "--json"]
    words += ["--max-metric-drop", "1"]  # it was trained for one epoch: its accuracy is chance
    run = CliRunner().invoke(cli, words, standalone_mode=False)
    assert run.exception is None, run.output
    result = json.loads(run.stdout)
    assert result["rows"] == 20 and result["logged"] == "exports/litert-int8"
    client = MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    (run,) = client.search_runs([experiment.experiment_id], "tags.nas.trial_id = '0'")
    assert client.list_artifacts(run.info.run_id, "exports/litert-int8")
    assert (tmp_path / result["folder"] / "model.tflite").exists()

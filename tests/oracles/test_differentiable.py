"""Differentiable search with `NASTuner`: the supernet's run, resuming, costs, guards, report."""

import json
import logging

import mlflow
import numpy as np
import pytest

from keras_nas_plugin import DifferentiableOracle, MLflowTracker, NASTuner
from keras_nas_plugin.errors import CostError, StateError, StrategyError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.export import LatencyTable
from keras_nas_plugin.export.latency_table import operations_of
from keras_nas_plugin.oracles import make_oracle
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.reports.data import report_data
from keras_nas_plugin.reports.page import page
from keras_nas_plugin.reports.supernet_weights import draw_weights, weights_data
from tests.integration import forkserver
from tests.oracles.test_one_shot import Epochs, space

EPOCHS = 5


@pytest.fixture(scope="module")
def data():
    """Two batches for training, and one for validation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 6)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    return {"x": x[:64], "y": y[:64], "validation_data": (x[64:], y[64:]), "batch_size": 32}


def tuner(folder, *, tracker=None, listeners=(), **options):
    settings = {"max_trials": 3, "seed": 0, "supernet_epochs": EPOCHS, "evaluations": 4}
    settings |= {"skip_limit": 1.0, "calibration_trials": 3}
    oracle = DifferentiableOracle("val_loss", **{**settings, **options})
    return NASTuner(
        space(),
        oracle=oracle,
        directory=folder,
        project_name="search",
        tracker=tracker,
        listeners=listeners,
    )


def state_of(search):
    return json.loads(search._context().layout.supernet_state.read_text())


@pytest.fixture(scope="module")
def searched(tmp_path_factory, data):
    """A search that was tracked from its beginning to its end."""
    folder = tmp_path_factory.mktemp("differentiable")
    uri, epochs = forkserver.new_store(folder), Epochs()
    tracker = MLflowTracker(experiment="differentiable", tracking_uri=uri)
    search = tuner(folder, tracker=tracker, listeners=[epochs], method="gdas")
    search.search(epochs=1, verbose=0, **data)
    return search, tracker, epochs, uri


def test_the_weights_are_metrics_and_a_figure_of_the_supernet(searched):
    search, tracker, epochs, uri = searched
    records = list(load_records(search.project_dir))
    assert [record.status for record in records] == ["FINISHED"] * 3
    assert epochs.started == ["supernet", *(record.trial_id for record in records)]

    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([tracker.experiment_id])
    supernet = next(run for run in runs if run.data.tags["nas.kind"] == "supernet")
    assert supernet.info.status == "FINISHED"
    assert supernet.data.params["method"] == "gdas"
    curve = state_of(search)["curve"]
    assert len(curve) == EPOCHS
    for name in ("weight/1/relu", "entropy", "val_loss"):
        points = client.get_metric_history(supernet.info.run_id, f"by_epoch/{name}")
        values = [epoch[name] for epoch in curve if name in epoch]
        assert [point.value for point in points] == pytest.approx(values)
    assert "val_loss" not in curve[0]  # a fifth of the epochs trains the weights alone
    assert [file.path for file in client.list_artifacts(supernet.info.run_id)] == ["weights.svg"]
    figure = search._context().layout.supernet_weights.read_text()
    assert "epoch of the supernet" in figure
    for name in ("1", "2", "3/units"):
        parts = [value for key, value in curve[-1].items() if key.startswith(f"weight/{name}/")]
        assert sum(parts) == pytest.approx(1.0)


def test_the_first_trial_is_the_derived_architecture(searched):
    search, _, _, _ = searched
    records = list(load_records(search.project_dir))
    last = state_of(search)["curve"][-1]
    for name, options in search.oracle.scores.evaluator.built().layout.options.items():
        strongest = max(options, key=lambda option: last[f"weight/{name}/{option}"])
        assert records[0].values[name] == strongest
    assert all("supernet" in record.proxies for record in records)
    saved = TrialRecord.load(search._context().layout.supernet)
    assert saved.values["method"] == "gdas"
    assert saved.costs["parameters"] > max(record.costs["parameters"] for record in records)


def test_the_report_shows_the_weights(searched):
    search, _, _, _ = searched
    collected = report_data(search.project_dir)["supernet"]
    assert collected["method"] == "gdas"
    assert [item["name"] for item in collected["decisions"]] == ["1", "2", "3/units"]
    assert np.array(collected["decisions"][0]["weights"]).shape == (3, EPOCHS)
    html = page(report_data(search.project_dir))
    assert "The weights of the options with gdas, by epoch of the supernet (5 of 5" in html
    panels = draw_weights(weights_data(search.project_dir)).axes
    assert [axes.get_title() for axes in panels] == ["1", "2", "3/units"]


def test_a_killed_search_continues_with_the_same_alphas(tmp_path, data, searched):
    complete, _, _, _ = searched
    killed = Epochs(interrupt_after=3)
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path, listeners=[killed], method="gdas").search(epochs=1, verbose=0, **data)
    with pytest.raises(StateError, match="must have the same method; got {'method': 'darts'}"):
        tuner(tmp_path, method="darts").search(epochs=1, verbose=0, **data)
    resumed = Epochs()
    search = tuner(tmp_path, listeners=[resumed], method="gdas")
    search.search(epochs=1, verbose=0, **data)
    assert [epoch for epoch, _ in resumed.losses] == [2, 3, 4]
    first, second = state_of(complete), state_of(search)
    np.testing.assert_allclose(
        second["trainer"]["alphas"], first["trainer"]["alphas"], rtol=1e-3, atol=1e-5
    )
    assert second["generator"] == first["generator"]
    values = [
        [record.values for record in load_records(done.project_dir)] for done in (complete, search)
    ]
    assert values[1] == values[0]


def test_a_collapse_ends_the_supernet_at_its_last_good_state(tmp_path, data, caplog):
    """The cost outweighs the loss: all decisions prefer what computes nothing."""
    search = tuner(tmp_path, skip_limit=0.5, cost="flops", cost_weight=10.0, max_trials=1)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search.search(epochs=1, verbose=0, **data)
    state = state_of(search)
    assert state["epoch"] == len(state["curve"]) < EPOCHS
    assert "identity or zero is the strongest option of 100%" in state["stopped"]
    assert f"The supernet ends with the weights of epoch {state['epoch']} of 5" in caplog.text
    assert "3/units is relaxed as the expected channels or positions" in caplog.text
    saved = TrialRecord.load(search._context().layout.supernet)
    assert saved.status == "FINISHED"
    assert saved.values["stopped"] == state["stopped"]
    assert state["stopped"] in page(report_data(search.project_dir)).replace("&#39;", "'")
    # The alphas are those after that epoch.
    weights = search.oracle.scores.evaluator.architecture_weights()
    last = state["curve"][-1]
    for name, options in weights.items():
        for option, weight in options:
            assert weight == pytest.approx(last[f"weight/{name}/{option}"], rel=1e-4)
    assert len(list(load_records(search.project_dir))) == 1


def test_perturbation_second_order_and_limits(tmp_path, data):
    limit = 120
    search = tuner(
        tmp_path,
        method="darts-second-order",
        derivation="perturbation",
        cost="flops",
        constraints=[Constraint("flops", max=limit)],
        max_trials=2,
        supernet_epochs=2,
        evaluations=3,
    )
    search.search(epochs=1, verbose=0, **data)
    state = state_of(search)
    assert set(state["derived"]) == {"1", "2", "3/units"}
    assert state["settings"]["cost_limit"] == limit
    assert state["settings"]["cost_weight"] == 1.0
    assert all("expected_flops" in epoch for epoch in state["curve"])
    records = list(load_records(search.project_dir))
    assert len(records) == 2
    assert all(record.costs["flops"] <= limit for record in records)


def table(*models):
    operations = {op.key: op for model in models for op in operations_of(model)}
    entries = {
        key: {"kind": op.kind, "flops": op.flops, "p50_ms": 1.0 + op.flops / 100}
        for key, op in operations.items()
    }
    return LatencyTable("board", 1, None, 0.5, entries)


def test_the_cost_may_be_a_table_of_latencies(tmp_path, data):
    hypermodel = space()
    models = [
        hypermodel.build_values(hypermodel.spec.fill(values))
        for values in ({"1": "relu", "2": "tanh"}, {"1": "tanh", "2": "relu"})
    ]
    search = tuner(tmp_path, method="drnas", cost=table(*models), max_trials=1, supernet_epochs=2)
    search.search(epochs=1, verbose=0, **data)
    curve = state_of(search)["curve"]
    assert curve[-1]["expected_device_latency_ms"] > 0
    other = tuner(
        tmp_path / "b", cost=table(models[0].__class__(models[0].input, models[0].input))
    )
    with pytest.raises(CostError, match="`cost` must know every layer of the space"):
        other.search(epochs=1, verbose=0, **data)


def test_what_cannot_be_searched_is_refused(tmp_path, data):
    for options, message in (
        (
            {"method": "snas"},
            "`method` must be one of darts, darts-second-order, gdas, drnas; got",
        ),
        ({"derivation": "random"}, "`derivation` must be one of discretisation, perturbation"),
        ({"cost": "latency"}, "`cost` must be 'flops', a LatencyTable or None; got 'latency'"),
        ({"cost_weight": -1}, "`cost_weight` must be at least 0, or None; got -1"),
        ({"learning_rate": 0}, "`learning_rate` must be positive, or None; got 0"),
        ({"skip_limit": 2}, "`skip_limit` must be between 0 and 1; got 2"),
        ({"warmup_epochs": -1}, "`warmup_epochs` must be at least 0, or None; got -1"),
    ):
        with pytest.raises(StrategyError, match=message):
            make_oracle("differentiable", "val_loss", 3, **options)
    with pytest.raises(StrategyError, match="`warmup_epochs` must be less than the 5 epochs"):
        tuner(tmp_path, warmup_epochs=5).search(epochs=1, **data)

"""One-shot search with `NASTuner`: the supernet's run, its checkpoints, its finalists."""

import json

import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, NASTuner
from keras_nas_plugin.errors import (
    BudgetExhaustedError,
    FitArgumentsError,
    SearchSpaceError,
    StateError,
    StrategyError,
)
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles import OneShotOracle, make_oracle
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.space import (
    Identity,
    Layer,
    LayerChoice,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
)
from keras_nas_plugin.supernet import Supernet
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.budget import Budget
from tests.integration import forkserver

EPOCHS = 3


@pytest.fixture(scope="module")
def data():
    """Two batches for training, and one for validation."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 6)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    return {"x": x[:64], "y": y[:64], "validation_data": (x[64:], y[64:]), "batch_size": 32}


def space(run_eagerly=True):
    """Few steps are computed faster than a graph of them is traced."""
    operations = {
        "relu": Layer("Dense", units=8, activation="relu"),
        "tanh": Layer("Dense", units=8, activation="tanh"),
        "skip": Identity(),
    }
    return SpaceHyperModel(
        Sequential(
            Layer("Dense", units=8),
            LayerChoice(operations),
            LayerChoice(operations),
            Layer("Dense", units=ValueChoice([2, 4, 8])),
            "BatchNormalization",
            Layer("Dense", units=2, activation="softmax"),
        ),
        inputs=(6,),
        compile={
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
            "run_eagerly": run_eagerly,
        },
    )


def tuner(folder, *, hypermodel=None, tracker=None, listeners=(), objective="val_loss", **options):
    # Three finalists rank by chance; `test_few_shot.py` tests what follows from poor ranks.
    settings = {"max_trials": 4, "seed": 0, "supernet_epochs": EPOCHS, "few_shot": 0}
    settings["evaluations"] = 6
    oracle = OneShotOracle(objective, **{**settings, "calibration_trials": 3, **options})
    return NASTuner(
        hypermodel or space(),
        oracle=oracle,
        directory=folder,
        project_name="search",
        tracker=tracker,
        listeners=listeners,
    )


class Epochs(Tracker):
    """Follows the supernet, and interrupts the search after an epoch."""

    def __init__(self, interrupt_after=None):
        self.losses, self.records, self.started = [], [], []
        self._interrupt_after = interrupt_after

    def trial_started(self, trial_id, values):
        self.started.append(trial_id)

    def epoch_ended(self, trial_id, epoch, logs):
        if trial_id == "supernet":
            self.losses.append((epoch, logs["loss"]))
            if len(self.losses) == self._interrupt_after:
                raise KeyboardInterrupt

    def trial_ended(self, record):
        self.records.append(record)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, data):
    """A search that was tracked from its beginning to its end."""
    folder = tmp_path_factory.mktemp("one_shot")
    uri, epochs = forkserver.new_store(folder), Epochs()
    tracker = MLflowTracker(experiment="one-shot", tracking_uri=uri)
    search = tuner(folder, tracker=tracker, listeners=[epochs])
    search.search(epochs=1, verbose=0, **data)
    return search, tracker, epochs, uri


def test_the_supernet_is_one_run_and_the_finalists_are_trials(searched):
    search, tracker, epochs, uri = searched
    records = list(load_records(search.project_dir))
    assert [record.status for record in records] == ["FINISHED"] * 4
    assert epochs.started == ["supernet", *(record.trial_id for record in records)]
    assert [epoch for epoch, _ in epochs.losses] == list(range(EPOCHS))

    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([tracker.experiment_id])
    kinds = [run.data.tags["nas.kind"] for run in runs]
    assert (kinds.count("supernet"), kinds.count("trial"), kinds.count("search")) == (1, 4, 1)
    supernet = next(run for run in runs if run.data.tags["nas.kind"] == "supernet")
    assert (supernet.info.run_name, supernet.info.status) == ("supernet", "FINISHED")
    curve = client.get_metric_history(supernet.info.run_id, "by_epoch/loss")
    assert [point.value for point in curve] == pytest.approx([loss for _, loss in epochs.losses])
    saved = TrialRecord.load(search._context().layout.supernet)
    assert saved.trial_id == "supernet"
    assert saved.costs["parameters"] > max(record.costs["parameters"] for record in records)


def test_scores_of_the_supernet_are_proxies_and_are_compared(searched):
    search, _, _, _ = searched
    records = list(load_records(search.project_dir))
    for record in records:
        if "supernet" in record.proxies:
            assert record.proxies["parameters"] == record.costs["parameters"]
    compared = [record for record in records if "supernet" in record.proxies][:3]
    assert len(compared) == 3
    calibration = search.oracle.calibration
    scores = [record.proxies["supernet"] for record in compared]
    trained = [-record.score for record in compared]
    from scipy import stats

    assert calibration.supernet.value == pytest.approx(stats.kendalltau(scores, trained).statistic)
    assert calibration.supernet.trials == 3
    lines = (search._context().layout.supernet_scores).read_text().splitlines()
    assert len(lines) == 6
    assert set(json.loads(lines[0])["metrics"]) >= {"val_loss", "val_accuracy", "parameters"}


def test_a_killed_search_continues_the_supernet_and_scores_nothing_twice(tmp_path, data, searched):
    complete, _, all_epochs, _ = searched
    killed = Epochs(interrupt_after=2)
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path, listeners=[killed]).search(epochs=1, verbose=0, **data)
    assert [record.status for record in killed.records] == ["KILLED"]
    with pytest.raises(StateError, match="must have the same epochs; got {'epochs': 4}"):
        tuner(tmp_path, supernet_epochs=EPOCHS + 1).search(epochs=1, verbose=0, **data)
    layout = complete._context().layout
    resumed = Epochs()
    search = tuner(tmp_path, listeners=[resumed])
    search.search(epochs=1, verbose=0, **data)
    # The second epoch had not been saved when the search was interrupted.
    assert [epoch for epoch, _ in resumed.losses] == [1, 2]
    expected = [loss for _, loss in all_epochs.losses[1:]]
    assert [loss for _, loss in resumed.losses] == pytest.approx(expected, rel=1e-3)
    first = [record.values for record in load_records(complete.project_dir)]
    second = [record.values for record in load_records(search.project_dir)]
    assert second[:3] == first[:3]

    again = tuner(tmp_path, listeners=[last := Epochs()], max_trials=5)
    lines = (again._context().layout.supernet_scores).read_bytes()
    again.search(epochs=1, verbose=0, **data)
    assert last.losses == []
    assert len(last.records) == 1
    assert (again._context().layout.supernet_scores).read_bytes() == lines
    assert layout.supernet.joinpath(f"epoch_{EPOCHS}.weights.h5").exists()


def test_constraints_objectives_and_sampling(tmp_path, data):
    """Two objectives, one of which is a cost, under a limit that the widest networks exceed."""
    limit = 150
    hypermodel = space(run_eagerly=False)
    assert hypermodel.build_values(hypermodel.spec.fill({"3/units": 8})).count_params() > limit
    search = tuner(
        tmp_path,
        hypermodel=hypermodel,
        objective=["val_accuracy", keras_tuner.Objective("parameters", "min")],
        constraints=[Constraint("params", max=limit)],
        sampling="sandwich",
        max_trials=2,
        listeners=[epochs := Epochs()],
    )
    search.search(epochs=1, verbose=0, **data)
    records = list(load_records(search.project_dir))
    assert len(records) == 2
    assert all(record.costs["parameters"] <= limit for record in records)
    assert search.oracle.strategy.multi_objective
    # The smaller paths of a step learn the predictions of the largest.
    (supernet,) = [record for record in epochs.records if record.trial_id == "supernet"]
    assert supernet.values == {"sampling": "sandwich", "distill": True, "epochs": EPOCHS}
    assert all(logs["distillation_loss"] > 0 for logs in supernet.curves[0])


def test_a_budget_ends_the_training_of_the_supernet(tmp_path, data):
    class Ending(Epochs):
        """The budget ends after the first epoch."""

        def epoch_ended(self, trial_id, epoch, logs):
            super().epoch_ended(trial_id, epoch, logs)
            search._context().budget.deadline -= search.budget

    search = tuner(tmp_path, listeners=[epochs := Ending()], supernet_epochs=100_000)
    search.budget = 600.0
    search.search(epochs=1, verbose=0, **data)
    assert search.stopped_by == "budget"
    assert list(load_records(search.project_dir)) == []
    assert [record.status for record in epochs.records] == ["KILLED"]
    assert len(epochs.losses) == 1
    assert BudgetExhaustedError.__name__ in epochs.records[0].error


@pytest.mark.parametrize(("epochs", "trained"), [(None, 1), (2, 2)])
def test_the_supernet_of_a_search_by_time_leaves_time_for_trials(
    tmp_path, data, monkeypatch, caplog, epochs, trained
):
    monkeypatch.setattr(Budget, "used", property(lambda self: 0.4 if self.seconds else 0.0))
    search = tuner(tmp_path, max_trials=1, supernet_epochs=epochs, evaluations=2)
    search.budget = 600.0
    search.search(epochs=1, verbose=0, **data)
    record = TrialRecord.load(search.project_dir + "/supernet")
    assert len(record.curves[0]) == trained and record.status == "FINISHED"
    assert ("40% of `budget` have passed" in record.values.get("stopped", "")) == (not epochs)
    assert len(list(load_records(search.project_dir))) == 1


def build_model(hp):
    """A function without a description of its space."""
    return space().build(hp)


def test_what_has_no_supernet_is_refused_before_anything_is_trained(tmp_path, data):
    with pytest.raises(SearchSpaceError, match=r"SpaceHyperModel, .* got build_model\. Use anot"):
        tuner(tmp_path / "a", hypermodel=build_model).search(epochs=1, **data)
    with pytest.raises(FitArgumentsError, match="`validation_data` must be given"):
        tuner(tmp_path / "b").search(data["x"], data["y"], epochs=1)
    with pytest.raises(StrategyError, match="`sampling` must be one of uniform, fair, sandwich"):
        OneShotOracle("val_loss", sampling="greedy")
    with pytest.raises(StrategyError, match="`supernet_epochs` must be at least 1, or None"):
        make_oracle("one-shot", "val_loss", 5, supernet_epochs=0)
    oracle = OneShotOracle("val_loss", max_trials=2)
    oracle.hyperparameters.Choice("a", [1, 2])
    with pytest.raises(StrategyError, match="`evaluator` must be set .* `NASTuner` trains"):
        oracle.create_trial("tuner0")


def test_the_supernet_of_a_search_can_be_loaded(searched):
    """Its last checkpoint has the weights; the optimizer in it is left out."""
    search, _, _, _ = searched
    supernet = Supernet(space())
    supernet.compile()
    supernet.model.optimizer.build(supernet.model.trainable_variables)
    path = search._context().layout.supernet / f"epoch_{EPOCHS}.weights.h5"
    supernet.load(path)
    values = supernet.spec.fill({})
    network = supernet.extract(values)
    x = np.ones((2, 6), "float32")
    outputs = supernet.predict(x, supernet.mask(values))
    np.testing.assert_allclose(outputs, network.predict(x, verbose=0), atol=1e-5)

"""A supernet whose ranks are poor is split: runs, checkpoints, scores."""

import logging

import keras
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, NASTuner
from keras_nas_plugin.errors import StateError, StrategyError
from keras_nas_plugin.oracles import OneShotOracle
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.strategies.finalists import SupernetCalibration
from keras_nas_plugin.supernet import Supernet, SupernetTrainer, UniformSampler
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.proxying import prepare_scoring
from keras_nas_plugin.training.weights import load_weights
from tests.integration import forkserver


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 4)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    return {"x": x[:64], "y": y[:64], "validation_data": (x[64:], y[64:]), "batch_size": 16}


def space():
    operations = {name: Layer("Dense", units=4, activation=name) for name in ("relu", "tanh")}
    return SpaceHyperModel(
        Sequential(
            LayerChoice(operations, name="operation"),
            Layer("Dense", units=ValueChoice([1, 2, 3, 4, 5])),
            "BatchNormalization",
            Layer("Dense", units=2, activation="softmax"),
        ),
        inputs=(4,),
        compile={
            "optimizer": "adam",
            "loss": "sparse_categorical_crossentropy",
            "run_eagerly": True,  # few steps are computed faster than a graph of them is traced
        },
    )


class Listener(Tracker):
    """Follows the supernets, and interrupts the search after an epoch of one of them."""

    def __init__(self, interrupt_after=None):
        self.started, self.losses, self.ended = [], {}, []
        self._interrupt_after = interrupt_after

    def trial_started(self, trial_id, values):
        self.started.append(trial_id)

    def epoch_ended(self, trial_id, epoch, logs):
        if trial_id.startswith("supernet"):
            self.losses[trial_id, epoch] = logs["loss"]
            if (trial_id, epoch) == self._interrupt_after:
                raise KeyboardInterrupt

    def trial_ended(self, record):
        self.ended.append((record.trial_id, record.status))


def tuner(folder, listener, *, tracker=None, **options):
    settings = {"seed": 0, "supernet_epochs": 3, "evaluations": 6, "calibration_trials": 2}
    oracle = OneShotOracle("val_loss", **{"max_trials": 3, **settings, **options})
    return NASTuner(
        space(),
        oracle=oracle,
        directory=folder,
        project_name="search",
        tracker=tracker,
        listeners=[listener],
    )


@pytest.fixture
def split(monkeypatch):
    """The whole supernet is judged to rank poorly, and its parts well."""
    monkeypatch.setattr(SupernetCalibration, "better", property(lambda own: own.split))


def test_the_parts_are_runs_that_continue_after_a_kill(tmp_path, data, split, caplog):
    caplog.set_level(logging.INFO, "keras_nas_plugin")
    uri = forkserver.new_store(tmp_path)
    killed = Listener(interrupt_after=("supernet-0", 1))
    tracker = MLflowTracker(experiment="few-shot", tracking_uri=uri)
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path, killed, tracker=tracker).search(epochs=1, verbose=0, **data)
    assert killed.started[:3] == ["supernet", "0", "1"]
    assert killed.ended[-1] == ("supernet-0", "KILLED")
    with pytest.raises(StateError, match="must have the same epochs; got {'epochs': 1}"):
        tuner(tmp_path, Listener(), few_shot=1).search(epochs=1, verbose=0, **data)
    resumed = Listener()
    search = tuner(tmp_path, resumed, tracker=tracker)
    search.search(epochs=1, verbose=0, **data)

    # Half of the epochs of the whole, rounded up. The second had not been saved.
    expected = {("supernet-0", 1)} | {("supernet-1", epoch) for epoch in (0, 1)}
    assert resumed.losses.keys() == expected - killed.losses.keys() | {("supernet-0", 1)}
    assert resumed.losses["supernet-0", 1] == pytest.approx(
        killed.losses["supernet-0", 1], rel=1e-3
    )
    assert resumed.started[-1] == "2"
    runs = mlflow.MlflowClient(uri).search_runs(
        [tracker.experiment_id], "tags.`nas.kind` = 'supernet'"
    )
    options = {run.info.run_name: run.data.params.get("option") for run in runs}
    assert options == {"supernet": None, "supernet-0": "relu", "supernet-1": "tanh"}
    assert {run.info.status for run in runs} == {"FINISHED"}

    # The finalist after the split was scored with the part that contains it.
    layout = search._context().layout
    records = {record.trial_id: record for record in load_records(search.project_dir)}
    assert set(records["0"].proxies) == {"supernet", "parameters"}
    assert set(records["2"].proxies) == {"sub_supernets", "parameters"}
    number = ("relu", "tanh").index(records["2"].values["operation"])
    supernet = Supernet(space())
    trainer = SupernetTrainer(supernet, UniformSampler(supernet.spec), np.random.default_rng(0))
    load_weights(supernet.model, layout.sub_supernet(number) / "epoch_2.weights.h5")
    order = np.random.default_rng(0).permutation(64)
    batches = [data["x"][order[start : start + 16]] for start in range(0, 64, 16)]
    scores = trainer.score(records["2"].values, batches, [(*data["validation_data"], None)])
    assert records["2"].proxies["sub_supernets"] == pytest.approx(-scores["loss"], rel=1e-4)
    assert TrialRecord.load(layout.sub_supernet(0)).epochs == 2
    said = [r.getMessage() for r in caplog.records if r.name == "keras_nas_plugin"]
    assert any("so that it was split" in text for text in said)
    assert any("the next finalists follow the sub-supernets" in text for text in said)


def test_a_part_starts_with_the_weights_of_the_whole_and_a_new_optimizer(tmp_path, data, split):
    """With a learning rate that decays to zero, only a new optimizer trains the part."""
    rate = keras.optimizers.schedules.PolynomialDecay(0.05, decay_steps=12, end_learning_rate=0.0)
    hypermodel = space()
    hypermodel.compile = {**hypermodel.compile, "optimizer": keras.optimizers.Adam(rate)}
    search = tuner(tmp_path, Listener(), few_shot=2)
    search.hypermodel = hypermodel
    search.search(epochs=1, verbose=0, **data)
    folder = search._context().layout.supernet

    def kernels(path):
        supernet = Supernet(space())
        load_weights(supernet.model, path)
        return [variable.numpy() for variable in supernet.model.trainable_variables]

    whole = kernels(folder / "epoch_3.weights.h5")
    parts = [kernels(folder / f"part_{number}" / "epoch_2.weights.h5") for number in (0, 1)]
    for own, other in ((parts[0], parts[1]), (parts[0], whole), (parts[1], whole)):
        moved = [np.abs(first - second).max() for first, second in zip(own, other, strict=True)]
        assert max(moved) > 0.01
    # Each part leaves the operation of the other as it was.
    unmoved = [
        [np.array_equal(first, second) for first, second in zip(part, whole, strict=True)]
        for part in parts
    ]
    assert [sum(part) for part in unmoved] == [2, 2]
    assert not any(first and second for first, second in zip(*unmoved, strict=True))


def test_few_shot_is_checked_and_can_be_left_out(tmp_path, data):
    with pytest.raises(StrategyError, match="`few_shot` must be a number of epochs, at least 0"):
        OneShotOracle("val_loss", few_shot=-1)
    for few_shot, decision in ((0, None), (None, "operation")):
        search = tuner(tmp_path / str(few_shot), Listener(), few_shot=few_shot)
        prepare_scoring(search._context(), FitArguments.bind((), data))
        assert search.oracle.split_scores.decision == decision

"""Retraining the best trial of a search on all data."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_nas_plugin import (
    MLflowTracker,
    NASTuner,
    RandomOracle,
    RetrainConfig,
    RetrainingError,
)
from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import file_lock, read_json
from keras_nas_plugin.records.retraining import RetrainedModel, Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.retraining.read_only_oracle import ReadOnlyOracle
from keras_nas_plugin.retraining.retrain import epochs_of_best, trained_objective
from keras_nas_plugin.space.fidelity import Fidelity
from tests.integration import forkserver

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
TRAINING, VALIDATION, TEST = (slice(0, 300), slice(300, 400), slice(400, 700))
EPOCHS = 3


def rows(split):
    return X[split], Y[split]


def build(hp):
    hidden = keras.layers.Dense(hp.Int("units", 4, 16), activation="relu")
    model = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(0.01)
    # Tracing would take longer than the training.
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=True)
    return model


def search(folder, hypermodel=build, **fit):
    tracker = MLflowTracker("digits", tracking_uri=forkserver.new_store(folder))
    oracle = RandomOracle("val_accuracy", max_trials=2, seed=5)
    tuner = NASTuner(hypermodel, oracle, tracker=tracker, directory=folder, project_name="digits")
    x, y = rows(TRAINING)
    fit = {"validation_data": rows(VALIDATION), "epochs": EPOCHS, "batch_size": 50, **fit}
    keras.utils.set_random_seed(5)
    tuner.search(x, y, verbose=0, **fit)
    return tuner


@pytest.fixture(scope="module")
def tuner(tmp_path_factory):
    """A finished search; models that a test retrains remain for the tests that follow."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("search")
        patch.chdir(folder)
        yield search(folder)


@pytest.fixture(scope="module")
def retrained(tuner):
    return tuner.retrain_best(seeds=2, test_data=rows(TEST))


def test_models_train_on_all_rows_up_to_the_best_epoch(tuner, retrained):
    best = tuner.oracle.get_best_trials()[0]
    record = TrialRecord.load(tuner.get_trial_dir(best.trial_id))
    assert (retrained.trial_id, retrained.epochs) == (best.trial_id, record.best_step + 1)
    assert retrained.rows == 400
    assert [model.seed for model in retrained.models] == [5, 6]
    for model in retrained.models:
        assert len(model.curve) == retrained.epochs
        assert model.curve[0].keys() == {"accuracy", "loss"}
    assert [(data.context, data.profile["x"]["shape"]) for data in retrained.datasets] == [
        ("training", [400, 64]),
        ("test", [300, 64]),
    ]


def test_searched_and_retrained_models_are_measured_on_the_same_rows(tuner, retrained):
    x, y = rows(TEST)
    best = tuner.oracle.get_best_trials()[0]
    models = [tuner.load_retrained(best, model) for model in retrained.models]
    models.insert(0, tuner.get_best_models()[0])
    accuracies = [np.mean(m.predict(x, verbose=0).argmax(axis=-1) == y) for m in models]
    scores = [retrained.searched_scores["accuracy"], *retrained.scores]
    assert scores == pytest.approx(accuracies)
    assert retrained.searched["val_accuracy"] == best.score
    assert retrained.mean == pytest.approx(np.mean(accuracies[1:]))
    assert retrained.deviation == pytest.approx(np.std(accuracies[1:], ddof=1), abs=1e-6)
    assert retrained.kept is retrained.models[0]
    assert (retrained.measured_on, retrained.measured_rows) == ("test", 300)
    losses = [model.scores["loss"] for model in retrained.models]
    assert losses[0] != losses[1], "seeds differ"


def test_models_are_measured_by_class_on_the_same_rows(retrained):
    labels = rows(TEST)[1]
    for model in retrained.models:
        classes = model.class_scores.classes
        assert [score.rows for score in classes] == np.bincount(labels).tolist()
        hits = sum(score.recall * score.rows for score in classes)
        assert hits / len(labels) == pytest.approx(model.scores["accuracy"])


def test_models_that_exist_are_not_trained_again(tuner, retrained):
    assert tuner.retrain_best(seeds=2, test_data=rows(TEST)) == retrained
    assert Retraining.load(tuner.project_dir) == retrained
    extended = tuner.retrain_best(seeds=3, test_data=rows(TEST))
    assert extended.models[:2] == retrained.models and extended.models[2].seed == 7
    fewer = tuner.retrain_best(test_data=rows(TEST))
    assert fewer.models == retrained.models[:1] and fewer.deviation is None


def test_different_test_rows_are_measured_without_training(tuner, retrained):
    x, y = rows(TEST)
    remeasured = tuner.retrain_best(test_data=(x[:50], y[:50]))
    assert remeasured.kept.curve == retrained.kept.curve
    assert remeasured.kept.started_ms == retrained.kept.started_ms
    assert remeasured.measured_rows == 50 and remeasured.kept.scores != retrained.kept.scores
    assert remeasured.searched_scores != retrained.searched_scores


def test_different_settings_or_data_train_again(tuner, retrained):
    longer = tuner.retrain_best(epochs=1, test_data=rows(TEST))
    assert longer.key != retrained.key and len(longer.kept.curve) == 1
    x, y = rows(TRAINING)
    retrained_on_other_rows = tuner.retrain_best(
        x, y, validation_data=(X[300:399], Y[300:399]), epochs=1
    )
    assert retrained_on_other_rows.key != longer.key and retrained_on_other_rows.rows == 399
    assert any("data differ from those" in remark for remark in retrained_on_other_rows.remarks)
    assert not any("data differ from those" in remark for remark in longer.remarks)


def test_without_test_rows_there_are_no_scores(tuner):
    unknown = tuner.retrain_best()
    assert unknown.measured_on is None
    assert (
        unknown.kept.class_scores is None
        and unknown.scores == ()
        and unknown.mean is None
        and unknown.searched_scores == {}
    )


def test_held_out_rows_are_measured_and_not_trained_on(tuner):
    result = tuner.retrain_best(hold_out=0.3, epochs=1)
    assert (result.measured_on, result.measured_rows, result.rows) == ("hold-out", 30, 370)
    assert len(result.scores) == 1 and "accuracy" in result.searched_scores
    with pytest.raises(
        RetrainingError, match="`hold_out` must be None when there are test data; got 0.3"
    ):
        tuner.retrain_best(hold_out=0.3, test_data=rows(TEST))


def test_the_same_seed_trains_the_same_model(tuner, retrained):
    repeated = tuner.retrain_best(test_data=rows(TEST), overwrite=True)
    assert repeated.kept.started_ms > retrained.kept.started_ms
    for logs, expected in zip(repeated.kept.curve, retrained.kept.curve, strict=True):
        assert logs == pytest.approx(expected, rel=1e-4)
    assert len(list(Path(tuner.project_dir, "retrained").glob("*/*.h5"))) == 1


def test_models_are_retrained_on_tf_datasets(tuner):
    import tensorflow as tf

    def data(split):
        return tf.data.Dataset.from_tensor_slices(rows(split)).batch(50)

    result = tuner.retrain_best(
        data(TRAINING), validation_data=data(VALIDATION), test_data=data(TEST), epochs=2
    )
    assert result.rows is None and len(result.kept.curve) == 2
    assert result.kept.scores["accuracy"] > 0.2, "it has learned"


def test_callbacks_that_need_validation_data_are_ignored(tuner):
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=0),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.0),
    ]
    result = tuner.retrain_best(callbacks=callbacks, epochs=2)
    assert result.remarks == ("Ignored callbacks that need validation data: EarlyStopping.",)
    losses = [logs["loss"] for logs in result.kept.curve]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5), "the learning rate stays 0"


def test_settings_can_be_given_as_one_object(tuner):
    config = RetrainConfig(seed=6, epochs=1)
    result = tuner.retrain_best(config=config, test_data=rows(TEST))
    assert [model.seed for model in result.models] == [6] and result.epochs == 1
    assert tuner.retrain_best(seed=6, epochs=1, test_data=rows(TEST)) == result


class Uncopyable(keras.callbacks.Callback):
    def __deepcopy__(self, memo):
        raise TypeError("no copies")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "`seeds` must be at least 1; got 0"),
        ({"epochs": 0}, "`epochs` must be at least 1; got 0"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
        ({"hold_out": 1.5}, "`hold_out` must be a fraction between 0 and 1; got 1.5"),
        ({"seeds": 2, "config": RetrainConfig()}, "`config` must be None when its fields"),
        ({"trial_id": "99"}, "`trial_id` must be a finished trial, one of 0, 1; got '99'"),
        ({"test_data": (X[:9, :3], Y[:9])}, "`test_data` must give rows that the model"),
        ({"test_data": (X[:9], Y[:8])}, "`test_data` must have as many targets as inputs"),
        (
            {"seed": 90, "callbacks": [Uncopyable()]},
            "`callbacks` must be possible to copy .* no copies",
        ),
    ],
)
def test_invalid_arguments_are_errors(tuner, options, message):
    with pytest.raises(RetrainingError, match=message):
        tuner.retrain_best(**options)


def test_data_of_the_wrong_shape_are_an_error(tuner):
    with pytest.raises(RetrainingError, match="`hypermodel` must train on these data"):
        tuner.retrain_best(X[:, :3], Y, validation_split=0.2)


def test_a_search_that_another_process_retrains_is_an_error(tuner):
    lock = Path(tuner.project_dir) / ".retrained.lock"
    with file_lock(lock), pytest.raises(StateError, match="no other process is retraining"):
        tuner.retrain_best()


class OwnFit(keras_tuner.HyperModel):
    """Has a `fit` with argument names and a number of epochs of its own."""

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, data, labels, *, validation_data=None, needs=False, **options):
        if needs and validation_data is None:
            raise ValueError("no validation data")
        return model.fit(data, labels, validation_data=validation_data, epochs=2, **options)


def test_a_hypermodel_with_its_own_fit_is_retrained_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = rows(TRAINING)
    oracle = RandomOracle("val_accuracy", max_trials=1, seed=5)
    tuner = NASTuner(OwnFit(), oracle, directory=tmp_path, project_name="own")
    with pytest.raises(RetrainingError, match="`x` must be the training data of the search"):
        tuner.retrain_best()
    with pytest.raises(
        RetrainingError, match="`trial_id` must be a finished trial; the search has none"
    ):
        tuner.retrain_best(x, y)
    tuner.search(x, y, validation_data=rows(VALIDATION), verbose=0)
    result = tuner.retrain_best()
    assert result.epochs is None and len(result.kept.curve) == 2
    with pytest.raises(RetrainingError, match="without validation data; .* no validation data"):
        tuner.retrain_best(needs=True)


def finished(**fields):
    return TrialRecord(trial_id="3", values={}, status="FINISHED", score=1.0, **fields)


INFO = SearchInfo(
    search_id="s", name="n", objective="val_loss", direction="min", strategy="S", max_trials=1
)


@pytest.mark.parametrize(
    ("record", "search_info", "epochs"),
    [
        (finished(curves=(({"val_loss": 1.0},) * 4,), best_step=2), INFO, 3),
        (finished(curves=(({"val_loss": 1.0},) * 4,)), INFO, 1),
        # The best epoch was in the trial that this one continues.
        (finished(curves=(({"val_loss": 1.0},),), first_epoch=6, best_step=4), INFO, 5),
        # `fit` returned a number that no epoch reported.
        (finished(curves=(({"loss": 1.0},) * 4,)), INFO, 4),
        (finished(curves=(({"loss": 1.0},) * 4,), first_epoch=2), INFO, 6),
        (finished(), INFO, None),
        (
            finished(curves=(({"val_loss": 1.0},) * 4,)),
            dataclasses.replace(
                INFO,
                objective="multi_objective",
                objectives=(("val_loss", "min"), ("flops", "min")),
            ),
            1,
        ),
    ],
)
def test_the_number_of_epochs_is_that_of_the_best_result(record, search_info, epochs):
    assert epochs_of_best(record, search_info) == epochs


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ((), ("val_loss", "min")),
        ((("flops", "min"), ("val_accuracy", "max")), ("val_accuracy", "max")),
        ((("flops", "min"), ("parameters", "min")), ("val_loss", "min")),
    ],
)
def test_scores_are_compared_by_an_objective_that_training_reports(objectives, expected):
    assert trained_objective(dataclasses.replace(INFO, objectives=objectives)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"direction": "min"}, False),
        ({"measured_on": "hold-out"}, False),
        ({"searched_scores": {}}, False),
        ({"objective": "val_f1"}, False),
        ({"searched_scores": {"accuracy": 0.5}}, False),
    ],
)
def test_the_searched_model_is_recommended_if_it_is_better_on_test_rows(change, expected):
    fields = {
        "objective": "val_accuracy",
        "direction": "max",
        "measured_on": "test",
        "searched_scores": {"accuracy": 0.75},
        "models": (RetrainedModel(seed=0, curve=(), weights="w", scores={"accuracy": 0.5}),),
    }
    unused = {
        "search_id": "s",
        "trial_id": "0",
        "key": "k",
        "epochs": 1,
        "rows": 9,
        "searched": {},
    }
    assert Retraining(**{**fields, **unused, **change}).searched_is_better == expected


def test_a_promoted_trial_is_retrained_from_the_first_epoch(tuner, retrained):
    """Retraining does not need the checkpoint of the parent trial."""
    trial = tuner.oracle.get_best_trials()[0]
    record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
    rung = Fidelity(epochs=5, initial_epoch=3, rung=1, parent="no such trial").to_values()
    trial.hyperparameters.values.update(rung)
    try:
        result = tuner.retrain_best(epochs=record.best_step + 1)
    finally:
        for name in rung:
            del trial.hyperparameters.values[name]
    assert result.kept.curve[0] == pytest.approx(retrained.kept.curve[0], rel=1e-4)


def test_a_finished_search_is_retrained_without_its_oracle(tuner, retrained):
    info = SearchInfo.load(tuner.project_dir)
    before = {path: path.read_bytes() for path in Path(tuner.project_dir).glob("*.json")}
    folder = Path(tuner.project_dir)
    opened = NASTuner(
        build, ReadOnlyOracle(info), directory=folder.parent, project_name=folder.name
    )
    best = [t.trial_id for t in opened.oracle.get_best_trials(5)]
    assert best == [t.trial_id for t in tuner.oracle.get_best_trials(5)]
    x, y = rows(TRAINING)
    data = {"validation_data": rows(VALIDATION), "test_data": rows(TEST), "batch_size": 50}
    assert opened.retrain_best(x, y, **data, verbose=0).kept.curve[0] == pytest.approx(
        retrained.kept.curve[0], rel=1e-4
    )
    after = {path: path.read_bytes() for path in Path(tuner.project_dir).glob("*.json")}
    assert after == before


# ------------------------------------------------------------------ MLflow


def client_of(tuner):
    from mlflow import MlflowClient

    return MlflowClient(tuner.tracker.tracking_uri)


def test_an_interrupted_run_is_finished_by_the_next_call(tuner):
    """A process that dies while logging leaves a run that is RUNNING, and no file with its id."""
    client = client_of(tuner)
    model = tuner.retrain_best(seed=30, epochs=2).kept
    before = len(retrained_runs(client))
    client.update_run(model.run_id, status="RUNNING")
    dataclasses.replace(model, run_id=None, logged=None).save(tuner.project_dir)
    resumed = tuner.retrain_best(seed=30, epochs=2).kept
    assert resumed == model
    assert len(retrained_runs(client)) == before
    assert client.get_run(model.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(model.run_id, "by_epoch/loss")) == 2


def test_a_retrained_run_is_not_a_trial(tuner, retrained):
    from keras_nas_plugin import earlier_trials

    trials = earlier_trials(
        experiment="digits", tracking_uri=tuner.tracker.tracking_uri, objective="val_accuracy"
    )
    assert len(trials) == 2
    assert len(retrained_runs(client_of(tuner))) > 2
    for trial_id in ("0", "1"):
        run = client_of(tuner).get_run(tuner.tracker.run_id(trial_id))
        assert run.data.tags["nas.kind"] == "trial"


# ------------------------------------------------------------------ killed processes


def retrain_and_die(*, seeds, die_at=None):
    """Retrain in the working directory; die after the file named ``die_at`` was written."""
    import os

    if die_at is not None:
        replace = os.replace

        def replace_and_die(source, target, **options):
            replace(source, target, **options)
            if Path(target).name == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace_and_die
    info = SearchInfo.load("digits")
    tracker = MLflowTracker("digits", tracking_uri="sqlite:///mlflow.db")
    opened = NASTuner(
        build, ReadOnlyOracle(info), tracker=tracker, directory=".", project_name="digits"
    )
    x, y = rows(TRAINING)
    opened.retrain_best(
        x, y, validation_data=rows(VALIDATION), test_data=rows(TEST), seeds=seeds, epochs=1
    )


def test_a_kill_loses_only_the_training_that_was_running(tuner, tmp_path):
    from mlflow import MlflowClient

    shutil.copytree(tuner.project_dir, tmp_path / "digits")
    shutil.rmtree(tmp_path / "digits/retrained", ignore_errors=True)
    shutil.copy(Path(tuner.project_dir).parent / "mlflow.db", tmp_path / "mlflow.db")

    def run(**options):
        server = forkserver.fork_server()
        child = server.run(f"{__name__}:retrain_and_die", cwd=tmp_path, seeds=3, **options)
        results = sorted((tmp_path / "digits/retrained").glob("*/seed_*.json"))
        return child, {path.name: read_json(path) for path in results}

    # The weights exist, but not the file that marks them as complete.
    child, results = run(die_at="seed_6.weights.h5")
    assert child.returncode == -signal.SIGKILL, child.err
    assert results.keys() == {"seed_5.json"}
    child, completed = run()
    assert child.returncode == 0, child.err
    assert completed.keys() == {"seed_5.json", "seed_6.json", "seed_7.json"}
    assert completed["seed_5.json"]["ended_ms"] == results["seed_5.json"]["ended_ms"]
    runs = retrained_runs(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"))
    resumed = [run for run in runs if run.data.tags["nas.retraining"] in str(completed)]
    assert sorted(run.data.tags["nas.seed"] for run in resumed) == ["5", "6", "7"]


def retrained_runs(client):
    experiment = client.get_experiment_by_name("digits").experiment_id
    return list(client.search_runs([experiment], "tags.`nas.kind` = 'retrained'"))

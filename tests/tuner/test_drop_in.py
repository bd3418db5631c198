"""`NASTuner` replaces a KerasTuner tuner; each search trains real models."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin import RandomOracle, RegularizedEvolutionOracle
from keras_nas_plugin.errors import NASError, SearchSpaceError, StateError
from keras_nas_plugin.records.trial import FAILED
from tests.integration.forkserver import fork_server
from tests.tuner.outcome import best_score, statuses

# ---------------------------------------------------------------------- tuners and oracles


def test_a_stock_tuner_accepts_an_oracle_of_this_package(build, data, tmp_path):
    tuner = keras_tuner.Tuner(
        oracle=RegularizedEvolutionOracle("val_accuracy", max_trials=5, seed=0),
        hypermodel=build,
        directory=tmp_path,
        project_name="stock",
    )
    tuner.search(**data, epochs=1, verbose=0)
    assert statuses(tuner) == ["COMPLETED"] * 5
    values = [trial.hyperparameters.values["units"] for trial in tuner.oracle.trials.values()]
    assert len(set(values)) == 5
    (model,) = tuner.get_best_models()
    _, accuracy = model.evaluate(*data["validation_data"], verbose=0)
    assert accuracy == pytest.approx(best_score(tuner), abs=1e-6)


@pytest.mark.parametrize(
    "oracle",
    [
        keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=3, seed=1),
        keras_tuner.oracles.BayesianOptimizationOracle(
            "val_loss", max_trials=3, num_initial_points=2, seed=1
        ),
        keras_tuner.oracles.GridSearchOracle("val_loss", max_trials=3),
    ],
    ids=lambda oracle: type(oracle).__name__,
)
def test_nas_tuner_accepts_stock_oracles(tune, witness, oracle):
    tuner = tune(oracle=oracle)
    assert statuses(tuner) == ["COMPLETED"] * 3
    scores = {record.trial_id: record.score for record in witness.records}
    assert scores == {key: trial.score for key, trial in tuner.oracle.trials.items()}
    assert best_score(tuner) == min(scores.values())


class Keeper(keras.callbacks.Callback):
    """Records the weights at the start and end of each training, and its epochs."""

    log: list = []

    def on_train_begin(self, logs=None):
        kernel = float(np.abs(self.model.get_weights()[0]).sum())
        epochs = self.params["epochs"]
        type(self).log.append([self.model.layers[0].units, epochs, kernel, None])

    def on_train_end(self, logs=None):
        type(self).log[-1][3] = float(np.abs(self.model.get_weights()[0]).sum())

    def __deepcopy__(self, memo):
        return Keeper()


def test_hyperband_continues_with_the_weights_of_the_promoted_trial(tune, witness, data):
    Keeper.log = []
    oracle = keras_tuner.oracles.HyperbandOracle("val_loss", max_epochs=3, factor=3, seed=2)
    tuner = tune(oracle=oracle, fit={"callbacks": [Keeper()]})
    assert set(statuses(tuner)) == {"COMPLETED"}
    promoted = [
        trial.hyperparameters.values
        for trial in tuner.oracle.trials.values()
        if trial.hyperparameters.values.get("tuner/trial_id")
    ]
    assert promoted, "some trial was promoted"
    epochs = {}
    for trial_id, epoch, _ in witness.events_of("epoch_ended"):
        epochs.setdefault(trial_id, []).append(epoch)
    order = [trial_id for trial_id, _ in witness.events_of("trial_started")]
    for trial_id, values in witness.events_of("trial_started"):
        expected = range(values["tuner/initial_epoch"], values["tuner/epochs"])
        assert epochs[trial_id] == list(expected)
        source = values.get("tuner/trial_id")
        if source:
            start, end = Keeper.log[order.index(trial_id)], Keeper.log[order.index(source)]
            assert start[0] == end[0]
            model = tuner.load_model(tuner.oracle.trials[source])
            kernel = float(np.abs(model.get_weights()[0]).sum())
            assert start[2] == pytest.approx(kernel, rel=1e-6)


# ---------------------------------------------------------------------- hypermodels


class OwnLoop(keras_tuner.HyperModel):
    """A hypermodel with a custom training loop, which calls the callbacks itself."""

    def __init__(self, returns):
        super().__init__()
        self.returns = returns

    def build(self, hp):

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 9))])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, x, y, validation_data, callbacks=(), epochs=2, **options):
        target = np.eye(model.output_shape[1], dtype="float32")[y]
        rate = hp.Float("rate", 0.01, 0.1)
        losses = []
        for callback in callbacks:
            callback.set_model(model)
            callback.on_train_begin()
        for epoch in range(epochs):
            for callback in callbacks:
                callback.on_epoch_begin(epoch)
            model.optimizer.learning_rate = rate
            losses.append(float(model.train_on_batch(x, target)))
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"my_loss": losses[-1]})
        for callback in callbacks:
            callback.on_train_end()
        return {"float": losses[-1], "dict": {"my_loss": losses[-1], "other": 1.0}}[self.returns]


@pytest.mark.parametrize("returns", ["float", "dict"])
def test_a_custom_training_loop_reports_its_own_metric(tune, witness, finished, returns):
    objective = keras_tuner.Objective("my_loss", "min")
    oracle = RandomOracle(objective, max_trials=3, seed=0)
    tuner = tune(OwnLoop(returns), oracle, fit={"epochs": 2})
    records = finished()
    assert len(records) == 3
    assert [len(record.curves[0]) for record in records] == [2, 2, 2]
    for record in records:
        assert record.score == record.curves[0][-1]["my_loss"]
        assert ("other" in record.metrics) == (returns == "dict")
    # `rate` was not declared yet in the first trial, which has its default.
    rates = [record.values["rate"] for record in records]
    assert rates[0] == 0.01 and len(set(rates)) == 3
    assert [set(values) for _, values in witness.events_of("trial_started")][1:] == [
        {"units", "rate"}
    ] * 2
    assert tuner.get_best_hyperparameters()[0].values == dict(
        min(records, key=lambda record: record.score).values
    )


def test_a_custom_training_loop_without_an_objective_minimises_its_return_value(tune, finished):
    tuner = tune(OwnLoop("float"), RandomOracle(max_trials=2, seed=0))
    assert tuner.oracle.objective.name == "default_objective"
    assert best_score(tuner) == min(record.score for record in finished())


def test_trials_have_only_active_values_of_conditional_scopes(tune, witness):
    def build(hp):
        model = keras.Sequential([keras.Input((4,))])
        kind = hp.Choice("kind", ["plain", "deep"])
        with hp.conditional_scope("kind", ["deep"]):
            if kind == "deep":
                model.add(keras.layers.Dense(hp.Int("inner", 2, 30), activation="relu"))
        model.add(keras.layers.Dense(2, activation="softmax"))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    tune(build, RandomOracle("val_loss", max_trials=6, seed=3))
    proposed = [values for _, values in witness.events_of("trial_started")]
    assert {values["kind"] for values in proposed} == {"plain", "deep"}
    for values in proposed:
        assert ("inner" in values) == (values["kind"] == "deep")


def test_the_score_of_several_executions_is_their_mean(tune, finished, data):
    tuner = tune(executions_per_trial=2, fit={"epochs": 2}, deterministic=False)
    for record in finished():
        best = [min(epoch["val_loss"] for epoch in curve) for curve in record.curves]
        assert len(best) == 2 and best[0] != best[1]
        assert record.score == pytest.approx(sum(best) / 2)
    (model, _) = tuner.get_best_models(2)
    record = min(finished(), key=lambda record: record.score)
    lowest = min(epoch["val_loss"] for curve in record.curves for epoch in curve)
    loss, _ = model.evaluate(*data["validation_data"], verbose=0)
    assert loss == pytest.approx(lowest, rel=1e-5)


def test_hyperparameters_restrict_the_search_space(tune, finished):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 3, 4)
    oracle = RandomOracle(
        "val_loss", max_trials=9, seed=0, hyperparameters=hyperparameters, allow_new_entries=False
    )
    tune(oracle=oracle)
    assert sorted(record.values["units"] for record in finished()) == [3, 4]


def test_the_error_names_new_entries_that_are_not_allowed(tune):
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("other", 3, 4)
    oracle = RandomOracle(
        "val_loss", max_trials=9, hyperparameters=hyperparameters, allow_new_entries=False
    )
    with pytest.raises((RuntimeError, SearchSpaceError), match="units|allow_new_entries"):
        tune(oracle=oracle)


def test_new_entries_that_are_not_tuned_keep_their_default(tune, finished, build):
    def with_second_parameter(hp):
        hp.Int("late", 1, 9, default=7)
        return build(hp)

    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Int("units", 2, 64)
    oracle = RandomOracle(
        "val_loss", max_trials=3, seed=0, hyperparameters=hyperparameters, tune_new_entries=False
    )
    tuner = tune(with_second_parameter, oracle)
    assert len({record.values["units"] for record in finished()}) == 3
    models = tuner.get_best_hyperparameters(3)
    assert all(hyperparameters.get("late") == 7 for hyperparameters in models)


def test_a_model_that_is_too_large_is_a_failed_trial(tune, witness, finished):
    oracle = RandomOracle(
        "val_loss", max_trials=8, seed=0, max_consecutive_failed_trials=9, max_retries_per_trial=2
    )
    tuner = tune(oracle=oracle, max_model_size=200)
    failed = [record for record in witness.records if record.status == FAILED]
    assert failed and finished()
    assert len(witness.records) == 8, "no retry, because the size does not change"
    for record in witness.records:
        size = 7 * record.values["units"] + 2
        assert (record.status == FAILED) == (size > 200)
    assert "`max_model_size` allows 200 trainable parameters" in failed[0].error
    large = 7 * failed[0].values["units"] + 2
    assert f"this model has {large:,}" in failed[0].error
    assert len(tuner.get_best_models(8)) == len(finished())


def test_models_that_are_built_by_fit(tune, data):
    def build(hp):
        model = keras.Sequential([keras.layers.Dense(hp.Int("units", 2, 64))])
        model.add(keras.layers.Dense(2, activation="softmax"))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    tuner = tune(build)
    (model,) = tuner.get_best_models()
    assert model.evaluate(*data["validation_data"], verbose=0) == pytest.approx(best_score(tuner))


# ---------------------------------------------------------------------- data and callbacks


def test_a_search_trains_on_tf_data(tune, data, witness, build):
    def batches(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    fit = {
        "x": batches(data["x"], data["y"]),
        "y": None,
        "validation_data": batches(*data["validation_data"]),
    }
    # As a graph, which is Keras' default.
    tuner = tune(lambda hp: build(hp, run_eagerly=False), fit=fit)
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert {info.context for info in witness.search.datasets} == {"training", "validation"}
    (model,) = tuner.get_best_models()
    loss, _ = model.evaluate(fit["validation_data"], verbose=0)
    assert loss == pytest.approx(best_score(tuner), rel=1e-5)


def test_arguments_of_fit_may_be_positional(tune, data, finished):
    tuner = tune(search=False)
    tuner.search(data["x"], data["y"], 16, 2, validation_split=0.25, verbose=0)
    assert [len(record.curves[0]) for record in finished()] == [2, 2]


def test_a_model_may_have_several_inputs(tune, data, witness):
    def build(hp):
        inputs = {name: keras.Input((2,), name=name) for name in ("left", "right")}
        joined = keras.layers.Concatenate()(list(inputs.values()))
        joined = keras.layers.Dense(hp.Int("units", 2, 64))(joined)
        model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(joined))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    def split(x):
        return {"left": x[:, :2], "right": x[:, 2:]}

    x_val, y_val = data["validation_data"]
    fit = {"x": split(data["x"]), "validation_data": (split(x_val), y_val)}
    tuner = tune(build, fit=fit)
    assert statuses(tuner) == ["COMPLETED"] * 2
    (model,) = tuner.get_best_models()
    assert model.evaluate(split(x_val), y_val, verbose=0) == pytest.approx(best_score(tuner))


class Counting(keras.callbacks.Callback):
    """Counts the epochs of the execution that it was copied for."""

    epoch_counts: list = []

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1

    def on_train_end(self, logs=None):
        type(self).epoch_counts.append(self.epochs)


def test_user_callbacks_are_copied_for_each_execution(tune, finished):
    Counting.epoch_counts = []
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10.0)
    own = Counting()
    tune(executions_per_trial=2, fit={"epochs": 5, "callbacks": [stop, own]})
    assert Counting.epoch_counts == [2, 2, 2, 2], "EarlyStopping ends each after its second epoch"
    assert own.epochs == 0 and stop.stopped_epoch == 0
    assert [len(curve) for record in finished() for curve in record.curves] == [2, 2, 2, 2]


def test_callbacks_that_hold_the_tuner_can_be_copied(tune):
    class Holder(keras.callbacks.Callback):
        def __init__(self, tuner):
            super().__init__()
            self.tuner = tuner

    tuner = tune(search=False)
    copy.deepcopy(Holder(tuner))


def test_tensorboard_writes_each_execution_into_its_own_folder(tune, tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path / "board")
    tune(fit={"callbacks": [board]}, executions_per_trial=2)
    written = {path.parent for path in (tmp_path / "board").glob("**/events*")}
    folders = {str(path.relative_to(tmp_path / "board")).split("/train")[0] for path in written}
    folders = {folder.split("/validation")[0] for folder in folders}
    assert folders == {f"{t}/execution{e}" for t in range(2) for e in range(2)}


# ---------------------------------------------------------------------- settings


def test_precision_applies_during_the_search_only(tune, build, data):
    policies = []

    def spy(hp):
        policies.append(keras.config.dtype_policy().name)
        return build(hp)

    tuner = tune(spy, precision="mixed_bfloat16", search=False)
    policies.clear()
    tuner.search(**data, verbose=0)
    assert keras.config.dtype_policy().name == "float32"
    assert policies == ["mixed_bfloat16"] * 3  # the look at the data, and two trials
    assert statuses(tuner) == ["COMPLETED"] * 2
    (model,) = tuner.get_best_models()
    assert model.layers[0].compute_dtype == "bfloat16"
    assert model.layers[0].kernel.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_the_dtype_policy_of_the_program_is_not_changed(tune, build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tuner = tune()
        (model,) = tuner.get_best_models()
        assert model.layers[0].compute_dtype == "bfloat16"
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_precision_is_restored_after_an_error(tune, build):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(precision="mixed_bfloat16", fit={"callbacks": [Broken()]})
    assert keras.config.dtype_policy().name == "float32"


def test_an_unknown_precision_is_an_error(tune):
    with pytest.raises(NASError, match="`precision` must be .* got 'float12'"):
        tune(precision="float12", search=False)


def test_a_mirrored_search_trains_on_two_virtual_devices(tmp_path):
    process = fork_server().run("tests.tuner.mirrored:search", cwd=tmp_path)
    assert process.returncode == 0, process.err
    assert json.loads(process.out) == {
        "distribution": "MirroredStrategy",
        "devices": "2",
        "statuses": ["COMPLETED", "COMPLETED"],
        "replicas": [2, 2],
        "same": True,
    }


def test_optimizer_loss_and_metrics_replace_those_of_the_models(tune, build, witness):
    compiled = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            compiled.append((type(self.model.optimizer).__name__, self.model.loss))

        def __deepcopy__(self, memo):
            return self

    tune(
        optimizer=keras.optimizers.RMSprop(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_top_k_categorical_accuracy"],
        fit={"callbacks": [Spy()]},
    )
    assert compiled == [("RMSprop", "sparse_categorical_crossentropy")] * 2
    assert "val_sparse_top_k_categorical_accuracy" in witness.records[0].metrics
    assert "val_accuracy" not in witness.records[0].metrics


def test_two_processes_do_not_run_the_same_search(tune, build, data):
    """The second process raises, changes nothing, and can resume when the first has ended."""
    first = tune(build, RandomOracle("val_loss", max_trials=2, seed=0), search=False)
    program = (
        "import sys; from keras_nas_plugin.project import exclusive_search_lock\n"
        "with exclusive_search_lock(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(first.project_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(
            StateError, match="`project_name` must be a search that no other process"
        ):
            first.search(**data, verbose=0)
        assert not first.oracle.trials
        process.communicate(b"")
    first.search(**data, verbose=0)
    assert len(first.oracle.trials) == 2

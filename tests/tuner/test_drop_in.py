"""What worked with a KerasTuner tuner works here; each search trains real models."""

from __future__ import annotations

import copy
import json
import math
import threading
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import NASTuner, RandomOracle, RegularizedEvolutionOracle
from keras_nas_plugin.errors import HyperModelError, NASError, ObjectiveError, SearchSpaceError
from keras_nas_plugin.tracking.records import FAILED, FINISHED, TrialRecord
from keras_nas_plugin.training import budget, callbacks, running
from tests.integration.forkserver import fork_server


def statuses(tuner):
    return [trial.status for _, trial in sorted(tuner.oracle.trials.items())]


def best_score(tuner):
    return tuner.oracle.get_best_trials(1)[0].score


# ---------------------------------------------------------------------- tuners and oracles


def test_stock_tuner_takes_our_oracle(build, data, tmp_path):
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
def test_our_tuner_takes_stock_oracles(tune, witness, oracle):
    tuner = tune(oracle=oracle)
    assert statuses(tuner) == ["COMPLETED"] * 3
    scores = {record.trial_id: record.score for record in witness.records}
    assert scores == {key: trial.score for key, trial in tuner.oracle.trials.items()}
    assert best_score(tuner) == min(scores.values())


class Keeper(keras.callbacks.Callback):
    """Writes down with which weights and epochs each training starts."""

    log: list = []

    def on_train_begin(self, logs=None):
        kernel = float(np.abs(self.model.get_weights()[0]).sum())
        epochs = self.params["epochs"]
        type(self).log.append([self.model.layers[0].units, epochs, kernel, None])

    def on_train_end(self, logs=None):
        type(self).log[-1][3] = float(np.abs(self.model.get_weights()[0]).sum())

    def __deepcopy__(self, memo):
        return Keeper()


def test_hyperband_goes_on_with_the_weights_of_the_promoted_trial(tune, witness, data):
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
    for trial_id, epoch, _ in witness.of("epoch_ended"):
        epochs.setdefault(trial_id, []).append(epoch)
    order = [trial_id for trial_id, _ in witness.of("trial_started")]
    for trial_id, values in witness.of("trial_started"):
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
    """Trains by hand, and calls the callbacks by hand."""

    def __init__(self, returns):
        super().__init__()
        self.returns = returns

    def build(self, hp):
        from keras_nas_plugin import NASTuner  # noqa: F401  # a hypermodel may import anything

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
def test_own_training_loop(tune, witness, finished, returns):
    objective = keras_tuner.Objective("my_loss", "min")
    oracle = RandomOracle(objective, max_trials=3, seed=0)
    tuner = tune(OwnLoop(returns), oracle, fit={"epochs": 2})
    records = finished()
    assert len(records) == 3
    assert [len(record.curves[0]) for record in records] == [2, 2, 2]
    for record in records:
        assert record.score == record.curves[0][-1]["my_loss"]
        assert ("other" in record.metrics) == (returns == "dict")
    # The first trial did not know of it and has its default; the others search it.
    rates = [record.values["rate"] for record in records]
    assert rates[0] == 0.01 and len(set(rates)) == 3
    assert [set(values) for _, values in witness.of("trial_started")][1:] == [
        {"units", "rate"}
    ] * 2
    assert tuner.get_best_hyperparameters()[0].values == dict(
        min(records, key=lambda record: record.score).values
    )


def test_own_loop_without_an_objective_minimises_what_it_returns(tune, finished):
    tuner = tune(OwnLoop("float"), RandomOracle(max_trials=2, seed=0))
    assert tuner.oracle.objective.name == "default_objective"
    assert best_score(tuner) == min(record.score for record in finished())


def test_conditional_scopes_hand_out_active_values_only(tune, witness):
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
    proposed = [values for _, values in witness.of("trial_started")]
    assert {values["kind"] for values in proposed} == {"plain", "deep"}
    for values in proposed:
        assert ("inner" in values) == (values["kind"] == "deep")


def test_several_executions_count_by_their_mean(tune, finished, data):
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


def test_given_hyperparameters_restrict_the_space(tune, finished):
    given = keras_tuner.HyperParameters()
    given.Int("units", 3, 4)
    oracle = RandomOracle(
        "val_loss", max_trials=9, seed=0, hyperparameters=given, allow_new_entries=False
    )
    tune(oracle=oracle)
    assert sorted(record.values["units"] for record in finished()) == [3, 4]


def test_new_entries_that_are_not_allowed_are_named(tune):
    given = keras_tuner.HyperParameters()
    given.Int("other", 3, 4)
    oracle = RandomOracle("val_loss", max_trials=9, hyperparameters=given, allow_new_entries=False)
    with pytest.raises((RuntimeError, SearchSpaceError), match="units|allow_new_entries"):
        tune(oracle=oracle)


def test_new_entries_that_are_not_tuned_keep_their_default(tune, finished, build):
    def two(hp):
        hp.Int("late", 1, 9, default=7)
        return build(hp)

    given = keras_tuner.HyperParameters()
    given.Int("units", 2, 64)
    oracle = RandomOracle(
        "val_loss", max_trials=3, seed=0, hyperparameters=given, tune_new_entries=False
    )
    tuner = tune(two, oracle)
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
    assert len(witness.records) == 8, "a size does not change: no retry"
    for record in witness.records:
        size = 7 * record.values["units"] + 2
        assert (record.status == FAILED) == (size > 200)
    assert "`max_model_size` allows 200 trainable parameters" in failed[0].error
    large = 7 * failed[0].values["units"] + 2
    assert f"this model has {large:,}" in failed[0].error
    assert len(tuner.get_best_models(8)) == len(finished())


def test_models_that_training_builds(tune, data):
    def build(hp):
        model = keras.Sequential([keras.layers.Dense(hp.Int("units", 2, 64))])
        model.add(keras.layers.Dense(2, activation="softmax"))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    tuner = tune(build)
    (model,) = tuner.get_best_models()
    assert model.evaluate(*data["validation_data"], verbose=0) == pytest.approx(best_score(tuner))


# ---------------------------------------------------------------------- data and callbacks


def test_tf_data(tune, data, witness, build):
    def batches(x, y):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    fit = {
        "x": batches(data["x"], data["y"]),
        "y": None,
        "validation_data": batches(*data["validation_data"]),
    }
    # As a graph, as most people train.
    tuner = tune(lambda hp: build(hp, run_eagerly=False), fit=fit)
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert {info.context for info in witness.search.datasets} == {"training", "validation"}
    (model,) = tuner.get_best_models()
    loss, _ = model.evaluate(fit["validation_data"], verbose=0)
    assert loss == pytest.approx(best_score(tuner), rel=1e-5)


def test_positional_data(tune, data, finished):
    tuner = tune(search=False)
    tuner.search(data["x"], data["y"], 16, 2, validation_split=0.25, verbose=0)
    assert [len(record.curves[0]) for record in finished()] == [2, 2]


def test_several_inputs(tune, data, witness):
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

    seen: list = []

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1

    def on_train_end(self, logs=None):
        type(self).seen.append(self.epochs)


def test_user_callbacks_are_copied_for_each_execution(tune, finished):
    Counting.seen = []
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10.0)
    own = Counting()
    tune(executions_per_trial=2, fit={"epochs": 5, "callbacks": [stop, own]})
    assert Counting.seen == [2, 2, 2, 2], "EarlyStopping ends each after its second epoch"
    assert own.epochs == 0 and stop.stopped_epoch == 0
    assert [len(curve) for record in finished() for curve in record.curves] == [2, 2, 2, 2]


def test_callbacks_may_hold_the_tuner(tune):
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


def test_precision_holds_during_the_search_only(tune, build, data):
    seen = []

    def spy(hp):
        seen.append(keras.config.dtype_policy().name)
        return build(hp)

    tuner = tune(spy, precision="mixed_bfloat16", search=False)
    seen.clear()
    tuner.search(**data, verbose=0)
    assert keras.config.dtype_policy().name == "float32"
    assert seen == ["mixed_bfloat16"] * 2
    assert statuses(tuner) == ["COMPLETED"] * 2
    (model,) = tuner.get_best_models()
    assert model.layers[0].compute_dtype == "bfloat16"
    assert model.layers[0].kernel.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_a_policy_of_the_program_is_left_alone(tune, build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tuner = tune()
        (model,) = tuner.get_best_models()
        assert model.layers[0].compute_dtype == "bfloat16"
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_precision_is_put_back_after_an_error(tune, build):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(precision="mixed_bfloat16", fit={"callbacks": [Broken()]})
    assert keras.config.dtype_policy().name == "float32"


def test_unknown_precision_is_refused(tune):
    with pytest.raises(NASError, match="`precision` needs .* received 'float12'"):
        tune(precision="float12", search=False)


def test_mirrored_over_two_virtual_devices(tmp_path):
    done = fork_server().run("tests.tuner.mirrored:search", cwd=tmp_path)
    assert done.returncode == 0, done.err
    assert json.loads(done.out) == {
        "distribution": "MirroredStrategy",
        "devices": "2",
        "statuses": ["COMPLETED", "COMPLETED"],
        "replicas": [2, 2],
        "same": True,
    }


def test_optimizer_loss_and_metrics_take_the_place_of_the_models(tune, build, witness):
    made = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            made.append((type(self.model.optimizer).__name__, self.model.loss))

        def __deepcopy__(self, memo):
            return self

    tune(
        optimizer=keras.optimizers.RMSprop(0.1),
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_top_k_categorical_accuracy"],
        fit={"callbacks": [Spy()]},
    )
    assert made == [("RMSprop", "sparse_categorical_crossentropy")] * 2
    assert "val_sparse_top_k_categorical_accuracy" in witness.records[0].metrics
    assert "val_accuracy" not in witness.records[0].metrics


# ---------------------------------------------------------------------- failures


def sometimes(build, fails):
    """A model that cannot be built for some values, as a function of the number of units."""

    def broken(hp):
        model = build(hp)
        if fails(hp.get("units")):
            raise ValueError(f"no {hp.get('units')} units today")
        return model

    return broken


def test_a_model_that_sometimes_raises_is_a_failed_trial(tune, build, witness, finished):
    oracle = RandomOracle("val_loss", max_trials=8, seed=0, max_consecutive_failed_trials=0)
    tuner = tune(sometimes(build, lambda units: units % 2), oracle)
    assert set(statuses(tuner)) == {"COMPLETED", "FAILED"}
    assert {record.values["units"] % 2 for record in finished()} == {0}
    failed = [record for record in witness.records if record.status == FAILED]
    assert failed[0].error == f"ValueError: no {failed[0].values['units']} units today"
    assert failed[0].score is None
    trials = tuner.oracle.get_best_trials(8)
    assert len(trials) == len(finished()) < 8
    assert len(tuner.get_best_models(8)) == len(tuner.get_best_hyperparameters(8)) == len(trials)


@pytest.mark.parametrize(
    "oracle",
    [
        lambda **options: RandomOracle("val_accuracy", max_trials=6, seed=0, **options),
        lambda **options: keras_tuner.oracles.RandomSearchOracle(
            "val_accuracy", max_trials=6, seed=0, **options
        ),
    ],
    ids=["ours", "stock"],
)
def test_a_loss_that_is_not_a_number_is_never_best(tune, build, data, oracle):
    def diverging(hp):
        wide = hp.Int("units", 2, 64) > 32
        return build(hp, optimizer=keras.optimizers.SGD(math.inf if wide else 0.01))

    # Whatever the model says, the first class is right: accuracy 1.0 for a model of NaNs.
    x_val = data["validation_data"][0]
    fit = {"y": np.zeros_like(data["y"]), "validation_data": (x_val, np.zeros(len(x_val), int))}
    tuner = tune(diverging, oracle(max_consecutive_failed_trials=9), fit=fit)
    assert "COMPLETED" in statuses(tuner)
    for trial in tuner.oracle.trials.values():
        wide = trial.hyperparameters.values["units"] > 32
        assert trial.status == ("FAILED" if wide else "COMPLETED")
    assert tuner.get_best_hyperparameters()[0].values["units"] <= 32
    assert all(model.layers[0].units <= 32 for model in tuner.get_best_models(6))


def test_too_many_failures_end_the_search_with_the_last_error(tune, build):
    broken = sometimes(build, lambda units: units != 2)
    with pytest.raises(RuntimeError, match=r"3 trials in a row failed.*no \d+ units today"):
        tune(broken, RandomOracle("val_loss", max_trials=8, seed=1))


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_the_result_of_a_retry_counts(tune, build, finished, witness, stock):
    made = []

    def flaky(hp):
        made.append(hp.get("units") if "units" in hp.values else None)
        if len(made) == 2:  # the first one explores the space
            raise OSError("the data set was away for a moment")
        return build(hp)

    kind = keras_tuner.oracles.RandomSearchOracle if stock else RandomOracle
    oracle = kind("val_loss", max_trials=2, seed=0, max_retries_per_trial=1)
    tuner = tune(flaky, oracle)
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert [record.status for record in witness.records].count(FAILED) == 1
    for trial in tuner.oracle.trials.values():
        record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
        assert record.status == FINISHED and record.score == trial.score


@pytest.mark.parametrize("returned", [None, "text", keras.layers.Dense(2)])
def test_a_builder_that_returns_no_model(tune, returned):
    def wrong(hp):
        hp.Int("units", 2, 9)
        return returned

    name = type(returned).__name__
    with pytest.raises(HyperModelError, match=f"`hypermodel` needs build.* received {name}"):
        tune(wrong)


def test_a_fit_that_returns_nothing(tune, build):
    class Forgetful(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            model.fit(*args, **kwargs)

    with pytest.raises(HyperModelError, match="Is a `return model.fit"):
        tune(Forgetful())


def test_an_objective_that_no_epoch_reports(tune, data):
    oracle = RandomOracle(keras_tuner.Objective("val_quality", "max"), max_trials=3)
    with pytest.raises(ObjectiveError, match="received 'val_quality'.* 'val_accuracy'"):
        tune(oracle=oracle)
    with pytest.raises(ObjectiveError, match="Pass `validation_data`"):
        tune(fit={"validation_data": None}, overwrite=True)


def test_a_misread_objective_of_a_stock_oracle_is_refused(tune):
    oracle = keras_tuner.oracles.RandomSearchOracle("val_f1_score")
    with pytest.raises(ObjectiveError, match=r'Objective\("val_f1_score", "max"\)'):
        tune(oracle=oracle, search=False)


def test_a_space_in_which_nothing_varies(tune, build):
    def constant(hp):
        hp.Fixed("units", 8)
        return build(hp)

    with pytest.raises(SearchSpaceError, match="nothing varies"):
        tune(constant)


def test_a_folder_that_cannot_be_written(tune, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NASError, match="`directory` needs a folder that can be written"):
        tune(directory=tmp_path / "file" / "below", search=False)


# ---------------------------------------------------------------------- results


def test_the_best_model_evaluates_to_the_recorded_score(tune, build, data):
    oracle = RandomOracle("val_accuracy", max_trials=3, seed=0)
    tuner = tune(lambda hp: build(hp, optimizer="adam"), oracle, fit={"epochs": 4})
    for model, trial in zip(tuner.get_best_models(3), oracle.get_best_trials(3), strict=True):
        assert model.layers[0].units == trial.hyperparameters.values["units"]
        _, accuracy = model.evaluate(*data["validation_data"], verbose=0)
        assert accuracy == pytest.approx(trial.score, abs=1e-6)


def test_results_summary_lists_completed_trials(tune, build, capsys):
    oracle = RandomOracle("val_loss", max_trials=5, seed=0, max_consecutive_failed_trials=0)
    tuner = tune(sometimes(build, lambda units: units % 2), oracle)
    capsys.readouterr()
    tuner.results_summary()
    shown = capsys.readouterr().out
    completed = statuses(tuner).count("COMPLETED")
    assert 0 < completed < 5
    assert [f"#{rank} trial" in shown for rank in range(1, 6)] == [
        rank <= completed for rank in range(1, 6)
    ]
    assert "Objective: val_loss (min)" in shown and "parameters:" in shown
    assert f"{best_score(tuner):.6g}" in shown


# ---------------------------------------------------------------------- hooks


def test_an_interrupt_kills_the_trial_and_a_second_search_goes_on(tune, data, witness):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if len(witness.records) == 1 and epoch == 1:
                raise KeyboardInterrupt

        def __deepcopy__(self, memo):
            return self

    with pytest.raises(KeyboardInterrupt):
        tune(fit={"callbacks": [Interrupt()], "epochs": 3})
    assert [record.status for record in witness.records] == [FINISHED, "KILLED"]
    assert witness.of("search_ended") == [("KILLED",)]
    killed = witness.records[1]
    assert killed.error == "KeyboardInterrupt" and len(killed.curves[0]) == 1
    tuner = tune(oracle=RandomOracle("val_loss", max_trials=2, seed=99))
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert [(r.trial_id, r.status) for r in witness.records[2:]] == [("1", FINISHED)]
    assert witness.records[2].values == killed.values
    assert witness.of("search_ended")[-1] == (FINISHED,)


def test_an_interrupt_while_the_tracker_opens_a_run_kills_that_trial(tune, witness):
    class Slow(type(witness)):
        def trial_started(self, trial_id, values):
            raise KeyboardInterrupt

    slow = Slow()
    with pytest.raises(KeyboardInterrupt):
        tune(tracker=slow)
    assert [(record.trial_id, record.status) for record in slow.records] == [("0", "KILLED")]


@pytest.mark.parametrize("method", ["search_started", "trial_started", "epoch_ended"])
def test_a_listener_that_raises_does_not_end_the_search(tune, witness, method, caplog):
    class Broken(type(witness)):
        pass

    def fail(self, *args):
        raise RuntimeError("the display is gone")

    setattr(Broken, method, fail)
    tuner = tune(listeners=[Broken()])
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert f"Broken could not take `{method}`: the display is gone" in caplog.text


@pytest.mark.parametrize(
    "method",
    [
        "trial_ended",
        "search_ended",
        pytest.param("run_id", marks=pytest.mark.xfail(reason="not guarded yet")),
    ],
)
def test_a_tracker_that_raises_at_the_end_does_not_end_the_search(tune, witness, method):
    class Broken(type(witness)):
        pass

    def fail(self, *args):
        raise RuntimeError("the server is gone")

    setattr(Broken, method, fail)
    tuner = tune(tracker=Broken(), listeners=[witness])
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert len(witness.records) == 2


def test_a_subclass_may_run_trials_itself(tmp_path):
    class Black(NASTuner):
        def run_trial(self, trial, *args, **kwargs):
            return (trial.hyperparameters.Float("x", -2.0, 2.0) - 1) ** 2

    oracle = RegularizedEvolutionOracle(max_trials=12, population_size=4, seed=0)
    tuner = Black(oracle=oracle, directory=tmp_path)
    tuner.search()
    assert statuses(tuner) == [TrialStatus.COMPLETED] * 12
    for trial in oracle.trials.values():
        assert trial.score == (trial.hyperparameters.values["x"] - 1) ** 2
    assert best_score(tuner) == min(trial.score for trial in oracle.trials.values())


def test_a_subclass_hears_of_batches_and_epochs(tune):
    heard = []

    class Listening(NASTuner):
        def on_batch_end(self, trial, model, batch, logs=None):
            heard.append((trial.trial_id, "batch", batch, "loss" in logs))

        def on_epoch_end(self, trial, model, epoch, logs=None):
            heard.append((trial.trial_id, "epoch", epoch, "val_loss" in logs))

    tune(cls=Listening, fit={"batch_size": 16})
    expected = [("batch", 0, True), ("batch", 1, True), ("epoch", 0, True)]
    assert heard == [(trial, *event) for trial in "01" for event in expected]


def test_a_named_tuner_goes_on_with_its_search(tune, witness):
    tune(tuner_id="worker-7")
    first = [record.score for record in witness.records]
    tuner = tune(tuner_id="worker-7", oracle=RandomOracle("val_loss", max_trials=3, seed=5))
    assert len(tuner.oracle.trials) == len(witness.records) == 3
    assert [record.score for record in witness.records][:2] == first


# ---------------------------------------------------------------------- budget


def test_no_trial_is_started_that_cannot_finish(tune, witness, monkeypatch):
    now = [1000.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0],
        time_ns=lambda: int(now[0] * 1e9),
    )
    for module in (budget, callbacks, running):
        monkeypatch.setattr(module, "time", clock)

    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            now[0] += 40.0

        def __deepcopy__(self, memo):
            return self

    def run(seconds):
        oracle = RandomOracle("val_loss", max_trials=9, seed=0)
        return tune(oracle=oracle, budget=seconds, fit={"callbacks": [Slow()]})

    tuner = run(100.0)
    # The third would end at 120.
    assert statuses(tuner) == ["COMPLETED"] * 2 and tuner.stopped_by == "budget"
    # A resumed search knows how long a trial takes: none of 40 seconds ends within 30.
    assert len(run(30.0).oracle.trials) == 2
    assert statuses(run(170.0)) == ["COMPLETED"] * 6
    assert witness.of("search_ended") == [(FINISHED,)] * 3


def test_a_trial_is_cut_off_when_the_budget_ends_and_runs_again(tune, witness, finished):
    tuner = tune(budget=0.5, fit={"epochs": 1_000_000})
    assert tuner.stopped_by == "budget"
    (cut,) = witness.records
    assert cut.status == "KILLED" and "`budget` of 0.5 seconds" in cut.error
    assert sum(map(len, cut.curves)) < 1_000_000
    assert finished() == []
    tuner = tune()
    assert tuner.stopped_by is None
    assert statuses(tuner) == ["COMPLETED"] * 2
    again = witness.records[1]
    assert (again.trial_id, again.values, again.status) == (cut.trial_id, cut.values, FINISHED)


def test_a_failed_trial_leaves_no_timer_behind(tune):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ValueError("broken")

    tune(
        oracle=RandomOracle("val_loss", max_trials=2, max_consecutive_failed_trials=0),
        budget=3600.0,
        fit={"callbacks": [Broken()]},
    )
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

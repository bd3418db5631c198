"""Promoted trials continue the trainings of their parents exactly; real models are trained."""

from __future__ import annotations

import errno
import os

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import RandomOracle, SuccessiveHalvingOracle
from keras_nas_plugin.errors import StateError, StrategyError
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import KILLED, load_records
from keras_nas_plugin.tracking.mlflow.payload import points_of
from keras_nas_plugin.training.weights import load_state, save_state
from tests.tuner.outcome import statuses

# Rungs of 1, 2 and 4 epochs: two configurations give two trials and two promotions of the best.
FIT = {"epochs": 4, "shuffle": False, "batch_size": 16}
QUICK = {**FIT, "batch_size": 32}


def halving(objective="val_loss", max_trials=2, *, cls=SuccessiveHalvingOracle, **options):
    return cls(objective, max_trials=max_trials, seed=0, **{"factor": 2, **options})


def model_of(units, optimizer, *, dropout=0.3, **options):
    """A model whose initial weights and dropout depend on the number of units alone."""
    keras.utils.set_random_seed(units)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.BatchNormalization(momentum=0.7),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    options = {"metrics": ["accuracy"], "run_eagerly": True} | options
    model.compile(optimizer(), "sparse_categorical_crossentropy", **options)
    return model


def builder(optimizer, **options):
    def build(hp):
        return model_of(hp.Int("units", 2, 64), optimizer, **options)

    return build


def scheduled_adam():
    rate = keras.optimizers.schedules.CosineDecay(0.05, decay_steps=9)
    return keras.optimizers.Adam(rate)


def averaged_momentum():
    return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, use_ema=True)


def seeded(build):
    """Seed a builder, so that initial weights depend on the number of units alone."""

    def seeded_build(hp):
        keras.utils.set_random_seed(hp.Int("units", 2, 64))
        return build(hp)

    return seeded_build


def fully_trained(records):
    """The record of the trial that was trained in full, after two promotions."""
    (top,) = [record for record in records if record.rung == 2]
    return top


def lineage(records, top):
    by_id, chain = {record.trial_id: record for record in records}, [top]
    while (parent := chain[0].values.get("tuner/trial_id")) is not None:
        chain.insert(0, by_id[parent])
    return chain


# ---------------------------------------------------------------------- exactness


@pytest.mark.parametrize("optimizer", [scheduled_adam, averaged_momentum])
def test_a_training_continued_twice_equals_an_uninterrupted_one(tune, data, finished, optimizer):
    """Optimizer moments, learning rate, moving averages, batch statistics and dropout continue."""
    tuner = tune(builder(optimizer), halving(), fit=FIT)
    assert set(statuses(tuner)) == {"COMPLETED"}
    top = fully_trained(finished())
    chain = lineage(finished(), top)
    assert [(record.first_epoch, len(record.curves[0])) for record in chain] == [
        (0, 1),
        (1, 1),
        (2, 2),
    ]
    lineage_curve = [logs for record in chain for logs in record.curves[0]]
    uninterrupted = model_of(top.values["units"], optimizer)
    history = uninterrupted.fit(**data, **FIT, verbose=0).history
    for name, values in history.items():
        assert [logs[name] for logs in lineage_curve] == pytest.approx(values, rel=1e-5), name
    assert top.score == pytest.approx(min(history["val_loss"]), rel=1e-5)
    assert top.best_step == int(np.argmin(history["val_loss"]))


@pytest.mark.parametrize("optimizer", [scheduled_adam, averaged_momentum])
def test_a_loaded_state_equals_the_saved_one_in_all_variables(data, tmp_path, optimizer):
    trained = model_of(8, optimizer)
    trained.fit(**data, verbose=0)
    save_state(trained, tmp_path / "state.weights.h5")
    fresh = model_of(8, optimizer)
    load_state(fresh, tmp_path / "state.weights.h5")
    pairs = [
        *zip(trained.variables, fresh.variables, strict=True),
        *zip(trained.optimizer.variables, fresh.optimizer.variables, strict=True),
    ]
    assert len(pairs) > 15
    for variable, restored in pairs:
        assert np.array_equal(np.asarray(variable), np.asarray(restored)), variable.path


def test_continuation_with_a_graph_mixed_precision_and_positional_epochs(tune, data, finished):
    def build(hp):
        return model_of(hp.Int("units", 2, 64), scheduled_adam, run_eagerly=False)

    tuner = tune(build, halving(), search=False, precision="mixed_float16")
    tuner.search(
        data["x"], data["y"], 16, 4, 0, shuffle=False, validation_data=data["validation_data"]
    )
    chain = lineage(finished(), fully_trained(finished()))
    assert [len(record.curves[0]) for record in chain] == [1, 1, 2]
    lineage_curve = [logs["loss"] for record in chain for logs in record.curves[0]]
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = model_of(chain[0].values["units"], scheduled_adam, run_eagerly=False)
        history = model.fit(**data, **FIT, verbose=0).history
    finally:
        keras.config.set_dtype_policy(former)
    assert lineage_curve == pytest.approx(history["loss"], rel=1e-3)


def test_each_execution_continues_its_own_training(tune, finished, data):
    def build(hp):
        return model_of(hp.Int("units", 2, 64), scheduled_adam)

    class Shifted(keras_tuner.HyperModel):
        """Executions that differ: every second one trains on inverted labels."""

        count = 0

        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, x, y, **kwargs):
            y = y if Shifted.count % 2 == 0 else 1 - y
            Shifted.count += 1
            return model.fit(x, y, **kwargs)

    tune(Shifted(), halving(), fit=FIT, executions_per_trial=2)
    top = fully_trained(finished())
    chain = lineage(finished(), top)
    best = []
    for execution in range(2):
        labels = data["y"] if execution == 0 else 1 - data["y"]
        model = model_of(top.values["units"], scheduled_adam)
        history = model.fit(**{**data, "y": labels}, **FIT, verbose=0).history["val_loss"]
        lineage_curve = [logs["val_loss"] for record in chain for logs in record.curves[execution]]
        assert lineage_curve == pytest.approx(history, rel=1e-5)
        best.append(min(history))
    assert top.score == pytest.approx(sum(best) / 2, rel=1e-5)


# ---------------------------------------------------------------------- scores and callbacks


def diverging():
    """An optimizer whose training diverges after some epochs."""
    return keras.optimizers.SGD(
        keras.optimizers.schedules.PiecewiseConstantDecay([2, 4], [0.3, 0.1, 100.0])
    )


def test_the_score_and_weights_are_those_of_the_best_epoch_of_all_rungs(tune, finished, data):
    tuner = tune(builder(diverging, dropout=0.0), halving(), fit=FIT)
    records = finished()
    chain = lineage(records, fully_trained(records))
    for previous, later in zip(chain, chain[1:], strict=False):
        assert later.score <= previous.score
    assert chain[-1].score == chain[-2].score, "the last two epochs were worse"
    assert chain[-1].best_step == chain[-2].best_step < 2
    assert min(logs["val_loss"] for logs in chain[-1].curves[0]) > chain[-1].score
    for trial in tuner.oracle.get_best_trials(2):
        loss, _ = tuner.load_model(trial).evaluate(*data["validation_data"], verbose=0)
        assert loss == pytest.approx(trial.score, rel=1e-5)


def test_numbers_that_fit_returns_are_the_metrics(tune, build, finished):
    class Number(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            history = model.fit(*args, **kwargs)
            return {"val_loss": history.history["val_loss"][-1], "epochs": len(history.epoch)}

    tune(Number(), halving(), fit=QUICK)
    for record in finished():
        assert record.score == record.curves[0][-1]["val_loss"]
        assert record.metrics["epochs"] == len(record.curves[0])


def test_trackers_are_notified_of_continued_epoch_numbers(tune, build, finished, witness):
    tune(build, halving(), fit=QUICK)
    top = fully_trained(finished())
    epochs = [
        epoch
        for trial_id, epoch, _ in witness.events_of("epoch_ended")
        if trial_id == top.trial_id
    ]
    assert epochs == [2, 3]
    points, _ = points_of(top, witness.search)
    curve = [(point.step, point.value) for point in points if point.key == "by_epoch/loss"]
    assert curve == [(2 + i, logs["loss"]) for i, logs in enumerate(top.curves[0])]
    times = [point.time_ms for point in points if point.key == "by_epoch/loss"]
    assert times == sorted(times) and times[-1] == top.ended_ms


def test_continuation_starts_from_the_last_epoch_with_callbacks_that_change_the_model(
    tune, finished, data
):
    """The saved state is that after the last epoch, including the changes of other callbacks."""
    rates = {}

    class Rates(keras.callbacks.Callback):
        def __init__(self, tuner=None):
            super().__init__()

        def on_epoch_begin(self, epoch, logs=None):
            rates.setdefault(self.model.layers[0].units, []).append(
                (epoch, round(float(self.model.optimizer.learning_rate), 6))
            )

    class Slower(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = self.model.optimizer.learning_rate * 0.5

    stop = keras.callbacks.EarlyStopping("val_loss", patience=99, restore_best_weights=True)
    fit = {**FIT, "callbacks": [stop, Rates(), Slower()]}
    build = builder(lambda: keras.optimizers.SGD(0.5))
    tune(build, halving(), fit=fit)
    top = fully_trained(finished())
    expected = [(epoch, round(0.5 * 0.5**epoch, 6)) for epoch in range(4)]
    assert rates[top.values["units"]] == expected
    model = model_of(top.values["units"], lambda: keras.optimizers.SGD(0.5))
    history = model.fit(**data, **FIT, verbose=0, callbacks=[Slower()]).history["val_loss"]
    lineage_curve = [
        logs["val_loss"] for record in lineage(finished(), top) for logs in record.curves[0]
    ]
    assert lineage_curve == pytest.approx(history, rel=1e-5)


def test_a_trial_that_was_stopped_early_may_be_continued(tune, build, finished):
    class Second(keras.callbacks.Callback):
        """Ends each training after its first epoch."""

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    tune(build, halving(), fit={**QUICK, "callbacks": [Second()]})
    chain = lineage(finished(), fully_trained(finished()))
    assert [(record.first_epoch, len(record.curves[0])) for record in chain] == [
        (0, 1),
        (1, 1),
        (2, 1),
    ]
    assert chain[-1].score == min(record.curves[0][0]["val_loss"] for record in chain)


# ---------------------------------------------------------------------- files


def states(tmp_path):
    return sorted(path.parent.name for path in tmp_path.glob("p/trial_*/last_*"))


def test_no_state_remains_when_the_search_has_ended(tune, build, tmp_path):
    state_files = []

    class Watching(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            state_files.append(states(tmp_path))

        def __deepcopy__(self, memo):
            return self

    fit = {**QUICK, "callbacks": [Watching()]}
    tune(build, halving(), fit=fit)
    assert any(state_files) and states(tmp_path) == []
    assert all(len(files) <= 2 for files in state_files), (
        "the state of a trial, and that of its promotion"
    )


def test_searches_without_promotions_write_no_states(tune, build, tmp_path):
    tune(build, RandomOracle("val_loss", max_trials=1), fit={"epochs": 2})
    tune(
        build,
        keras_tuner.oracles.HyperbandOracle("val_loss", max_epochs=2, factor=2, seed=0),
        overwrite=True,
    )
    assert states(tmp_path) == []


def test_an_interrupted_promotion_runs_again_from_the_same_state(tune, build, finished, witness):
    uninterrupted = tune(seeded(build), halving(), fit=QUICK, project_name="uninterrupted")
    expected = [(t.hyperparameters.values, t.score) for t in trials_of(uninterrupted)]

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch in (1, 3) and epoch not in interrupted_at:
                interrupted_at.add(epoch)
                raise KeyboardInterrupt

        def __deepcopy__(self, memo):
            return self

    interrupted_at, fit = set(), {**QUICK, "callbacks": [Interrupt()]}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune(seeded(build), halving(), fit=fit)
    tuner = tune(seeded(build), halving(), fit=fit)
    received = [(t.hyperparameters.values, t.score) for t in trials_of(tuner)]
    assert [values for values, _ in received] == [values for values, _ in expected]
    assert [s for _, s in received] == pytest.approx([s for _, s in expected], rel=1e-5)
    assert [record.status for record in witness.records].count(KILLED) == 2


def trials_of(tuner):
    return [trial for _, trial in sorted(tuner.oracle.trials.items())]


def test_a_trial_that_finished_when_the_process_died_is_not_trained_again(tune, build, tmp_path):
    """The record was written but the oracle's file was not; the promotion needs the state."""

    class Dying(SuccessiveHalvingOracle):
        def end_trial(self, trial):
            if trial.trial_id == "2" and not died:
                died.append(trial.trial_id)
                raise SystemExit("killed")
            super().end_trial(trial)

    died = []
    with pytest.raises(SystemExit):
        tune(build, halving(cls=Dying), fit=QUICK)
    assert ProjectLayout(tmp_path / "p").trial("2").last_epoch(0).exists()
    tuner = tune(build, halving(cls=Dying), fit=QUICK)
    assert set(statuses(tuner)) == {"COMPLETED"}
    records = list(load_records(tmp_path / "p"))
    assert [len(record.curves[0]) for record in records] == [1, 1, 1, 2]
    assert states(tmp_path) == []


@pytest.mark.parametrize(
    "missing_file", ["last_0.weights.h5", "checkpoint.weights.h5", "record.json"]
)
def test_a_trial_with_a_missing_file_is_trained_from_the_first_epoch(
    tune, build, data, finished, tmp_path, caplog, missing_file
):
    class Losing(SuccessiveHalvingOracle):
        def populate_space(self, trial_id):
            proposal = super().populate_space(trial_id)
            values = proposal["values"] or {}
            if values.get("tuner/round") == 2:
                (tmp_path / "p" / f"trial_{values['tuner/trial_id']}" / missing_file).unlink()
            return proposal

    tune(seeded(build), halving(cls=Losing), fit=QUICK)
    top = fully_trained(finished())
    assert (top.first_epoch, len(top.curves[0])) == (0, 4)
    assert "cannot be trained further, because" in caplog.text
    hp = keras_tuner.HyperParameters()
    hp.values = dict(top.values)
    history = seeded(build)(hp).fit(**data, **QUICK, verbose=0).history
    assert top.score == pytest.approx(min(history["val_loss"]), rel=1e-5)
    assert [logs["loss"] for logs in top.curves[0]] == pytest.approx(history["loss"], rel=1e-5)


def test_an_extended_search_trains_promoted_trials_from_the_first_epoch(
    tune, build, finished, tmp_path, caplog
):
    class Worse(keras_tuner.HyperModel):
        """Each training is worse than the one before, so the first two are the best."""

        count = 0

        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            model.fit(*args, **kwargs)
            Worse.count += 1
            return {"val_loss": Worse.count}

    tune(Worse(), halving(), fit=QUICK)
    assert states(tmp_path) == []
    tuner = tune(Worse(), halving(max_trials=4), fit=QUICK)
    assert set(statuses(tuner)) == {"COMPLETED"}
    second = [record for record in finished() if record.values.get("tuner/trial_id") == "1"]
    assert [(record.first_epoch, len(record.curves[0])) for record in second] == [(0, 2)]
    assert caplog.text.count("Trial 1 cannot be trained further, because") == 1
    assert states(tmp_path) == []


def test_a_full_disk_ends_the_search_and_loses_no_trial(tune, build, monkeypatch, tmp_path):
    replace = os.replace

    def full(source, target, **options):
        if "last_" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StateError, match="`directory` must have space for the state of a trial"):
        tune(build, halving(), fit=QUICK)
    monkeypatch.setattr(os, "replace", replace)
    tuner = tune(build, halving(), fit=QUICK)
    assert statuses(tuner) == ["COMPLETED"] * 4


# ---------------------------------------------------------------------- epochs and tuners


def test_epochs_that_differ_from_max_epochs_of_the_oracle_are_an_error(tune):
    with pytest.raises(StrategyError, match="`max_epochs` must equal the `epochs` of `search`"):
        tune(builder(scheduled_adam), halving(max_epochs=27), fit=FIT)


def test_the_number_of_epochs_may_be_set_in_the_oracle_alone(tune, build, finished):
    tune(build, halving(max_epochs=4))
    assert sorted({len(record.curves[0]) for record in finished()}) == [1, 2]
    assert fully_trained(finished()).values["tuner/epochs"] == 4


def test_models_that_are_built_by_fit_continue(tune, finished, data):
    def build(hp):
        keras.utils.set_random_seed(hp.Int("units", 2, 64))
        model = keras.Sequential([keras.layers.Dense(hp.get("units"), activation="relu")])
        model.add(keras.layers.Dense(2, activation="softmax"))
        model.compile(scheduled_adam(), "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    tune(build, halving(), fit=FIT)
    chain = lineage(finished(), fully_trained(finished()))
    hp = keras_tuner.HyperParameters()
    hp.values = dict(chain[0].values)
    history = build(hp).fit(**data, **FIT, verbose=0).history["val_loss"]
    lineage_curve = [logs["val_loss"] for record in chain for logs in record.curves[0]]
    assert lineage_curve == pytest.approx(history, rel=1e-5)


def test_a_custom_tuner_can_read_the_epochs_from_the_values(tmp_path):
    """As with KerasTuner's Hyperband, from `tuner/initial_epoch` to `tuner/epochs`."""
    ranges = []

    class Own(keras_tuner.Tuner):
        def run_trial(self, trial, *args, **kwargs):
            hp = trial.hyperparameters
            ranges.append((hp.values["tuner/initial_epoch"], hp.values["tuner/epochs"]))
            return hp.Float("x", 0.0, 1.0) / hp.values["tuner/epochs"]

    oracle = SuccessiveHalvingOracle(max_trials=9, max_epochs=9, seed=0)
    oracle.train_in_rungs()
    Own(oracle=oracle, directory=tmp_path, project_name="own").search(verbose=0)
    assert set(ranges) == {(0, 1), (1, 3), (3, 9)}
    assert ranges.count((0, 1)) == 9

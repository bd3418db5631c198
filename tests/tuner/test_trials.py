"""Trials that fail, are interrupted, or run out of time, and the hooks that are notified."""

from __future__ import annotations

import math
import threading
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import NASTuner, RandomOracle, RegularizedEvolutionOracle, project
from keras_nas_plugin.errors import HyperModelError, NASError, ObjectiveError
from keras_nas_plugin.records.overwritten import OverwrittenSearch
from keras_nas_plugin.records.trial import FAILED, FINISHED, TrialRecord
from keras_nas_plugin.training import budget, callbacks, running
from tests.tuner.outcome import best_score, statuses

# ---------------------------------------------------------------------- failures


def failing_builder(build, fails):
    """A builder that raises an error for the numbers of units for which ``fails`` is true."""

    def broken(hp):
        model = build(hp)
        if fails(hp.get("units")):
            raise ValueError(f"no {hp.get('units')} units today")
        return model

    return broken


def test_an_error_in_the_builder_is_a_failed_trial(tune, build, witness, finished):
    oracle = RandomOracle("val_loss", max_trials=8, seed=0, max_consecutive_failed_trials=0)
    tuner = tune(failing_builder(build, lambda units: units % 2), oracle)
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
def test_a_trial_with_a_loss_of_nan_fails_and_is_never_best(tune, build, data, oracle):
    def diverging(hp):
        wide = hp.Int("units", 2, 64) > 32
        return build(hp, optimizer=keras.optimizers.SGD(math.inf if wide else 0.01))

    # All labels are the first class, so a model that predicts NaN has an accuracy of 1.0.
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
    broken = failing_builder(build, lambda units: units != 2)
    with pytest.raises(RuntimeError, match=r"3 trials in a row failed.*no \d+ units today"):
        tune(broken, RandomOracle("val_loss", max_trials=8, seed=1))


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_a_trial_that_succeeds_when_retried_is_completed(tune, build, finished, witness, stock):
    builds = []

    def flaky(hp):
        builds.append(hp.get("units") if "units" in hp.values else None)
        if len(builds) == 3:  # the first build explores the space, the second checks the data
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
def test_a_builder_that_returns_no_model_is_an_error(tune, returned):
    def wrong(hp):
        hp.Int("units", 2, 9)
        return returned

    name = type(returned).__name__
    with pytest.raises(
        HyperModelError, match=rf"`hypermodel` must have a build\(hp\).* got {name}"
    ):
        tune(wrong)


def test_a_fit_that_returns_nothing_is_an_error(tune, build):
    class Forgetful(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            model.fit(*args, **kwargs)

    with pytest.raises(HyperModelError, match="Is a `return model.fit"):
        tune(Forgetful())


def test_an_objective_that_no_epoch_reports_is_an_error(tune, data):
    oracle = RandomOracle(keras_tuner.Objective("val_quality", "max"), max_trials=3)
    with pytest.raises(ObjectiveError, match="got 'val_quality'.*'val_accuracy'"):
        tune(oracle=oracle)
    with pytest.raises(ObjectiveError, match="Pass `validation_data`"):
        tune(fit={"validation_data": None}, overwrite=True)


def test_an_inferred_direction_of_a_stock_oracle_that_is_wrong_is_an_error(tune):
    oracle = keras_tuner.oracles.RandomSearchOracle("val_f1_score")
    with pytest.raises(ObjectiveError, match=r'Objective\("val_f1_score", "max"\)'):
        tune(oracle=oracle, search=False)


def test_a_folder_that_cannot_be_written_is_an_error(tune, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NASError, match="`directory` must be a writable folder"):
        tune(directory=tmp_path / "file" / "below", search=False)


def test_a_search_remembers_which_search_it_has_overwritten(tune, tmp_path):
    tune(search=False)
    assert OverwrittenSearch.load(tmp_path / "p") == ()
    first = project.search_id(tmp_path / "p")
    tune(search=False, overwrite=True)
    assert OverwrittenSearch.load(tmp_path / "p") == (OverwrittenSearch(first),)


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
    tuner = tune(failing_builder(build, lambda units: units % 2), oracle)
    capsys.readouterr()
    tuner.results_summary()
    output = capsys.readouterr().out
    completed = statuses(tuner).count("COMPLETED")
    assert 0 < completed < 5
    assert [f"#{rank} trial" in output for rank in range(1, 6)] == [
        rank <= completed for rank in range(1, 6)
    ]
    assert "Objective: val_loss (min)" in output and "parameters:" in output
    assert f"{best_score(tuner):.6g}" in output


# ---------------------------------------------------------------------- hooks


def test_an_interrupt_kills_the_trial_and_a_second_search_resumes(tune, data, witness):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if len(witness.records) == 1 and epoch == 1:
                raise KeyboardInterrupt

        def __deepcopy__(self, memo):
            return self

    with pytest.raises(KeyboardInterrupt):
        tune(fit={"callbacks": [Interrupt()], "epochs": 3})
    assert [record.status for record in witness.records] == [FINISHED, "KILLED"]
    assert witness.events_of("search_ended") == [("KILLED",)]
    killed = witness.records[1]
    assert killed.error == "KeyboardInterrupt" and len(killed.curves[0]) == 1
    tuner = tune(oracle=RandomOracle("val_loss", max_trials=2, seed=99), fit={"epochs": 3})
    assert statuses(tuner) == ["COMPLETED"] * 2
    assert [(r.trial_id, r.status) for r in witness.records[2:]] == [("1", FINISHED)]
    assert witness.records[2].values == killed.values
    assert witness.events_of("search_ended")[-1] == (FINISHED,)


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
    assert f"Broken failed on `{method}`: the display is gone" in caplog.text


@pytest.mark.parametrize(
    "method",
    [
        "trial_ended",
        "search_ended",
        "run_id",
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


def test_a_subclass_may_override_run_trial(tmp_path):
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


def test_batch_and_epoch_hooks_of_a_subclass_are_called(tune):
    calls = []

    class Listening(NASTuner):
        def on_batch_end(self, trial, model, batch, logs=None):
            calls.append((trial.trial_id, "batch", batch, "loss" in logs))

        def on_epoch_end(self, trial, model, epoch, logs=None):
            calls.append((trial.trial_id, "epoch", epoch, "val_loss" in logs))

    tune(cls=Listening, fit={"batch_size": 16})
    expected = [("batch", 0, True), ("batch", 1, True), ("epoch", 0, True)]
    assert calls == [(trial, *event) for trial in "01" for event in expected]


def test_a_tuner_with_an_id_resumes_its_search(tune, witness):
    tune(tuner_id="worker-7")
    first = [record.score for record in witness.records]
    tuner = tune(tuner_id="worker-7", oracle=RandomOracle("val_loss", max_trials=3, seed=5))
    assert len(tuner.oracle.trials) == len(witness.records) == 3
    assert [record.score for record in witness.records][:2] == first


# ---------------------------------------------------------------------- budget


def test_a_trial_that_cannot_finish_within_the_budget_is_not_started(tune, witness, monkeypatch):
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
    # The third trial would end after 120 seconds.
    assert statuses(tuner) == ["COMPLETED"] * 2 and tuner.stopped_by == "budget"
    # A resumed search knows that a trial takes 40 seconds, which exceed a budget of 30.
    assert len(run(30.0).oracle.trials) == 2
    assert statuses(run(170.0)) == ["COMPLETED"] * 6
    assert witness.events_of("search_ended") == [(FINISHED,)] * 3


def test_a_trial_that_the_budget_interrupts_runs_again_in_the_next_search(tune, witness, finished):
    tuner = tune(budget=0.5, fit={"epochs": 1_000_000})
    assert tuner.stopped_by == "budget"
    (interrupted,) = witness.records
    assert interrupted.status == "KILLED" and "`budget` of 0.5 seconds" in interrupted.error
    assert sum(map(len, interrupted.curves)) < 1_000_000
    assert finished() == []
    tuner = tune()
    assert tuner.stopped_by is None
    assert statuses(tuner) == ["COMPLETED"] * 2
    retrained = witness.records[1]
    assert (retrained.trial_id, retrained.values, retrained.status) == (
        interrupted.trial_id,
        interrupted.values,
        FINISHED,
    )


def test_a_failed_trial_leaves_no_timer(tune):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ValueError("broken")

    tune(
        oracle=RandomOracle("val_loss", max_trials=2, max_consecutive_failed_trials=0),
        budget=3600.0,
        fit={"callbacks": [Broken()]},
    )
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]

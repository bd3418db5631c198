"""A search that is resumed by a program whose space was edited."""

import json

import keras
import keras_tuner
import pytest

from keras_nas_plugin import (
    RandomOracle,
)
from keras_nas_plugin.errors import NASError, StateError
from keras_nas_plugin.oracles import stock
from keras_nas_plugin.records.ranking import ranked
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records


@pytest.fixture(scope="module")
def data(batched_data):
    """What `tune` trains on."""
    return batched_data


def model_of(units, rate=0.0):
    layers = [keras.layers.Dense(units), keras.layers.Dropout(rate), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    return model


def before(hp):
    return model_of(hp.Choice("units", [2, 4]), hp.Choice("rate", [0.0, 0.1]))


def widened(hp):
    return model_of(hp.Choice("units", [2, 4, 8, 16]), hp.Choice("rate", [0.0, 0.1]))


def narrowed(hp):
    return model_of(hp.Choice("units", [4, 8]), hp.Choice("rate", [0.0, 0.1]))


def removed(hp):
    return model_of(hp.Choice("units", [2, 4, 8]))


def added(hp):
    model = before(hp)
    model.optimizer.learning_rate = hp.Float("speed", 0.01, 0.1)
    return model


def retyped(hp):
    return model_of(hp.Int("units", 2, 8), hp.Choice("rate", [0.0, 0.1]))


def values_of(tuner):
    return {record.trial_id: dict(record.values) for record in load_records(tuner.project_dir)}


def test_new_values_are_searched_and_earlier_trials_count(tune, caplog):
    tune(before, RandomOracle("val_loss", max_trials=3, seed=0))
    tuner = tune(widened, RandomOracle("val_loss", max_trials=8, seed=0))
    values = values_of(tuner)
    assert len(values) == 8
    assert {v["units"] for v in values.values()} == {2, 4, 8, 16}
    assert len({json.dumps(v) for v in values.values()}) == 8, "no configuration twice"
    assert "`units`: 2, 4 -> 2, 4, 8, 16" in caplog.text
    assert "All 3 earlier trials are in the space now, and count." in caplog.text
    assert [item.values for item in tuner.oracle.get_space().space][0] == [2, 4, 8, 16]


@pytest.mark.parametrize(
    ("program", "text", "valid"),
    [
        (narrowed, "`units`: 2, 4 -> 4, 8", lambda values: values["units"] == 4),
        (removed, "`rate` removed", lambda values: False),
        (added, "`speed` added (0.01 to 0.1)", lambda values: False),
        (retyped, "`units`: Choice of int 2, 4 -> Int 2 to 8", lambda values: False),
    ],
)
def test_trials_outside_the_new_space_stay_on_record_only(tune, caplog, program, text, valid):
    tune(before, RandomOracle("val_loss", max_trials=3, seed=0))
    tuner = tune(program, RandomOracle("val_loss", max_trials=3, seed=0))
    records = {record.trial_id: record for record in load_records(tuner.project_dir)}
    outside = {str(n) for n in range(3) if not valid(records[str(n)].values)}
    assert outside and len(records) == 3 + len(outside), "they do not use up `max_trials`"
    assert text in caplog.text and f"{len(outside)} of 3 earlier trials are not" in caplog.text
    best = {trial.trial_id for trial in tuner.oracle.get_best_trials(9)}
    assert best == records.keys() - outside
    search = SearchInfo.load(tuner.project_dir)
    assert {record.trial_id for record in ranked(search, records.values())} == best
    assert text in search.changes and search.max_trials == 3
    names = {item.name for item in tuner.oracle.get_space().space}
    for trial_id in records.keys() - {"0", "1", "2"}:
        assert records[trial_id].values.keys() == names
    # The strategy has learned from the trials that count, and from no other.
    assert tuner.oracle.strategy._reported == best


def test_a_changed_search_resumes_as_any_other(tune, caplog):
    tune(before, RandomOracle("val_loss", max_trials=3, seed=0))
    tune(removed, RandomOracle("val_loss", max_trials=1, seed=0))
    caplog.clear()
    tuner = tune(removed, RandomOracle("val_loss", max_trials=2, seed=0))
    assert "changed" not in caplog.text
    assert len(values_of(tuner)) == 5
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(9)} == {"3", "4"}
    # The earlier program again: its own trials count again, and those without `rate` do not.
    tuner = tune(before, RandomOracle("val_loss", max_trials=4, seed=0))
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(9)} == {"0", "1", "2", "5"}


def test_a_changed_space_can_be_refused(tune):
    tune(before, RandomOracle("val_loss", max_trials=2, seed=0))
    with pytest.raises(StateError, match=r"`units`: 2, 4 -> 2, 4, 8; `rate` removed"):
        tune(removed, RandomOracle("val_loss", max_trials=2, seed=0), on_change="error")
    with pytest.raises(NASError, match="`on_change` must be one of"):
        tune(before, on_change="raise")
    # Nothing was written: the unchanged program resumes.
    tuner = tune(before, RandomOracle("val_loss", max_trials=3, seed=0), on_change="error")
    assert len(tuner.oracle.get_best_trials(9)) == 3


def grown_by_an_if(hp):
    units = hp.Choice("units", [2, 4])
    return model_of(units, hp.Choice("rate", [0.0, 0.1]) if units == 4 else 0.0)


def without_the_if(hp):
    return model_of(hp.Choice("units", [2, 4]))


def test_a_name_that_only_some_models_declare_is_no_change(tune, caplog):
    tune(grown_by_an_if, RandomOracle("val_loss", max_trials=3, seed=0))
    tuner = tune(grown_by_an_if, RandomOracle("val_loss", max_trials=4, seed=0))
    assert "rate" in tuner.oracle.spec.names and "changed" not in caplog.text
    tuner = tune(without_the_if, RandomOracle("val_loss", max_trials=2, seed=0))
    assert "`rate` removed" in caplog.text and tuner.oracle.spec.names == {"units"}


def replaced(hp):
    return model_of(hp.Choice("width", [2, 4]))


def test_a_name_that_was_renamed_is_removed_and_added(tune, caplog):
    tune(without_the_if, RandomOracle("val_loss", max_trials=1, seed=0))
    tuner = tune(replaced, RandomOracle("val_loss", max_trials=1, seed=0))
    assert "`units` removed; `width` added (2, 4)" in caplog.text
    assert tuner.oracle.spec.names == {"width"}


class FitDeclares(keras_tuner.HyperModel):
    def build(self, hp):
        return model_of(hp.Choice("units", [2, 4]))

    def fit(self, hp, model, *args, **options):
        return model.fit(*args, batch_size=hp.Choice("batch", [16, 32]), **options)


def test_a_name_that_training_declares_is_no_change(tune, caplog):
    tune(FitDeclares(), RandomOracle("val_loss", max_trials=2, seed=0))
    tuner = tune(FitDeclares(), RandomOracle("val_loss", max_trials=3, seed=0))
    assert "batch" in tuner.oracle.spec.names and "changed" not in caplog.text
    assert len(tuner.oracle.get_best_trials(9)) == 3


class Edited(keras_tuner.HyperModel):
    """Declares `batch` while it trains only."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def build(self, hp):
        return model_of(hp.Choice("units", [2, 4, 8]))

    def fit(self, hp, model, *args, **options):
        batch = hp.Choice("batch", self.batches)
        assert batch in self.batches, "training never gets a value outside"
        return model.fit(*args, batch_size=batch, **options)


@pytest.mark.parametrize(
    ("own", "batches", "outside"),
    [(True, [4, 8, 16], set()), (True, [16, 32], {4, 8}), (False, [8, 16], {4})],
)
def test_a_range_that_only_training_declares_is_compared_when_a_trial_runs(
    tune, caplog, own, batches, outside
):
    def oracle(trials):
        if own:
            return RandomOracle("val_loss", max_trials=trials, seed=1)
        return keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=trials, seed=1)

    tune(Edited([4, 8]), oracle(2))
    tuner = tune(Edited(batches), oracle(4))
    text = f"`batch`: 4, 8 -> {', '.join(map(str, batches))}"
    records = {record.trial_id: record for record in load_records(tuner.project_dir)}
    assert all(record.status == "FINISHED" for record in records.values())
    excluded = {f"{n}" for n in range(2) if records[f"{n}"].values["batch"] in outside}
    assert len(records) == 4 + len(excluded) and caplog.text.count(text) == 1
    # KerasTuner's oracles return trials that did not complete as well.
    trials = tuner.oracle.get_best_trials(9)
    best = {trial.trial_id for trial in trials if trial.status == "COMPLETED"}
    assert best == records.keys() - excluded
    search = SearchInfo.load(tuner.project_dir)
    assert {record.trial_id for record in ranked(search, records.values())} == best
    assert text in search.changes
    (batch,) = (item for item in tuner.oracle.get_space().space if item.name == "batch")
    assert batch.values == batches
    # Resumed unchanged: nothing more is said.
    caplog.clear()
    tuner = tune(Edited(batches), oracle(5))
    assert "changed" not in caplog.text and "other values" not in caplog.text
    assert len(values_of(tuner)) == 5 + len(excluded)


def test_a_range_that_only_training_declares_can_be_refused(tune):
    tune(Edited([4, 8]), RandomOracle("val_loss", max_trials=1, seed=1))
    oracle = RandomOracle("val_loss", max_trials=2, seed=1)
    with pytest.raises(StateError, match="`batch`: 4, 8 -> 16"):
        tune(Edited([16]), oracle, on_change="error")
    tuner = tune(Edited([4, 8]), RandomOracle("val_loss", max_trials=2, seed=1), on_change="error")
    assert len(tuner.oracle.get_best_trials(9)) == 2


def test_a_range_that_the_oracle_was_given_overrides_the_program(tune, caplog):
    def oracle(trials):
        given = keras_tuner.HyperParameters()
        given.Choice("units", [3, 5])
        return RandomOracle("val_loss", max_trials=trials, seed=0, hyperparameters=given)

    tune(before, oracle(2))
    tuner = tune(widened, oracle(3))
    assert {values["units"] for values in values_of(tuner).values()} <= {3, 5}
    assert len(tuner.oracle.get_best_trials(9)) == 3
    assert "changed" not in caplog.text and "declared with other values" not in caplog.text


def dependent(hp):
    a = hp.Int("a", 0, 10)
    b = hp.Int("b", 0, 10 - a)
    assert b <= 10 - a, "the model is never built with a value outside"
    return model_of(1 + a + b)


def test_a_range_that_depends_on_another_value_fails_trials_outside(tune):
    oracle = RandomOracle("val_loss", max_trials=8, seed=0, max_consecutive_failed_trials=0)
    tuner = tune(dependent, oracle)
    records = list(load_records(tuner.project_dir))
    failed = [record for record in records if record.status == "FAILED"]
    assert 0 < len(failed) < 8
    for record in records:
        outside = record.values["a"] + record.values["b"] > 10
        assert outside == (record.status == "FAILED")
    assert "`b` must be one of the values that the model declares for it, 0 to" in failed[0].error
    assert "as a fraction: `int(limit * hp.Float('b_fraction', 0, 1))`" in failed[0].error


class DependsInFit(keras_tuner.HyperModel):
    """The range of `batch` depends on `units`, and only training declares it."""

    def build(self, hp):
        return model_of(hp.Choice("units", [2, 4, 8]))

    def fit(self, hp, model, *args, **options):
        batch = hp.Int("batch", 4, 4 * hp.get("units"))
        return model.fit(*args, batch_size=batch, **options)


def test_a_range_that_depends_on_another_value_is_no_change_of_the_program(tune, caplog):
    def oracle(trials):
        return RandomOracle("val_loss", max_trials=trials, seed=0, max_consecutive_failed_trials=0)

    tuner = tune(DependsInFit(), oracle(4))
    (batch,) = (item for item in tuner.oracle.get_space().space if item.name == "batch")
    assert {record.values["units"] for record in load_records(tuner.project_dir)} == {2, 4, 8}
    tuner = tune(DependsInFit(), oracle(8), on_change="error")
    assert tuner.space_changes == () and "space was changed" not in caplog.text
    (now,) = (item for item in tuner.oracle.get_space().space if item.name == "batch")
    assert (now.min_value, now.max_value) == (batch.min_value, batch.max_value)
    assert len(values_of(tuner)) == 8


def test_a_name_that_a_model_declares_twice_is_said_once(tune, caplog):
    def twice(hp):
        return model_of(hp.Int("units", 2, 9) + hp.Int("units", 2, 3))

    tuner = tune(twice, RandomOracle("val_loss", max_trials=3, seed=0))
    assert len(tuner.oracle.get_best_trials(9)) == 3, "as in KerasTuner"
    said = [r for r in caplog.records if "`units` is declared with other values" in r.getMessage()]
    assert len(said) == 1


def test_trials_of_other_epochs_are_never_mixed(tune, caplog):
    oracle = {"objective": "val_loss", "max_trials": 2, "seed": 0}
    tune(before, RandomOracle(**oracle))
    tuner = tune(before, RandomOracle(**oracle), fit={"epochs": 2, "batch_size": 8})
    assert "epochs (1 -> 2)" in caplog.text and "batch_size (None -> 8)" in caplog.text
    assert "2 of 2 earlier trials are not trained for as many epochs" in caplog.text
    records = {record.trial_id: record for record in load_records(tuner.project_dir)}
    assert {key: record.epochs for key, record in records.items()} == {
        "0": 1,
        "1": 1,
        "2": 2,
        "3": 2,
    }
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(9)} == {"2", "3"}
    search = SearchInfo.load(tuner.project_dir)
    assert {record.trial_id for record in ranked(search, records.values())} == {"2", "3"}
    assert any("epochs" in change for change in search.changes)
    # As many epochs as the first trials again: these count, and nothing is left to do.
    caplog.clear()
    tuner = tune(before, RandomOracle(**oracle))
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(9)} == {"0", "1"}
    assert "2 of 2 trials are done: raise `max_trials`" in caplog.text
    with pytest.raises(StateError, match=r"these changes: epochs \(1 -> 3\)"):
        tune(before, RandomOracle(**oracle), fit={"epochs": 3}, on_change="error")
    assert SearchInfo.load(tuner.project_dir).settings.get("epochs") is None


def test_epochs_of_an_earlier_version_are_those_of_its_search(tune, tmp_path):
    tuner = tune(before, RandomOracle("val_loss", max_trials=1, seed=0), fit={"epochs": 2})
    path = tmp_path / "p" / "trial_0" / "record.json"
    record = json.loads(path.read_text("utf-8"))
    del record["epochs"]
    path.write_text(json.dumps(record), encoding="utf-8")
    for _ in range(2):
        tuner = tune(before, RandomOracle("val_loss", max_trials=1, seed=0))
        assert {trial.trial_id for trial in tuner.oracle.get_best_trials(9)} == {"1"}


@pytest.mark.parametrize("own", [True, False])
def test_oracles_of_keras_tuner_continue_in_the_space_of_the_program(tune, caplog, own):
    def oracle(trials):
        if own:
            return stock.GridSearchOracle("val_loss", max_trials=trials)
        return keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=trials, seed=1)

    tune(before, oracle(3))
    tuner = tune(narrowed, oracle(4))
    values = values_of(tuner)
    outside = {key for key, item in values.items() if item["units"] == 2}
    assert outside and "`units`: 2, 4 -> 4, 8" in caplog.text
    assert len(values) == 4 + len(outside)
    best = {trial.trial_id for trial in tuner.oracle.get_best_trials(4)}
    assert best == values.keys() - outside
    assert SearchInfo.load(tuner.project_dir).max_trials == 4
    # Resumed once more, unchanged: the same trials count, and none is added.
    caplog.clear()
    tuner = tune(narrowed, oracle(4))
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(4)} == best
    assert "changed" not in caplog.text and "4 of 4 trials are done" in caplog.text


class SometimesBroken(keras_tuner.HyperModel):
    broken = True

    def build(self, hp):
        if hp.Choice("units", [2, 4, 8]) == 4 and self.broken:
            raise ValueError("cannot be built")
        return model_of(hp.get("units"))


def test_failed_trials_run_again_if_the_user_wants_that(tune, caplog):
    program = SometimesBroken()
    tune(program, RandomOracle("val_loss", max_trials=3, seed=0))
    program.broken = False
    tuner = tune(program, RandomOracle("val_loss", max_trials=3, seed=0))
    assert "3 of 3 trials are done" in caplog.text
    assert "1 failed: `retry_failed=True` (`--retry-failed`) runs them again." in caplog.text
    assert len(tuner.oracle.get_best_trials(9)) == 2
    tuner = tune(program, RandomOracle("val_loss", max_trials=3, seed=0), retry_failed=True)
    assert "1 failed trial is run again" in caplog.text
    assert len(tuner.oracle.get_best_trials(9)) == 3
    assert [record.status for record in load_records(tuner.project_dir)] == ["FINISHED"] * 3


@pytest.mark.parametrize(
    ("max_trials", "advice"),
    [(9, ", and none is left to try"), (1, ": raise `max_trials` (`--max-trials`)")],
)
def test_the_only_trial_is_done(tune, caplog, max_trials, advice):
    for _ in range(2):
        tune(lambda hp: model_of(4), RandomOracle("val_loss", max_trials=max_trials, seed=0))
    assert f"The only trial is done{advice}" in caplog.text


def test_an_exhausted_space_is_said_when_the_search_is_run_again(tune, caplog):
    def small(hp):
        return model_of(hp.Choice("units", [2, 4]))

    tune(small, RandomOracle("val_loss", max_trials=9, seed=0))
    assert "trials are done" not in caplog.text
    tune(small, RandomOracle("val_loss", max_trials=9, seed=0))
    assert "All 2 trials are done, and none is left to try: change the space" in caplog.text

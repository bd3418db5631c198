"""Earlier trials from project folders, of this package and of KerasTuner."""

import json
import logging
import shutil

import keras_tuner
import pytest

from keras_nas_plugin import Constraint, RandomOracle, earlier_trials
from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.oracles import stock
from keras_nas_plugin.testing.driving import SCORE, Search
from keras_nas_plugin.testing.spaces import small_configurations, small_space
from tests.transfer.conftest import scores

STOCK = keras_tuner.oracles.RandomSearchOracle
TWO = [keras_tuner.Objective("accuracy", "max"), keras_tuner.Objective("size", "min")]


def values_of(search):
    """Values in the order of the trials' starts, as the oracle has them."""
    order = search.oracle.start_order
    return [dict(search.oracle.get_trial(one).hyperparameters.values) for one in order]


def plain_space():
    """KerasTuner's own oracles mix up names that stand twice."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Boolean("pool")
    return hp


@pytest.mark.parametrize("make", [RandomOracle, STOCK], ids=["ours", "keras-tuner"])
def test_values_and_scores_in_the_order_of_the_trials(project, caplog, make):
    reports = [*scores(0.5, None, 0.25), "running", *scores(0.75)]
    search = project(make, reports, space=plain_space)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        earlier = earlier_trials(search.folder)
    values = values_of(search)
    assert earlier == list(zip(values[:3] + values[4:], [0.5, None, 0.25, 0.75], strict=True))
    assert isinstance(earlier, list) and earlier.objectives == [(SCORE, "max")]
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == (
        f"4 earlier trials (1 of them failed) with score from {str(search.folder)!r}; "
        "1 unfinished and left out"
    )


def test_a_search_takes_all_of_another_ones_trials(project, tmp_path):
    earlier = earlier_trials(project(RandomOracle, scores(0.5, None, 0.25, 0.75)).folder)
    search = Search(RandomOracle, tmp_path / "next", small_space, warm_start=earlier)
    rest = search.run(20, lambda values: 0.5)
    assert search.oracle.warm_start_report.used == 4 == len(earlier)
    assert len(rest) == 8, "twelve configurations, four of them known"
    keys = {json.dumps(one, sort_keys=True) for one in [*rest, *(v for v, _ in earlier)]}
    assert keys == {json.dumps(one, sort_keys=True) for one in small_configurations()}


def test_any_order_of_the_files_gives_the_order_of_the_ids(project):
    # Ids get longer where a search without a limit outgrows them.
    search = project(RandomOracle, scores(*range(12)), max_trials=None)
    assert "trial_11" in {path.name for path in search.folder.glob("trial_*")}
    assert [score for _, score in earlier_trials(search.folder)] == list(range(12))


def test_a_trial_is_worth_its_best_epoch(project):
    epochs = [{SCORE: 0.5, "loss": 3.0}, {SCORE: 0.9, "loss": 2.0}, {SCORE: 0.7, "loss": 1.0}]
    for make in (RandomOracle, STOCK):
        folder = project(make, [epochs], name=make.__name__).folder
        assert [score for _, score in earlier_trials(folder)] == [0.9]
        assert [score for _, score in earlier_trials(folder, objective="loss")] == [2.0]
        assert earlier_trials(folder, objective="loss").objectives == [("loss", None)]


def test_the_mean_over_executions_counts(project):
    search = project(STOCK, [], space=plain_space)
    trial = search.start()
    for score in (0.5, 1.0):
        search.oracle.update_trial(trial.trial_id, {SCORE: score, "loss": 2 * score}, step=3)
    trial.status = "COMPLETED"
    search.oracle.end_trial(trial)
    assert [score for _, score in earlier_trials(search.folder)] == [0.75]
    assert [score for _, score in earlier_trials(search.folder, objective="loss")] == [1.5]


def test_several_objectives_are_tuples(project):
    reports = [{"accuracy": 0.5, "size": 30}, None, {"accuracy": 0.75, "size": 20}]
    folder = project(RandomOracle, reports, objective=TWO).folder
    expected = [(0.5, 30.0), None, (0.75, 20.0)]
    # What it searched for, without being told.
    earlier = earlier_trials(folder)
    assert [score for _, score in earlier] == expected
    assert earlier.objectives == [("accuracy", "max"), ("size", "min")]
    turned = earlier_trials(folder, objective=[TWO[1], "accuracy"])
    assert [score for _, score in turned] == [(30.0, 0.5), None, (20.0, 0.75)]
    assert turned.objectives == [("size", "min"), ("accuracy", "max")]
    assert [score for _, score in earlier_trials(folder, objective="size")] == [30.0, None, 20.0]


def test_several_objectives_of_a_stock_oracle(project):
    reports = [{"accuracy": 0.5, "size": 30, "multi_objective": 29.5}]
    for make in (STOCK, stock.GridSearchOracle):
        folder = project(make, reports, objective=TWO, name=make.__module__).folder
        assert [s for _, s in earlier_trials(folder, objective=TWO)] == [(0.5, 30.0)]
    assert earlier_trials(folder).objectives == [("accuracy", "max"), ("size", "min")]


def test_without_anybody_who_says_so_the_objective_is_not_guessed(project):
    # Two metrics whose best values are the scores: either may have been the objective.
    reports = [{SCORE: 0.5, "accuracy": 0.5, "loss": 0.25}]
    search = project(STOCK, reports)
    earlier = earlier_trials(search.folder)
    assert [score for _, score in earlier] == [0.5] and earlier.objectives is None
    # `NASTuner` writes the objective of any oracle.
    info = {"search_id": "1", "name": "x", "objective": SCORE, "direction": "max"}
    info |= {"strategy": "Random", "max_trials": 3, "datasets": [], "space": []}
    (search.folder / "search.json").write_text(json.dumps(info))
    assert earlier_trials(search.folder).objectives == [(SCORE, "max")]
    (search.folder / "oracle.json").write_text("{damaged")
    assert earlier_trials(search.folder) == earlier


def test_scores_that_are_not_finite_are_failures(project):
    folder = project(STOCK, scores(0.5, float("inf"), -1.0), space=plain_space).folder
    assert [score for _, score in earlier_trials(folder)] == [0.5, None, -1.0]


def test_a_trial_that_broke_a_constraint_counts_as_failed(project, caplog):
    sizes = [100, 150, None, float("nan")]
    reports = [s and {SCORE: 0.5, "size": s} for s in sizes] + [{SCORE: 0.25}]
    folder = project(RandomOracle, reports).folder
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        earlier = earlier_trials(folder, constraints=[Constraint("size", max=100)])
    # The last never reported its size.
    assert [score for _, score in earlier] == [0.5, None, None, None, 0.25]
    assert "2 broke a constraint and count as failed" in caplog.text


# ------------------------------------------------------------------ trained further


@pytest.mark.parametrize(("score", "counts"), [(0.25, 0.25), (None, 0.3)])
def test_of_a_configuration_the_longest_training_that_did_not_fail_counts(
    project, caplog, score, counts
):
    def make(max_trials, **options):
        return keras_tuner.oracles.HyperbandOracle(max_epochs=3, factor=3, **options)

    # A bracket of two rounds: three trials of one epoch, the best goes on to three.
    search = project(make, scores(0.1, 0.3, 0.2), space=plain_space)
    promoted = search.start("tuner9")
    values = dict(promoted.hyperparameters.values)
    assert (values["tuner/epochs"], values["tuner/trial_id"]) == (3, "0001")
    search.finish(promoted, score)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        earlier = earlier_trials(search.folder)
    assert [score for _, score in earlier] == [0.1, counts, 0.2]
    assert all(values.keys() == {"kind", "rate", "pool"} for values, _ in earlier)
    assert "1 trained further under another id" in caplog.text


# ------------------------------------------------------------------ what cannot be read


DAMAGED = {
    "empty": b"",
    "half": b'{"trial_id": "01", "hyperparameters": {"space": [',
    "binary": b"\xff\xfe\x00\x9f",
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "nothing in it": b"{}",
    "other": b'{"status": "COMPLETED", "hyperparameters": 3, "metrics": {}, "score": 1}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_counted_and_the_others_are_read(project, caplog, kind):
    search = project(RandomOracle, scores(0.5, 0.25, 0.75))
    (search.folder / "trial_01" / "trial.json").write_bytes(DAMAGED[kind])
    earlier = earlier_trials(search.folder)
    assert [score for _, score in earlier] == [0.5, 0.75]
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "1 unreadable" in record.getMessage()
    assert "trial_01" in record.getMessage()


def test_a_folder_in_the_place_of_a_file_is_damaged_too(project):
    search = project(RandomOracle, scores(0.5, 0.25))
    (search.folder / "trial_01" / "trial.json").unlink()
    (search.folder / "trial_01" / "trial.json").mkdir()
    assert [score for _, score in earlier_trials(search.folder)] == [0.5]


def test_nothing_that_can_be_read_is_an_error(project):
    search = project(RandomOracle, scores(0.5, 0.25))
    for number in range(2):
        (search.folder / f"trial_0{number}" / "trial.json").write_text("")
    with pytest.raises(WarmStartError, match="where none of 2 can: .*trial_00"):
        earlier_trials(search.folder)


def test_a_search_in_which_nothing_ended_gives_nothing_with_a_warning(project, caplog):
    assert earlier_trials(project(RandomOracle, ["running"]).folder, objective="any") == []
    assert "0 earlier trials with any" in caplog.text
    assert caplog.records[0].levelname == "WARNING"


def test_a_source_without_trials_says_what_there_is(project, tmp_path):
    search = project(RandomOracle, scores(0.5))
    shutil.copytree(search.folder, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, said in (
        ("nowhere", "which is not a folder"),
        ("file", "which is not a folder"),
        ("empty", "which has none; searches in it: none"),
        ("", "which has none; searches in it: other, search"),
    ):
        with pytest.raises(WarmStartError, match=said):
            earlier_trials(str(tmp_path / name))


# ------------------------------------------------------------------ objectives


def test_an_objective_that_nobody_reported_is_refused_with_those_there_are(project):
    folder = project(RandomOracle, [{SCORE: 0.5, "loss": 1.0}]).folder
    with pytest.raises(WarmStartError, match="received 'val_loss', and it has loss, score"):
        earlier_trials(folder, objective="val_loss")
    with pytest.raises(WarmStartError, match="received 'val_loss'"):
        earlier_trials(folder, objective=[SCORE, "val_loss"])


def test_trials_without_the_objective_are_left_out_and_spoken_of(project, caplog):
    reports = [{SCORE: 0.5, "extra": 1.0}, {SCORE: 0.25}, None]
    earlier = earlier_trials(project(RandomOracle, reports).folder, objective="extra")
    assert [score for _, score in earlier] == [1.0, None]
    assert "1 without the objective and left out" in caplog.text


def test_the_other_direction_is_refused(project):
    folder = project(RandomOracle, scores(0.5)).folder
    assert earlier_trials(folder, objective=keras_tuner.Objective(SCORE, "max"))
    with pytest.raises(WarmStartError, match="'score' with direction 'max', as .* 'min'"):
        earlier_trials(folder, objective=keras_tuner.Objective(SCORE, "min"))


def test_scores_of_a_minimum_do_not_get_into_a_search_for_a_maximum(project, tmp_path):
    objective = keras_tuner.Objective("loss", "min")
    folder = project(RandomOracle, [{"loss": 1.0}], objective=objective).folder
    earlier = earlier_trials(folder)
    search = Search(RandomOracle, tmp_path / "next", small_space, warm_start=earlier)
    with pytest.raises(WarmStartError, match=r"scores of score \(max\); received .* loss \(min\)"):
        search.start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `source` or `experiment`; received neither"),
        ({"source": "a", "experiment": "b"}, "received 'a' and 'b'"),
        ({"source": "a", "objective": 3}, "`objective` needs the name of a metric.*received 3"),
        ({"source": "a", "objective": ["loss", 3]}, "received 3"),
    ],
)
def test_arguments_that_say_nothing_are_refused(arguments, message):
    with pytest.raises(WarmStartError, match=message):
        earlier_trials(**arguments)

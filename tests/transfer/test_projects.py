"""`earlier_trials` reads project folders of this package and of KerasTuner."""

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
TWO_OBJECTIVES = [keras_tuner.Objective("accuracy", "max"), keras_tuner.Objective("size", "min")]


def values_of(search):
    """The values of the oracle's trials, in the order in which they started."""
    order = search.oracle.start_order
    return [dict(search.oracle.get_trial(item).hyperparameters.values) for item in order]


def plain_space():
    """A space without repeated names, which KerasTuner's own oracles confuse."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Boolean("pool")
    return hp


@pytest.mark.parametrize("make", [RandomOracle, STOCK], ids=["ours", "keras-tuner"])
def test_values_and_scores_are_read_in_the_order_of_the_trials(project, caplog, make):
    reports = [*scores(0.5, None, 0.25), "running", *scores(0.75)]
    search = project(make, reports, space=plain_space)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        trials = earlier_trials(search.folder)
    values = values_of(search)
    assert trials == list(zip(values[:3] + values[4:], [0.5, None, 0.25, 0.75], strict=True))
    assert isinstance(trials, list) and trials.objectives == [(SCORE, "max")]
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == (
        f"4 earlier trials (1 of them failed) with score from {str(search.folder)!r}; "
        "1 unfinished and ignored"
    )


def test_a_search_warm_starts_from_all_trials_of_another_search(project, tmp_path):
    trials = earlier_trials(project(RandomOracle, scores(0.5, None, 0.25, 0.75)).folder)
    search = Search(RandomOracle, tmp_path / "next", small_space, warm_start=trials)
    remaining = search.run(20, lambda values: 0.5)
    assert search.oracle.warm_start_report.used == 4 == len(trials)
    assert len(remaining) == 8, "twelve configurations, four of them read from the source"
    keys = {json.dumps(item, sort_keys=True) for item in [*remaining, *(v for v, _ in trials)]}
    assert keys == {json.dumps(item, sort_keys=True) for item in small_configurations()}


def test_trials_are_read_in_the_order_of_their_ids(project):
    # Ids get longer as a search without a limit exceeds their width.
    search = project(RandomOracle, scores(*range(12)), max_trials=None)
    assert "trial_11" in {path.name for path in search.folder.glob("trial_*")}
    assert [score for _, score in earlier_trials(search.folder)] == list(range(12))


def test_the_score_is_that_of_the_best_epoch(project):
    epochs = [{SCORE: 0.5, "loss": 3.0}, {SCORE: 0.9, "loss": 2.0}, {SCORE: 0.7, "loss": 1.0}]
    for make in (RandomOracle, STOCK):
        folder = project(make, [epochs], name=make.__name__).folder
        assert [score for _, score in earlier_trials(folder)] == [0.9]
        assert [score for _, score in earlier_trials(folder, objective="loss")] == [2.0]
        assert earlier_trials(folder, objective="loss").objectives == [("loss", None)]


def test_the_score_is_the_mean_over_executions(project):
    search = project(STOCK, [], space=plain_space)
    trial = search.start()
    for score in (0.5, 1.0):
        search.oracle.update_trial(trial.trial_id, {SCORE: score, "loss": 2 * score}, step=3)
    trial.status = "COMPLETED"
    search.oracle.end_trial(trial)
    assert [score for _, score in earlier_trials(search.folder)] == [0.75]
    assert [score for _, score in earlier_trials(search.folder, objective="loss")] == [1.5]


def test_several_objectives_give_tuples_of_scores(project):
    reports = [{"accuracy": 0.5, "size": 30}, None, {"accuracy": 0.75, "size": 20}]
    folder = project(RandomOracle, reports, objective=TWO_OBJECTIVES).folder
    expected = [(0.5, 30.0), None, (0.75, 20.0)]
    # The objectives of the search, without an argument.
    trials = earlier_trials(folder)
    assert [score for _, score in trials] == expected
    assert trials.objectives == [("accuracy", "max"), ("size", "min")]
    reversed_trials = earlier_trials(folder, objective=[TWO_OBJECTIVES[1], "accuracy"])
    assert [score for _, score in reversed_trials] == [(30.0, 0.5), None, (20.0, 0.75)]
    assert reversed_trials.objectives == [("size", "min"), ("accuracy", "max")]
    assert [score for _, score in earlier_trials(folder, objective="size")] == [30.0, None, 20.0]


def test_several_objectives_are_read_from_projects_of_stock_oracles(project):
    reports = [{"accuracy": 0.5, "size": 30, "multi_objective": 29.5}]
    for make in (STOCK, stock.GridSearchOracle):
        folder = project(make, reports, objective=TWO_OBJECTIVES, name=make.__module__).folder
        assert [s for _, s in earlier_trials(folder, objective=TWO_OBJECTIVES)] == [(0.5, 30.0)]
    assert earlier_trials(folder).objectives == [("accuracy", "max"), ("size", "min")]


def test_an_ambiguous_objective_is_not_inferred(project):
    # The best values of two metrics equal the score: either may have been the objective.
    reports = [{SCORE: 0.5, "accuracy": 0.5, "loss": 0.25}]
    search = project(STOCK, reports)
    trials = earlier_trials(search.folder)
    assert [score for _, score in trials] == [0.5] and trials.objectives is None
    # `NASTuner` writes the objective of any oracle.
    info = {"search_id": "1", "name": "x", "objective": SCORE, "direction": "max"}
    info |= {"strategy": "Random", "max_trials": 3, "datasets": [], "space": []}
    (search.folder / "search.json").write_text(json.dumps(info))
    assert earlier_trials(search.folder).objectives == [(SCORE, "max")]
    (search.folder / "oracle.json").write_text("{damaged")
    assert earlier_trials(search.folder) == trials


def test_trials_with_infinite_scores_count_as_failed(project):
    folder = project(STOCK, scores(0.5, float("inf"), -1.0), space=plain_space).folder
    assert [score for _, score in earlier_trials(folder)] == [0.5, None, -1.0]


def test_a_trial_that_violates_a_constraint_counts_as_failed(project, caplog):
    sizes = [100, 150, None, float("nan")]
    reports = [s and {SCORE: 0.5, "size": s} for s in sizes] + [{SCORE: 0.25}]
    folder = project(RandomOracle, reports).folder
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        trials = earlier_trials(folder, constraints=[Constraint("size", max=100)])
    # The last trial did not report its size.
    assert [score for _, score in trials] == [0.5, None, None, None, 0.25]
    assert "2 violated a constraint and count as failed" in caplog.text


# ------------------------------------------------------------------ trained further


@pytest.mark.parametrize(("score", "counts"), [(0.25, 0.25), (None, 0.3)])
def test_the_longest_successful_training_of_a_configuration_counts(project, caplog, score, counts):
    def make(max_trials, **options):
        return keras_tuner.oracles.HyperbandOracle(max_epochs=3, factor=3, **options)

    # A bracket of two rounds: three trials of one epoch, the best of which continues to three.
    search = project(make, scores(0.1, 0.3, 0.2), space=plain_space)
    promoted = search.start("tuner9")
    values = dict(promoted.hyperparameters.values)
    assert (values["tuner/epochs"], values["tuner/trial_id"]) == (3, "0001")
    search.finish(promoted, score)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        trials = earlier_trials(search.folder)
    assert [score for _, score in trials] == [0.1, counts, 0.2]
    assert all(values.keys() == {"kind", "rate", "pool"} for values, _ in trials)
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
def test_damaged_files_are_counted_and_skipped(project, caplog, kind):
    search = project(RandomOracle, scores(0.5, 0.25, 0.75))
    (search.folder / "trial_01" / "trial.json").write_bytes(DAMAGED[kind])
    trials = earlier_trials(search.folder)
    assert [score for _, score in trials] == [0.5, 0.75]
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "1 unreadable" in record.getMessage()
    assert "trial_01" in record.getMessage()


def test_a_folder_in_place_of_a_trial_file_is_skipped(project):
    search = project(RandomOracle, scores(0.5, 0.25))
    (search.folder / "trial_01" / "trial.json").unlink()
    (search.folder / "trial_01" / "trial.json").mkdir()
    assert [score for _, score in earlier_trials(search.folder)] == [0.5]


def test_a_source_without_readable_trials_is_an_error(project):
    search = project(RandomOracle, scores(0.5, 0.25))
    for number in range(2):
        (search.folder / f"trial_0{number}" / "trial.json").write_text("")
    with pytest.raises(WarmStartError, match="in which none of 2 can be read: .*trial_00"):
        earlier_trials(search.folder)


def test_running_trials_are_ignored_with_a_warning(project, caplog):
    assert earlier_trials(project(RandomOracle, ["running"]).folder, objective="any") == []
    assert "0 earlier trials with any" in caplog.text
    assert caplog.records[0].levelname == "WARNING"


def test_the_error_for_a_source_without_trials_lists_its_searches(project, tmp_path):
    search = project(RandomOracle, scores(0.5))
    shutil.copytree(search.folder, tmp_path / "other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in (
        ("nowhere", "which is not a folder"),
        ("file", "which is not a folder"),
        ("empty", "which has none; searches in it: none"),
        ("", "which has none; searches in it: other, search"),
    ):
        with pytest.raises(WarmStartError, match=message):
            earlier_trials(str(tmp_path / name))


# ------------------------------------------------------------------ objectives


def test_the_error_for_an_unreported_objective_lists_the_metrics(project):
    folder = project(RandomOracle, [{SCORE: 0.5, "loss": 1.0}]).folder
    with pytest.raises(WarmStartError, match="which has loss, score; got 'val_loss'"):
        earlier_trials(folder, objective="val_loss")
    with pytest.raises(WarmStartError, match="got 'val_loss'"):
        earlier_trials(folder, objective=[SCORE, "val_loss"])


def test_trials_without_the_objective_are_counted_and_ignored(project, caplog):
    reports = [{SCORE: 0.5, "extra": 1.0}, {SCORE: 0.25}, None]
    trials = earlier_trials(project(RandomOracle, reports).folder, objective="extra")
    assert [score for _, score in trials] == [1.0, None]
    assert "1 without the objective and ignored" in caplog.text


def test_an_objective_with_the_opposite_direction_is_rejected(project):
    folder = project(RandomOracle, scores(0.5)).folder
    assert earlier_trials(folder, objective=keras_tuner.Objective(SCORE, "max"))
    with pytest.raises(WarmStartError, match="'score' must be 'max', as in .*; got 'min'"):
        earlier_trials(folder, objective=keras_tuner.Objective(SCORE, "min"))


def test_minimised_scores_are_rejected_by_a_search_that_maximises(project, tmp_path):
    objective = keras_tuner.Objective("loss", "min")
    folder = project(RandomOracle, [{"loss": 1.0}], objective=objective).folder
    trials = earlier_trials(folder)
    search = Search(RandomOracle, tmp_path / "next", small_space, warm_start=trials)
    with pytest.raises(WarmStartError, match=r"scores of score \(max\); got .* loss \(min\)"):
        search.start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `source` or `experiment` must be given .*; got neither"),
        ({"source": "a", "experiment": "b"}, "got 'a' and 'b'"),
        ({"source": "a", "objective": 3}, "`objective` must be the name of a metric.*got 3"),
        ({"source": "a", "objective": ["loss", 3]}, "got 3"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(WarmStartError, match=message):
        earlier_trials(**arguments)

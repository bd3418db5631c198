"""`earlier_trials` reads MLflow stores, with runs of this package and of other tools."""

import logging
import shutil
import socket

import keras_tuner
import pytest

from keras_nas_plugin import Constraint, RandomOracle, earlier_trials
from keras_nas_plugin.errors import TrackingError, WarmStartError
from keras_nas_plugin.testing.driving import Search
from keras_nas_plugin.tracking.mlflow import paging
from keras_nas_plugin.transfer import experiments


def read(database, **options):
    options = {"experiment": "digits", "tracking_uri": database, **options}
    return earlier_trials(**options)


@pytest.fixture
def client(database):
    from mlflow import MlflowClient

    return MlflowClient(database)


@pytest.fixture
def log(client):
    """Logs a run as any other tool would."""

    def run(params, metrics=None, *, status="FINISHED", experiment="digits", tags=None):
        result = client.get_experiment_by_name(experiment)
        experiment_id = result.experiment_id if result else client.create_experiment(experiment)
        run_id = client.create_run(experiment_id, tags=tags).info.run_id
        for key, value in params.items():
            client.log_param(run_id, key, value)
        for key, values in (metrics or {}).items():
            for step, value in enumerate(values if isinstance(values, list) else [values]):
                client.log_metric(run_id, key, value, step=step)
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        return run_id

    return run


# ------------------------------------------------------------------ searches of this package


def test_values_and_scores_of_the_trials_of_a_search_are_read(
    database, track, make_record, caplog
):
    records = [make_record(0), make_record(1, status="FAILED"), make_record(2, status="KILLED")]
    track(database, [*records, make_record(3)])
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        trials = read(database)
    assert trials == [
        ({"depth": "1", "block": "normal"}, 0.5),
        ({"depth": "2", "block": "normal"}, None),
        ({"depth": "4", "block": "normal"}, 0.53),
    ]
    assert trials.objectives == [("val_accuracy", "max")]
    assert caplog.messages[-1] == (
        "3 earlier trials (1 of them failed) with val_accuracy from MLflow's 'digits'; "
        "1 unfinished and ignored"
    )


def test_the_ended_trials_of_a_running_search_are_read(database, track, make_record):
    tracker = track(database, [make_record(0)], status=None)
    tracker.trial_started("01", {"depth": 2, "block": "normal"})
    assert [score for _, score in read(database)] == [0.5]


def test_a_search_matches_trials_by_name_and_domain(database, track, make_record, tmp_path):
    def space():
        hp = keras_tuner.HyperParameters()
        hp.Int("depth", 1, 3)
        hp.Choice("block", ["normal", "separable"])
        return hp

    track(database, [make_record(number) for number in range(8)])
    search = Search(
        RandomOracle,
        tmp_path / "next",
        space,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        warm_start=read(database),
    )
    search.start()
    report = search.oracle.warm_start_report
    # Depths 1 to 4, each twice; 4 is not in the space.
    assert (report.used, report.repeated) == (3, 3)
    assert report.dropped == {"'depth' outside its domain": 2}


def test_scores_are_metrics_of_the_best_epoch(database, track, make_record):
    curves = (({"loss": 1.0, "val_accuracy": 0.9}, {"loss": 0.25, "val_accuracy": 0.5}),)
    metrics = {"val_accuracy": 0.9, "loss": 1.0, "top-5 (%)": 50.0}
    track(database, [make_record(0, metrics=metrics, curves=curves, score=0.9)])
    assert [score for _, score in read(database, objective="loss")] == [1.0]
    assert [score for _, score in read(database, objective="top-5 (%)")] == [50.0]
    trials = read(database, objective=["val_accuracy", keras_tuner.Objective("loss", "min")])
    assert [score for _, score in trials] == [(0.9, 1.0)]
    assert trials.objectives == [("val_accuracy", "max"), ("loss", "min")]


def test_values_that_do_not_fit_into_parameters_are_read_from_the_artifact(
    database, track, make_record, make_search
):
    values = {"top-5 (%)": 3, "../lr": 0.1, "text": "v" * 7_000, "flag": True}
    space = tuple({"name": name, "type": "Choice", "values": [1]} for name in values)
    records = [make_record(0, values=values), make_record(1, values={"flag": False, "late": 2})]
    track(database, records, search=make_search(space=space))
    # `late` was declared during the search, so it is read from the run's parameters.
    assert [values for values, _ in read(database)] == [values, {"flag": "False", "late": "2"}]


def test_parameters_are_used_when_artifacts_are_missing(
    database, track, make_record, make_search, tmp_path
):
    records = [make_record(0, values={"top-5 (%)": 3, "depth": 2}), make_record(1)]
    track(database, records)
    assert [values for values, _ in read(database)][0] == {"top-5 (%)": 3, "depth": 2}
    shutil.rmtree(tmp_path / "mlruns")
    result = [values for values, _ in read(database)]
    assert result == [{"top-5 ___": "3", "depth": "2"}, {"depth": "2", "block": "normal"}]


def test_artifacts_are_downloaded_only_when_needed(
    database, track, make_record, make_search, monkeypatch
):
    requests = []
    artifact = experiments._artifact

    def counting(client, run_id, name):
        requests.append(name)
        return artifact(client, run_id, name)

    monkeypatch.setattr(experiments, "_artifact", counting)
    extended = {"depth": 1, "block": "normal", "late": 2}
    track(database, [make_record(0), make_record(1), make_record(2)])
    assert len(read(database)) == 3 and requests == ["search_space.json"]
    del requests[:]
    records = [make_record(number, values=extended) for number in range(3, 6)]
    track(database, records, search=make_search(search_id="search-2"))
    assert len(read(database)) == 6
    assert sorted(requests) == ["search_space.json"] * 2 + ["values.json"]


def test_the_longest_training_of_a_configuration_counts(database, track, make_record):
    def trained(number, epochs, score):
        values = {"depth": 1, "tuner/epochs": epochs, "tuner/round": number}
        return make_record(number, values=values, score=score)

    track(database, [trained(0, 3, 0.5), trained(1, 9, 0.4), make_record(2)])
    assert read(database) == [
        ({"depth": "1"}, 0.4),
        ({"depth": "3", "block": "normal"}, 0.52),
    ]


def test_a_trial_that_violates_a_constraint_counts_as_failed(database, track, make_record):
    metrics = [{"val_accuracy": 0.5, "size": 100.0}, {"val_accuracy": 0.9, "size": 200.0}]
    track(database, [make_record(n, metrics=m, score=0.5) for n, m in enumerate(metrics)])
    trials = read(database, constraints=[Constraint("size", max=100)])
    assert [score for _, score in trials] == [0.5, None]


def test_the_objective_is_required_when_searches_have_different_ones(
    database, track, make_record, make_search
):
    second_search = make_search(search_id="search-2", objective="val_loss", direction="min")
    record = make_record(1, metrics={"val_loss": 0.25}, score=0.25)
    track(database, [make_record(0)])
    track(database, [record], search=second_search)
    with pytest.raises(WarmStartError, match=r"is val_accuracy \(max\) and val_loss \(min\)"):
        read(database)
    assert [score for _, score in read(database, objective="val_accuracy")] == [0.5]
    trials = read(database, objective="val_loss")
    assert [score for _, score in trials] == [0.25]
    assert trials.objectives == [("val_loss", "min")]


def test_the_objectives_of_a_multi_objective_search_are_required(
    database, track, make_record, make_search
):
    metrics = {"val_accuracy": 0.5, "size": 30.0, "multi_objective": 29.5}
    search = make_search(objective="multi_objective", direction="min")
    track(database, [make_record(0, metrics=metrics, score=29.5)], search=search)
    with pytest.raises(
        WarmStartError,
        match="Its metrics: multi_objective, parameters, size, train_seconds, val_accuracy",
    ):
        read(database)
    trials = read(database, objective=["val_accuracy", "size"])
    assert [score for _, score in trials] == [(0.5, 30.0)]


def test_an_objective_with_the_opposite_direction_is_rejected(database, track, make_record):
    track(database, [make_record(0)])
    with pytest.raises(WarmStartError, match="must be 'max', as in MLflow's 'digits'; got 'min'"):
        read(database, objective=keras_tuner.Objective("val_accuracy", "min"))


# ------------------------------------------------------------------ runs of other tools


def test_runs_of_other_tools_are_read_as_trials(database, log, caplog):
    log({"depth": 3, "rate": 1e-3}, {"accuracy": [0.25, 0.75, 0.5]})
    log({"depth": 4}, status="FAILED")
    log({"depth": 5}, {"loss": 1.0})
    log({"depth": 6}, {"accuracy": 1.0}, status="RUNNING")
    log({"depth": 7}, {"accuracy": 1.0}, status="KILLED")
    log({"depth": 8}, {"accuracy": float("nan")})
    log({}, {"accuracy": 0.9})  # a run without parameters, such as a parent run
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        trials = read(database, objective="accuracy")
    # The best epoch of such runs is unknown: the last value counts, which MLflow shows.
    assert trials == [
        ({"depth": "3", "rate": "0.001"}, 0.5),
        ({"depth": "4"}, None),
        ({"depth": "8"}, None),
    ]
    assert trials.objectives == [("accuracy", None)]
    assert "2 unfinished and ignored; 1 without the objective" in caplog.text


def test_the_error_without_an_objective_lists_the_metrics_of_other_tools(database, log):
    log({"depth": 3}, {"accuracy": 0.5, "loss": 1.0})
    with pytest.raises(WarmStartError, match="is unknown; got None.*: accuracy, loss$"):
        read(database)
    with pytest.raises(WarmStartError, match="which has accuracy, loss; got 'auc'"):
        read(database, objective="auc")


def test_runs_of_searches_and_of_other_tools_are_read_together(database, log, track, make_record):
    track(database, [make_record(0)])
    log({"depth": 3}, {"val_accuracy": 0.25})
    for objective in (None, "val_accuracy"):
        trials = read(database, objective=objective)
        assert [score for _, score in trials] == [0.5, 0.25]
        assert trials.objectives == [("val_accuracy", "max")]


def test_all_pages_are_read_in_the_order_of_start_times(database, log, monkeypatch):
    monkeypatch.setattr(paging, "_PAGE", 2)
    for number in range(5):
        log({"depth": number}, {"accuracy": number})
    assert [score for _, score in read(database, objective="accuracy")] == [0, 1, 2, 3, 4]


def test_deleted_runs_are_not_read(database, log, client):
    client.delete_run(log({"depth": 1}, {"accuracy": 1.0}))
    log({"depth": 2}, {"accuracy": 0.5})
    assert [score for _, score in read(database, objective="accuracy")] == [0.5]


# ------------------------------------------------------------------ no trials


def test_the_error_for_a_missing_experiment_lists_existing_ones(database, log):
    log({"depth": 1}, experiment="fashion")
    with pytest.raises(WarmStartError, match="one of Default, fashion; got 'digits'"):
        read(database)


def test_an_experiment_without_trials_is_an_error(database, log):
    log({}, {"accuracy": 1.0})
    with pytest.raises(WarmStartError, match="runs with parameters; got 'digits'"):
        read(database, objective="accuracy")


def test_running_trials_are_ignored_with_a_warning(database, log, caplog):
    log({"depth": 1}, status="RUNNING")
    assert read(database, objective="accuracy") == []
    assert caplog.records[-1].levelname == "WARNING"


def test_a_missing_store_is_not_created(tmp_path):
    with pytest.raises(WarmStartError, match="`tracking_uri` must be an existing store"):
        read(f"sqlite:///{tmp_path}/none.db")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_a_store_is_an_error(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(TrackingError, match="`tracking_uri` must be an MLflow server"):
        read(f"sqlite:///{tmp_path}/text.db")


def test_the_error_for_an_unavailable_server_hides_the_password(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(TrackingError, match="`tracking_uri` must be a server that") as raised:
        read(f"http://me:secret@127.0.0.1:{port}")
    assert "secret" not in str(raised.value)


def test_the_error_names_a_store_that_fails_while_reading(database, log, monkeypatch):
    log({"depth": 1}, {"accuracy": 1.0})

    def fail(*_):
        raise OSError("connection reset")

    monkeypatch.setattr(experiments, "iterate_runs", fail)
    with pytest.raises(TrackingError, match="store that can be read.*reset"):
        read(database)

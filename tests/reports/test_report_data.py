import dataclasses
import json
import subprocess
import sys

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.search import InfeasibleSummary
from keras_nas_plugin.records.trial import KILLED, load_records
from keras_nas_plugin.reports import report_data
from keras_nas_plugin.reports.page import page
from keras_nas_plugin.reports.space import decision_of, space_of
from keras_nas_plugin.space.fidelity import Fidelity
from keras_nas_plugin.space.hyperparameters import describe, spec_of
from tests.reports.conftest import SPACE, evolve, failed, record_of, save, search_info

WIDTH = {"width": 8, "depth": 1}


@pytest.fixture(scope="module")
def data(evolved):
    return report_data(evolved)


def test_the_data_are_valid_json_and_reproducible(data, evolved):
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text) == data == report_data(evolved)


def test_trials_are_in_the_order_in_which_they_ended(data, evolved):
    records = sorted(load_records(evolved), key=lambda record: record.ended_ms)
    trials = data["trials"]
    assert trials["trial_id"] == [record.trial_id for record in records]
    assert trials["score"] == [record.score for record in records]
    assert trials["values"]["shortcut"] == [record.values.get("shortcut") for record in records]
    columns = [column for column in trials.values() if isinstance(column, list)]
    for part in ("values", "metrics", "costs", "proxies"):
        columns += trials[part].values()
    assert {len(column) for column in columns} == {60}


def test_the_best_trial_and_the_counts(data, evolved):
    records = list(load_records(evolved))
    finished = [record for record in records if record.status == "FINISHED"]
    best = max(finished, key=lambda record: record.score)
    assert data["best"]["trial_id"] == best.trial_id
    assert data["best"]["values"] == best.values
    assert data["best"]["architecture"] is None
    assert data["trials"]["best_so_far"][-1] == best.score
    assert data["lineage"]["steps"][-1]["trial_id"] == best.trial_id
    failures = len(records) - len(finished)
    assert data["counts"] == {"finished": len(finished), "failed": failures, "killed": 0}
    assert failures > 0


def test_workers_and_their_utilization(tmp_path, data):
    assert data["utilization"] is None and data["trials"]["worker"] == [None] * 60
    search = search_info(tmp_path)
    placement = Placement(worker="worker-1", node="n", device="d", idle_seconds=2.0)
    records = [
        record_of(0, WIDTH, 0.5, started_ms=0, ended_ms=4_000, placement=placement),
        record_of(1, WIDTH, 0.6, started_ms=6_000, ended_ms=8_000),  # of an earlier version
        record_of(2, WIDTH, 0.7, started_ms=6_000, ended_ms=8_000, placement=placement),
    ]
    folder = save(search, records)
    parallel = report_data(folder)
    assert parallel["utilization"] == 0.6  # 6 seconds of 10
    assert parallel["trials"]["worker"] == ["worker-1", None, "worker-1"]
    assert parallel["trials"]["idle_seconds"] == [2.0, None, 2.0]
    assert ", 60% of the workers" in page(parallel)


def test_failures_that_differ_only_in_numbers_are_grouped(tmp_path):
    errors = ["OOM: 12 bytes", "ValueError: no", "OOM: 9 bytes", None]
    trials = [failed(n, WIDTH, error) for n, error in enumerate(errors)]
    report = report_data(save(search_info(tmp_path / "p"), trials))
    causes = [(item["error"], item["count"], item["trial_ids"]) for item in report["failures"]]
    assert causes == [
        ("OOM: 12 bytes", 2, ["0000", "0002"]),
        ("ValueError: no", 1, ["0001"]),
        ("unknown", 1, ["0003"]),
    ]


def test_trials_that_do_not_count_are_only_listed_with_their_reasons(tmp_path):
    """A report of a changed search is that of the trials that are in the present space."""
    space = [item for item in SPACE if item["name"] != "padding"]
    records = evolve(search_info(tmp_path), 30)
    finished = [record for record in records if record.score is not None]
    best = max(finished, key=lambda record: record.score)
    reasons = {r.trial_id: "'gone' was removed" for r in (finished[0], finished[1], best)}
    scores = [record.score for record in records if record.trial_id in reasons]
    old = {"space": [{"class_name": "Int", "config": {"name": "gone", "min_value": 0}}]}
    stored = [
        dataclasses.replace(record, hyperparameters=old if record.trial_id in reasons else None)
        for record in records
    ]
    changed = search_info(tmp_path / "changed", space=space, exclusions=Exclusions(space=reasons))
    report = report_data(save(changed, stored))
    (group,) = report.pop("excluded")
    assert group["reason"] == "'gone' was removed"
    assert sorted(group["trial_ids"]) == sorted(reasons)
    assert sorted(group["scores"]) == sorted(scores)
    counted = [record for record in records if record.trial_id not in reasons]
    expected = report_data(save(search_info(tmp_path / "new", space=space), counted))
    assert expected.pop("excluded") == []
    lineages = report.pop("lineage"), expected.pop("lineage")  # whose parents need not count
    assert [steps["steps"][-1]["trial_id"] for steps in lineages] == [
        report["best"]["trial_id"]
    ] * 2
    assert report == expected
    html = page(report_data(changed.directory))
    assert "Trials that do not count" in html and "&#39;gone&#39; was removed" in html


def test_costs_of_the_best_trial_and_of_all_trials(tmp_path):
    costs = [
        {"parameters": 10.0},
        {"parameters": 30.0, "train_seconds": 2.0},
        {"parameters": 20.0},
    ]
    trials = [record_of(n, WIDTH, n / 10, costs=item) for n, item in enumerate(costs)]
    table = {
        item["name"]: item
        for item in report_data(save(search_info(tmp_path / "p"), trials))["costs"]
    }
    assert table["parameters"] == {
        "name": "parameters",
        "best": 20.0,
        "median": 20.0,
        "smallest": 10.0,
        "largest": 30.0,
        "total": None,
        "trials": 3,
    }
    assert table["train_seconds"]["total"] == 2.0
    assert table["seconds"]["total"] == pytest.approx(sum(item.seconds for item in trials))


def test_a_folder_without_a_search_is_an_error(tmp_path):
    with pytest.raises(StateError, match="`directory` must be the project folder of a search"):
        report_data(tmp_path)


def test_the_data_of_a_search_without_trials(tmp_path):
    search = search_info(tmp_path / "p")
    report = report_data(save(search, []))
    assert report["best"] is None and report["trials"]["trial_id"] == []
    report = report_data(save(search, [record_of(1, WIDTH, None, status=KILLED, metrics={})]))
    assert report["best"] is None and report["counts"]["killed"] == 1


def test_a_trial_that_violates_a_constraint_is_not_the_best(tmp_path):
    limit = {"name": "parameters", "max": 1000.0, "min": None}
    search = search_info(tmp_path / "p", constraints=(limit,))
    trials = [record_of(1, {"width": 8, "depth": 6}, 0.9), record_of(2, WIDTH, 0.5)]
    folder = save(search, trials)
    InfeasibleSummary(count=3, by_constraint={"parameters": 3}).save(folder)
    report = report_data(folder)
    assert report["best"]["trial_id"] == "0002" and report["trials"]["rank"] == [None, 1]
    assert report["infeasible"]["count"] == 3


def test_values_that_are_not_finite_become_none(tmp_path):
    trial = record_of(1, WIDTH, 0.5, metrics={"val_accuracy": 0.5, "val_loss": float("inf")})
    report = report_data(save(search_info(tmp_path / "p"), [trial]))
    assert report["best"]["metrics"] == {"val_accuracy": 0.5, "val_loss": None}


def test_importance_uses_trials_of_equal_length(tmp_path):
    search = search_info(tmp_path / "p", strategy="SuccessiveHalvingOracle")
    first = [
        record_of(n, {**item.values, **Fidelity(3).to_values()}, item.score)
        for n, item in enumerate(evolve(search, 30, failing=0.0))
    ]
    further = Fidelity(9, 3, 1, "0007").to_values()
    promotion = record_of(30, {**first[7].values, **further}, first[7].score - 0.1)
    report = report_data(save(search, [*first, promotion]))
    assert report["best"]["trial_id"] == "0030"
    assert (report["importance"]["trials"], report["importance"]["epochs"]) == (30, 3)
    assert report["lineage"]["steps"][-1]["kind"] == "promotion"
    assert not any(name.startswith("tuner/") for name in report["trials"]["values"])


@pytest.mark.parametrize(
    ("score", "expected"), [(0.9, "val_accuracy"), (-0.9 + 800.0, "signed sum of the objectives")]
)
def test_the_name_of_the_score_of_several_objectives(tmp_path, score, expected):
    objectives = {"objectives": "val_accuracy (max), parameters (min)"}
    search = search_info(tmp_path / "p", objective="multi_objective", settings=objectives)
    trial = record_of(1, WIDTH, score, metrics={"val_accuracy": 0.9})
    report = report_data(save(search, [trial]))
    assert report["score"] == expected
    assert [item["name"] for item in report["search"]["objectives"]] == [
        "val_accuracy",
        "parameters",
    ]


def hyperparameters():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    hp.Fixed("fixed", 3)
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("units", 2, 64, sampling="log")
        hp.Float("rate", 0.0, 0.5, step=0.1)
    hp.Boolean("flag")
    return hp


def test_the_space_equals_the_space_that_was_searched():
    hp = hyperparameters()
    search = search_info("x", space=describe(hp))
    restored = search_info("x", space=tuple(json.loads(json.dumps(search.space))))
    assert space_of(restored) == spec_of(hp)


def test_the_space_includes_decisions_that_trials_declared():
    hp = hyperparameters()
    trial = record_of(1, {}, 0.5, hyperparameters=json.loads(json.dumps(hp.get_config())))
    report = space_of(search_info("x", space=describe(hp)[:2]), [trial])
    assert {item.name for item in report.decisions} == spec_of(hp).names
    assert set(report.decisions) == set(spec_of(hp).decisions)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"name": "x", "type": "Complex"},
            "Choice, Int, Float, Boolean or Fixed; got Complex",
        ),
        ({"name": "x", "type": "Int", "min_value": 1}, "must have 'max_value'"),
    ],
)
def test_an_invalid_hyperparameter_is_an_error(config, expected):
    with pytest.raises(SearchSpaceError, match=expected):
        decision_of(config)


def test_the_space_of_the_fixtures_can_be_sampled():
    spec = space_of(search_info("x", space=SPACE))
    spec.validate(spec.sample(np.random.default_rng(0)))


def test_the_report_imports_no_framework_and_uses_no_network(evolved):
    program = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = refuse\n"
        "from keras_nas_plugin.reports.page import write_report\n"
        "write_report(sys.argv[1], sys.argv[2])\n"
        "print(sorted({'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'jax'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(evolved), str(evolved / "page.html")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr

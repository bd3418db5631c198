import json
import subprocess
import sys

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.reports import report_data
from keras_nas_plugin.reports.space import decision_of, space_of
from keras_nas_plugin.space.fidelity import Fidelity
from keras_nas_plugin.space.hyperparameters import describe, spec_of
from keras_nas_plugin.tracking.records import KILLED, Refused, load_records
from tests.reports.conftest import SPACE, evolve, failed, record_of, save, search_info

WIDTH = {"width": 8, "depth": 1}


@pytest.fixture(scope="module")
def data(evolved):
    return report_data(evolved)


def test_the_numbers_are_json_and_the_same_each_time(data, evolved):
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text) == data == report_data(evolved)


def test_trials_stand_in_the_order_of_their_ends(data, evolved):
    records = sorted(load_records(evolved), key=lambda one: one.ended_ms)
    trials = data["trials"]
    assert trials["trial_id"] == [one.trial_id for one in records]
    assert trials["score"] == [one.score for one in records]
    assert trials["values"]["shortcut"] == [one.values.get("shortcut") for one in records]
    columns = [column for column in trials.values() if isinstance(column, list)]
    for part in ("values", "metrics", "costs", "proxies"):
        columns += trials[part].values()
    assert {len(column) for column in columns} == {60}


def test_the_winner_and_the_counts(data, evolved):
    records = list(load_records(evolved))
    finished = [one for one in records if one.status == "FINISHED"]
    best = max(finished, key=lambda one: one.score)
    assert data["best"]["trial_id"] == best.trial_id
    assert data["best"]["values"] == best.values
    assert data["best"]["architecture"] is None
    assert data["trials"]["best_so_far"][-1] == best.score
    assert data["lineage"]["steps"][-1]["trial_id"] == best.trial_id
    failed_ones = len(records) - len(finished)
    assert data["counts"] == {"finished": len(finished), "failed": failed_ones, "killed": 0}
    assert failed_ones > 0


def test_causes_of_failures_are_told_apart_by_more_than_their_numbers(tmp_path):
    errors = ["OOM: 12 bytes", "ValueError: no", "OOM: 9 bytes", None]
    trials = [failed(n, WIDTH, error) for n, error in enumerate(errors)]
    found = report_data(save(search_info(tmp_path / "p"), trials))
    causes = [(one["error"], one["count"], one["trial_ids"]) for one in found["failures"]]
    assert causes == [
        ("OOM: 12 bytes", 2, ["0000", "0002"]),
        ("ValueError: no", 1, ["0001"]),
        ("unknown", 1, ["0003"]),
    ]


def test_costs_of_the_winner_and_the_rest(tmp_path):
    costs = [
        {"parameters": 10.0},
        {"parameters": 30.0, "train_seconds": 2.0},
        {"parameters": 20.0},
    ]
    trials = [record_of(n, WIDTH, n / 10, costs=one) for n, one in enumerate(costs)]
    table = {
        one["name"]: one for one in report_data(save(search_info(tmp_path / "p"), trials))["costs"]
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
    assert table["seconds"]["total"] == pytest.approx(sum(one.seconds for one in trials))


def test_a_folder_without_a_search(tmp_path):
    with pytest.raises(StateError, match="`directory` needs the project folder of a search"):
        report_data(tmp_path)


def test_a_search_that_has_only_begun(tmp_path):
    search = search_info(tmp_path / "p")
    found = report_data(save(search, []))
    assert found["best"] is None and found["trials"]["trial_id"] == []
    found = report_data(save(search, [record_of(1, WIDTH, None, status=KILLED, metrics={})]))
    assert found["best"] is None and found["counts"]["killed"] == 1


def test_what_breaks_a_constraint_is_not_the_best(tmp_path):
    limit = {"name": "parameters", "max": 1000.0, "min": None}
    search = search_info(tmp_path / "p", constraints=(limit,))
    trials = [record_of(1, {"width": 8, "depth": 6}, 0.9), record_of(2, WIDTH, 0.5)]
    folder = save(search, trials)
    Refused(count=3, by_constraint={"parameters": 3}).save(folder)
    found = report_data(folder)
    assert found["best"]["trial_id"] == "0002" and found["trials"]["rank"] == [None, 1]
    assert found["infeasible"]["count"] == 3


def test_not_a_number_is_none(tmp_path):
    trial = record_of(1, WIDTH, 0.5, metrics={"val_accuracy": 0.5, "val_loss": float("inf")})
    found = report_data(save(search_info(tmp_path / "p"), [trial]))
    assert found["best"]["metrics"] == {"val_accuracy": 0.5, "val_loss": None}


def test_of_a_search_in_rungs_those_trained_equally_long_are_compared(tmp_path):
    search = search_info(tmp_path / "p", strategy="SuccessiveHalvingOracle")
    first = [
        record_of(n, {**one.values, **Fidelity(3).to_values()}, one.score)
        for n, one in enumerate(evolve(search, 30, failing=0.0))
    ]
    further = Fidelity(9, 3, 1, "0007").to_values()
    last = record_of(30, {**first[7].values, **further}, first[7].score - 0.1)
    found = report_data(save(search, [*first, last]))
    assert found["best"]["trial_id"] == "0030"
    assert (found["importance"]["trials"], found["importance"]["epochs"]) == (30, 3)
    assert found["lineage"]["steps"][-1]["kind"] == "promotion"
    assert not any(name.startswith("tuner/") for name in found["trials"]["values"])


@pytest.mark.parametrize(
    ("score", "said"), [(0.9, "val_accuracy"), (-0.9 + 800.0, "signed sum of the objectives")]
)
def test_the_name_of_the_score_of_several_objectives(tmp_path, score, said):
    objectives = {"objectives": "val_accuracy (max), parameters (min)"}
    search = search_info(tmp_path / "p", objective="multi_objective", settings=objectives)
    trial = record_of(1, WIDTH, score, metrics={"val_accuracy": 0.9})
    found = report_data(save(search, [trial]))
    assert found["score"] == said
    assert [one["name"] for one in found["search"]["objectives"]] == ["val_accuracy", "parameters"]


def hyperparameters():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    hp.Fixed("fixed", 3)
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("units", 2, 64, sampling="log")
        hp.Float("rate", 0.0, 0.5, step=0.1)
    hp.Boolean("flag")
    return hp


def test_the_space_is_the_one_that_was_searched():
    hp = hyperparameters()
    search = search_info("x", space=describe(hp))
    read = search_info("x", space=tuple(json.loads(json.dumps(search.space))))
    assert space_of(read) == spec_of(hp)


def test_decisions_that_trials_found_later_belong_to_the_space():
    hp = hyperparameters()
    trial = record_of(1, {}, 0.5, hyperparameters=json.loads(json.dumps(hp.get_config())))
    found = space_of(search_info("x", space=describe(hp)[:2]), [trial])
    assert {one.name for one in found.decisions} == spec_of(hp).names
    assert set(found.decisions) == set(spec_of(hp).decisions)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"name": "x", "type": "Complex"},
            "Choice, Int, Float, Boolean or Fixed; received Complex",
        ),
        ({"name": "x", "type": "Int", "min_value": 1}, "needs 'max_value'"),
    ],
)
def test_an_unknown_hyperparameter(config, said):
    with pytest.raises(SearchSpaceError, match=said):
        decision_of(config)


def test_a_space_of_this_file_can_be_sampled():
    spec = space_of(search_info("x", space=SPACE))
    spec.validate(spec.sample(np.random.default_rng(0)))


def test_it_needs_neither_a_framework_nor_a_network(evolved):
    program = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = refuse\n"
        "from keras_nas_plugin.reports.page import write_report\n"
        "write_report(sys.argv[1], sys.argv[2])\n"
        "print(sorted({'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'jax'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program, str(evolved), str(evolved / "page.html")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr

from keras_nas_plugin.reports.lineage import lineage
from tests.reports.conftest import record_of, search_info

SEARCH = search_info("x")


def test_a_mutation_and_a_crossover():
    trials = [
        record_of(1, {"width": 8, "depth": 1, "block": "plain"}, 0.5),
        record_of(2, {"width": 16, "depth": 1, "block": "plain"}, 0.7, parents=("0001",)),
        record_of(3, {"width": 64, "depth": 4, "block": "residual", "shortcut": "identity"}, 0.6),
        record_of(
            4,
            {"width": 16, "depth": 6, "block": "residual", "shortcut": "identity"},
            0.65,
            parents=("0003", "0002"),
        ),
    ]
    found = lineage(SEARCH, trials, trials[3])
    assert found["note"] is None
    first, second, third = found["steps"]
    assert [one["trial_id"] for one in found["steps"]] == ["0001", "0002", "0004"]
    assert [one["kind"] for one in found["steps"]] == ["start", "mutation", "crossover"]
    assert (first["gain"], first["changes"]) == (None, [])
    assert round(second["gain"], 9) == 0.2
    assert second["changes"] == [
        {"decision": "width", "before": 8, "after": 16, "source": "mutation"}
    ]
    # Held against the better parent, which the line goes on with.
    assert third["from"] == "0002" and round(third["gain"], 9) == -0.05
    assert third["parents"] == ["0003", "0002"]
    sources = {one["decision"]: one["source"] for one in third["changes"]}
    assert sources == {"depth": "mutation", "block": "0003", "shortcut": "0003"}
    gone = next(one for one in third["changes"] if one["decision"] == "shortcut")
    assert (gone["before"], gone["after"]) == (None, "identity")


def test_smaller_may_be_better():
    trials = [record_of(1, {"width": 8}, 0.5), record_of(2, {"width": 9}, 0.3, parents=("0001",))]
    found = lineage(search_info("x", direction="min"), trials, trials[1])
    assert found["steps"][-1]["gain"] == 0.2


def test_training_further_is_a_step_that_changes_nothing():
    short = {"width": 8, "tuner/epochs": 3, "tuner/round": 0}
    long = {"width": 8, "tuner/epochs": 9, "tuner/round": 1, "tuner/trial_id": "0001"}
    trials = [record_of(1, short, 0.5), record_of(2, long, 0.6)]
    last = lineage(SEARCH, trials, trials[1])["steps"][-1]
    assert (last["kind"], last["from"], last["changes"]) == ("promotion", "0001", [])


def test_an_ancestor_of_an_earlier_search_ends_the_line():
    child = record_of(1, {"width": 8}, 0.5, parents=("earlier-3",))
    (step,) = lineage(SEARCH, [child], child)["steps"]
    assert (step["parents"], step["from"], step["gain"]) == (["earlier-3"], None, None)


def test_no_ancestors_and_no_winner():
    alone = record_of(1, {"width": 8}, 0.5)
    assert "not derived" in lineage(SEARCH, [alone], alone)["note"]
    assert lineage(SEARCH, [], None) == {"steps": [], "note": "There is no winner yet."}


def test_records_that_name_each_other_do_not_go_round_for_ever():
    trials = [
        record_of(1, {"width": 8}, 0.5, parents=("0002",)),
        record_of(2, {"width": 9}, 0.6, parents=("0001",)),
    ]
    found = lineage(SEARCH, trials, trials[1])
    assert [one["trial_id"] for one in found["steps"]] == ["0001", "0002"]

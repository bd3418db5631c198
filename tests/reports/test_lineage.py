from keras_nas_plugin.reports.lineage import lineage
from tests.reports.conftest import record_of, search_info

SEARCH = search_info("x")


def test_steps_of_a_mutation_and_a_crossover():
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
    result = lineage(SEARCH, trials, trials[3])
    assert result["note"] is None
    first, second, third = result["steps"]
    assert [step["trial_id"] for step in result["steps"]] == ["0001", "0002", "0004"]
    assert [step["kind"] for step in result["steps"]] == ["start", "mutation", "crossover"]
    assert (first["gain"], first["changes"]) == (None, [])
    assert round(second["gain"], 9) == 0.2
    assert second["changes"] == [
        {"decision": "width", "before": 8, "after": 16, "source": "mutation"}
    ]
    # The lineage follows the better parent, with which the trial is compared.
    assert third["from"] == "0002" and round(third["gain"], 9) == -0.05
    assert third["parents"] == ["0003", "0002"]
    sources = {step["decision"]: step["source"] for step in third["changes"]}
    assert sources == {"depth": "mutation", "block": "0003", "shortcut": "0003"}
    change = next(step for step in third["changes"] if step["decision"] == "shortcut")
    assert (change["before"], change["after"]) == (None, "identity")


def test_the_gain_is_positive_for_smaller_scores_when_minimising():
    trials = [record_of(1, {"width": 8}, 0.5), record_of(2, {"width": 9}, 0.3, parents=("0001",))]
    result = lineage(search_info("x", direction="min"), trials, trials[1])
    assert result["steps"][-1]["gain"] == 0.2


def test_a_promotion_is_a_step_without_changes():
    short = {"width": 8, "tuner/epochs": 3, "tuner/round": 0}
    long = {"width": 8, "tuner/epochs": 9, "tuner/round": 1, "tuner/trial_id": "0001"}
    trials = [record_of(1, short, 0.5), record_of(2, long, 0.6)]
    promotion = lineage(SEARCH, trials, trials[1])["steps"][-1]
    assert (promotion["kind"], promotion["from"], promotion["changes"]) == (
        "promotion",
        "0001",
        [],
    )


def test_the_lineage_ends_at_a_parent_that_is_not_on_disk():
    child = record_of(1, {"width": 8}, 0.5, parents=("earlier-3",))
    (step,) = lineage(SEARCH, [child], child)["steps"]
    assert (step["parents"], step["from"], step["gain"]) == (["earlier-3"], None, None)


def test_the_lineage_without_ancestors_or_without_a_best_trial():
    without_parents = record_of(1, {"width": 8}, 0.5)
    assert "not derived" in lineage(SEARCH, [without_parents], without_parents)["note"]
    assert lineage(SEARCH, [], None) == {"steps": [], "note": "There is no best trial yet."}


def test_a_cycle_of_parents_ends_the_lineage():
    trials = [
        record_of(1, {"width": 8}, 0.5, parents=("0002",)),
        record_of(2, {"width": 9}, 0.6, parents=("0001",)),
    ]
    result = lineage(SEARCH, trials, trials[1])
    assert [step["trial_id"] for step in result["steps"]] == ["0001", "0002"]

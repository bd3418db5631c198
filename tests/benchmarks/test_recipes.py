"""The table of `benchmarks/recipes.py`."""

from benchmarks import recipes


def result(contestant, seed, scores, **others):
    settings = {"recipe": "tabular", "data": "/data/adult.csv", "limit": 0, "budget": 60.0}
    described = {"larger": True, "strategy": "evolution", "trained": 30, "epochs": 0, "threads": 1}
    return (
        settings | described | {"contestant": contestant, "seed": seed, "scores": scores} | others
    )


RESULTS = [
    result("evolution", 0, {"search": {"accuracy": 0.8, "f1": 0.1}}, trials=4),
    result("evolution", 1, {"search": {"accuracy": 0.9, "f1": 0.1}}, trials=5),
    result("random", 0, {}, trials=0),  # no trial ended in time
    result("random", 1, {"search": {"accuracy": 0.7, "f1": 0.1}}, trials=1),
    result("baselines", 0, {"boosting": {"accuracy": 0.82}, "linear": {"accuracy": 0.6}}),
]


def test_the_table_has_the_first_metric_of_each_contestant_and_marks_the_best():
    rows = [line.strip("| ").split(" | ") for line in recipes.report(RESULTS).splitlines()[2:]]
    assert all(row[:5] == ["tabular", "adult.csv", "60", "30", "accuracy"] for row in rows)
    assert [row[5:] for row in rows] == [
        ["evolution", "**0.8500 ± 0.0500**", "2", "4.5"],
        ["random", "0.7000 ± ?", "1", "1.0"],
        ["boosting", "0.8200 ± ?", "1", "-"],
        ["linear", "0.6000 ± ?", "1", "-"],
    ]


def test_the_smallest_is_the_best_where_the_recipe_says_so():
    results = [{**entry, "larger": False} for entry in RESULTS]
    assert recipes.report(results).count("**") == 2
    assert "**0.6000 ± ?**" in recipes.report(results)


def test_contests_without_a_score_have_no_row():
    assert len(recipes.report([RESULTS[2]]).splitlines()) == 2

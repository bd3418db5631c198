"""Several searches in one page: curves, groups of repetitions, tests, common configurations."""

import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.errors import StateError
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.reports import comparison_data, write_comparison
from keras_nas_plugin.reports.comparison_sections import verdict
from tests.reports.conftest import SPACE, evolve, failed, record_of, save, search_info
from tests.reports.test_page import Page

TRIALS = 40
EVOLUTION, RANDOM = "RegularizedEvolutionOracle", "RandomOracle"


def stored(folder, name, *, strategy=EVOLUTION, seed=0, trials=TRIALS, **changes):
    """A search of synthetic trials; in random search, no trial has parents."""
    (folder / name).mkdir(parents=True)
    settings = {"epochs": 3, "seed": seed}
    search = search_info(
        folder / name, name=name, search_id=name, strategy=strategy, settings=settings, **changes
    )
    population = trials + 1 if strategy == RANDOM else 8
    return save(search, evolve(search, trials, population=population, seed=seed))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four repetitions of evolution and of random search."""
    root = tmp_path_factory.mktemp("searches")
    return [
        stored(root, f"{strategy[:6].lower()}{seed}", strategy=strategy, seed=seed)
        for strategy in (EVOLUTION, RANDOM)
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def data(folders):
    return comparison_data(folders)


def best_scores(folder):
    records = sorted(load_records(folder), key=lambda record: record.ended_ms)
    best = itertools.accumulate(
        (-np.inf if record.score is None else record.score for record in records), max
    )
    return np.array(list(best))


def test_repetitions_of_a_search_are_one_line_with_the_range_of_its_searches(data, folders):
    assert [group["searches"] for group in data["groups"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    scores = np.array([best_scores(folder) for folder in folders[:4]])
    curve = data["groups"][0]["over_trials"]
    assert curve["at"][-1] == TRIALS
    complete = np.isfinite(scores).all(axis=0)
    np.testing.assert_allclose(curve["mean"], scores.mean(axis=0)[complete])
    np.testing.assert_allclose(curve["low"], scores.min(axis=0)[complete])
    np.testing.assert_allclose(curve["high"], scores.max(axis=0)[complete])
    seconds = data["groups"][0]["over_seconds"]
    assert seconds["at"] == sorted(seconds["at"])
    assert seconds["mean"] == sorted(seconds["mean"])
    assert seconds["mean"][-1] <= curve["mean"][-1]


def test_groups_are_compared_by_a_permutation_test_after_equal_numbers_of_trials(data, folders):
    (test,) = data["tests"]
    best = np.array([best_scores(folder)[TRIALS - 1] for folder in folders])
    assert test["difference"] == pytest.approx(best[:4].mean() - best[4:].mean())
    differences = [
        best[list(chosen)].mean() - np.delete(best, list(chosen)).mean()
        for chosen in itertools.combinations(range(8), 4)
    ]
    two_sided = np.mean(np.abs(differences) >= abs(test["difference"]) - 1e-12)
    assert test["p"] == pytest.approx(two_sided)
    assert test["smallest_p"] == pytest.approx(2 / 70)
    assert test["better"] == (data["groups"][0]["label"] if two_sided <= 0.05 else None)


def test_single_searches_are_compared_by_the_scores_of_their_trials(tmp_path):
    good = stored(tmp_path, "good", trials=30)
    search = search_info(tmp_path / "poor", name="poor", strategy=RANDOM)
    (tmp_path / "poor").mkdir()
    records = [record_of(n, {"width": 8, "depth": 1}, 0.5 + n / 1000) for n in range(20)]
    save(search, records)
    data = comparison_data([good, tmp_path / "poor"])
    (test,) = data["tests"]
    assert test["test"] == "Mann-Whitney" and data["compared_trials"] == 20
    scores = [
        [
            record.score
            for record in sorted(load_records(folder), key=lambda record: record.ended_ms)[:20]
            if record.score is not None
        ]
        for folder in (good, tmp_path / "poor")
    ]
    assert test["p"] == pytest.approx(stats.mannwhitneyu(*scores).pvalue)
    assert test["better"] == "good"
    assert "good is better than poor" in verdict(data)
    assert "repeat each with several seeds" in verdict(data)


def test_p_values_are_corrected_for_the_number_of_pairs(tmp_path):
    """Holm: the smallest of m p-values times m, the next times m - 1, and never decreasing."""
    folders = [stored(tmp_path, f"s{n}", strategy=f"Strategy{n}", seed=n) for n in range(3)]
    tests = sorted(comparison_data(folders)["tests"], key=lambda test: test["p"])
    expected = np.maximum.accumulate([min(1.0, t["p"] * (3 - n)) for n, t in enumerate(tests)])
    assert [test["p_corrected"] for test in tests] == pytest.approx(expected.tolist())


def test_minimised_objectives_are_compared_in_their_direction(tmp_path):
    folders = []
    for name, offset in (("low", 0.2), ("high", 0.6)):
        (tmp_path / name).mkdir()
        search = search_info(
            tmp_path / name,
            name=name,
            search_id=name,
            objective="val_loss",
            direction="min",
            strategy=name,
        )
        records = [record_of(n, {"width": 8, "depth": 1}, offset + n / 100) for n in range(12)]
        folders.append(save(search, records))
    data = comparison_data(folders)
    assert data["tests"][0]["better"] == "low"
    assert data["groups"][0]["over_trials"]["mean"][-1] == pytest.approx(0.2)


def test_configurations_in_common_are_listed_with_the_scores_of_each_search(tmp_path):
    same = {"width": 16, "depth": 2}
    folders = []
    for name, score in (("a", 0.7), ("b", 0.8)):
        (tmp_path / name).mkdir()
        search = search_info(tmp_path / name, name=name, strategy=name)
        records = [
            record_of(0, same, score),
            record_of(1, {"width": 8, "depth": len(folders) + 1}, 0.5),
        ]
        folders.append(save(search, records))
    common = comparison_data(folders)["common"]
    assert common["configurations"] == 3
    (shared,) = common["shared"]
    assert shared["values"] == same and shared["scores"] == [0.7, 0.8]


def test_trials_that_do_not_count_are_in_no_curve(tmp_path):
    scores = (0.9, 0.5, 0.6)
    records = [record_of(n, {"width": 8, "depth": n + 1}, score) for n, score in enumerate(scores)]
    exclusions = Exclusions(epochs={"0000": "it was trained for 1 epoch"})
    changed = save(search_info(tmp_path / "a", exclusions=exclusions), records)
    data = comparison_data([changed, save(search_info(tmp_path / "b"), records)])
    first, second = data["searches"]
    assert (first["finished"], first["best"]["score"]) == (2, 0.6)
    assert (second["finished"], second["best"]["score"]) == (3, 0.9)
    assert data["compared_trials"] == 2


def test_pauses_are_not_part_of_the_seconds_of_a_search(tmp_path):
    folders = []
    for name, pause in (("resumed", 86_400_000), ("straight", 0)):
        (tmp_path / name).mkdir()
        search = search_info(tmp_path / name, name=name, strategy=name)
        records = [
            record_of(
                n,
                {"width": 8, "depth": 1},
                0.5 + n / 100,
                started_ms=n * 10_000 + pause * (n >= 3),
                ended_ms=n * 10_000 + 9_000 + pause * (n >= 3),
            )
            for n in range(6)
        ]
        folders.append(save(search, records))
    resumed, straight = comparison_data(folders)["searches"]
    assert straight["seconds"] == 59.0
    assert resumed["seconds"] == 58.0  # the second between the trials belongs to the pause


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "val_loss", "direction": "min"}, "same objective; got .*val_loss"),
        ({"direction": "min"}, "same objective"),
    ],
)
def test_searches_with_different_objectives_cannot_be_compared(tmp_path, change, message):
    folders = [stored(tmp_path, "a"), stored(tmp_path, "b", **change)]
    with pytest.raises(StateError, match=message):
        comparison_data(folders)


def test_a_folder_without_a_search_and_a_single_search_are_errors(tmp_path):
    folder = stored(tmp_path, "a")
    with pytest.raises(StateError, match=r"search.json; got .*missing"):
        comparison_data([folder, tmp_path / "missing"])
    with pytest.raises(StateError, match="at least two folders; got 1"):
        comparison_data([folder])


def test_what_makes_scores_hard_to_compare_is_said(tmp_path):
    folders = [
        stored(tmp_path, "a"),
        stored(
            tmp_path, "b", space=SPACE[:-1], environment={"device": "CPU", "precision": "float16"}
        ),
    ]
    differences = comparison_data(folders)["differences"]
    assert differences == [
        "a and b have different spaces.",
        "a and b have different precisions.",
    ]


def test_the_page_is_self_contained_and_has_every_section(folders, tmp_path):
    html = write_comparison(folders, tmp_path / "comparison.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.headings == [
        "Searches",
        "Best score so far, over trials",
        "Best score so far, over seconds",
        "Pareto fronts",
        "Which is better",
        "Configurations in common",
    ]
    assert len(page.all("svg")) == 3
    assert not [value for value in page.values("src") + page.values("href") if "//" in value]
    (numbers,) = page.all("script", id="report-data")
    assert json.loads(numbers["text"]) == comparison_data(folders)
    assert verdict(comparison_data(folders)) in " ".join(p["text"] for p in page.all("p"))


def test_searches_without_a_score_can_be_compared(tmp_path):
    folders = []
    for name in "ab":
        (tmp_path / name).mkdir()
        search = search_info(tmp_path / name, name=name, strategy=name)
        folders.append(save(search, [failed(0, {"width": 8, "depth": 1}, "ValueError: no")]))
    path = write_comparison(folders, tmp_path / "comparison.html")
    assert "too few of them have a score" in path.read_text(encoding="utf-8")


def test_the_command_writes_a_page_or_json(folders, tmp_path):
    root, names = str(folders[0].parent), [folder.name for folder in folders]
    run = CliRunner().invoke(
        cli, ["compare", names[0], str(folders[4]), "--directory", root, "--json"]
    )
    assert run.exit_code == 0, run.output
    assert [search["name"] for search in json.loads(run.stdout)["searches"]] == [
        names[0],
        names[4],
    ]
    out = tmp_path / "page.html"
    run = CliRunner().invoke(cli, ["compare", *names, "--directory", root, "--out", str(out)])
    assert run.exit_code == 0 and out.exists()
    assert "4 searches" in run.stdout
    for arguments, message in (
        ([names[0]], "`SEARCH` must be at least two searches; got 1"),
        ([names[0], names[0]], "`SEARCH` must be different searches"),
        ([names[0], "missing"], "must be a search in"),
    ):
        run = CliRunner().invoke(cli, ["compare", *arguments, "--directory", root])
        assert run.exit_code == 2 and message in run.stderr

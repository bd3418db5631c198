"""Statistics and reports of many repetitions."""

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import _bars, _driving, _peers, _report, _statistics, _tables
from tests.benchmarks.scripted import Scripted, table_of


def row_of(truth, title="RandomOracle", name="cifar10"):
    table = table_of(name)
    truth = np.array(truth, dtype=float)
    return _statistics.Row(table, title, truth, np.full(truth.shape, 0.002))


def test_the_paired_test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1, 30), rng.normal(0, 1, 40)
    gain, p = _statistics.paired(first, second)
    expected = stats.ttest_rel(first, second[:30], alternative="greater")
    assert p == pytest.approx(expected.pvalue)
    assert gain.errors_above(0.0) == pytest.approx(expected.statistic)
    assert gain.count == 30


def test_equal_samples_and_single_repetitions_are_not_significant():
    assert _statistics.paired(np.ones(5), np.ones(5))[1] == 1.0
    assert _statistics.paired(np.array([2.0]), np.array([1.0]))[1] == 1.0
    assert _statistics.Estimate.of(np.array([1.0])).plain()["error"] is None


def test_reaches_is_the_first_query_whose_mean_meets_the_level():
    row = row_of([[90.0, 91.0, 92.0], [90.0, 90.0, 91.0]])
    assert row.reaches(90.5) == 2
    assert row.reaches(95.0) is None
    falling = row_of([[0.5, 0.3, 0.2]], name="protein_structure")
    assert falling.reaches(0.3) == 2


def test_regret_is_zero_at_the_optimum_and_at_most_one():
    row = row_of([[0.0]], name="naval_propulsion")
    median = float(np.median(row.table.truth))
    truth = [[row.table.best], [median], [row.table.truth.max()], [(median + row.table.best) / 2]]
    row = row_of(truth, name="naval_propulsion")
    assert row.regret(1) == pytest.approx([0.0, 1.0, 1.0, 0.5])


def test_the_answer_is_the_mean_accuracy_of_the_first_best_observation():
    table, rows = table_of("cifar100"), [17, 4000, 12_345, 4000, 9]
    search = Scripted(table, rows)
    run = _driving.drive(search, table, len(rows), seed=5)
    oven = _tables.Oven(table, seed=5)
    observed, answers = [], []
    for row in rows:
        observed.append(oven.train(row))
        answers.append(table.truth[rows[int(np.argmax(observed))]])
    assert run.truth.tolist() == answers
    # The fourth query trains the same cell again, possibly with another score.
    assert [metrics["val_accuracy"] for metrics in search.reported] == observed


def test_bars_report_pass_level_and_miss():
    """A search at the optimum passes every bar, and one of random search's level none."""
    rng = np.random.default_rng(0)
    rows = {}
    for name in _tables.NAS_BENCH_201:
        table = table_of(name)
        mean, spread = _tables.random_search(table, 100)
        level = np.repeat(rng.normal(mean, spread, (20, 1)), 100, axis=1)
        rows[name, "RandomOracle"] = row_of(level, "RandomOracle", name)
        rows[name, "Optuna TPE"] = row_of(level, "Optuna TPE", name)
        optimum = np.full((20, 100), table.best) + rng.normal(0, 1e-4, (20, 100))
        rows[name, "SurrogateOracle"] = row_of(optimum, "SurrogateOracle", name)
        even = level + np.tile([[1e-3], [-1e-3]], (10, 1))
        rows[name, "PPOOracle"] = row_of(even, "PPOOracle", name)
    bars = _bars.nas_bars(rows)
    # Reached at 50 and 100, the race, above random, beside peers at 50 and 100.
    assert len([bar for bar in bars if "SurrogateOracle" in bar.claim]) == 3 * (2 + 1 + 1 + 2)
    assert {bar.verdict for bar in bars if "SurrogateOracle" in bar.claim} == {"PASS", "AHEAD"}
    above = [bar for bar in bars if "PPOOracle" in bar.claim and "p < 0.01" in bar.claim]
    assert [bar.verdict for bar in above] == ["MISS"] * 3
    beside = [bar for bar in bars if "PPOOracle" in bar.claim and "best peer" in bar.claim]
    assert {bar.verdict for bar in beside} == {"LEVEL (within 2 SE)"}


def test_the_surrogate_has_its_own_speed_bars():
    fast, slow = {"100": 0.009, "300": 0.4, "3000": 0.009}, {"100": 0.4, "300": 0.4, "3000": 1.9}
    bars = _bars.speed_bars({"PPOOracle": fast, "SurrogateOracle": slow})
    assert {bar.verdict for bar in bars} == {"PASS"}
    bars = _bars.speed_bars({"PPOOracle": slow, "SurrogateOracle": {**slow, "3000": 2.1}})
    assert [bar.verdict for bar in bars] == ["MISS", "MISS", "PASS", "MISS"]


def test_reports_show_every_row_and_results_are_json():
    rows = [row_of(np.full((3, 60), 91.0), title) for title in ("RandomOracle", "Optuna TPE")]
    nas = _statistics.about(table_of("cifar10")) | {"rows": [_statistics.summary(r) for r in rows]}
    loss = row_of(np.full((3, 60), 0.3), "Optuna TPE", "protein_structure")
    hpo = _statistics.about(loss.table) | {"rows": [_statistics.summary(loss)]}
    results = {
        "tables": {"cifar10": nas, "protein_structure": hpo},
        "speed": {"RandomOracle": {"100": 0.001, "own": 115}},
        "bars": [{"claim": "a", "measured": "b", "verdict": "MISS"}],
        "missing": ["SurrogateOracle"],
    }
    results = json.loads(json.dumps(results, allow_nan=False))
    text, marked = _report.text(results), _report.markdown(results)
    for words in ("RandomOracle", "91.000 ± 0.000", "91.00 (100)", "MISS", "SurrogateOracle"):
        assert words in text
    regret = (0.3 - loss.table.best) / (np.median(loss.table.truth) - loss.table.best)
    assert f"Optuna TPE {regret:.4f} ± 0.0000".replace(" ", "") in text.replace(" ", "")
    assert f"| protein_structure | {regret:.3f} ± 0.000 |" in marked
    assert "| Optuna TPE | 91.00 ± 0.00 | 91.00 ± 0.00 | > 60 | 2.0 | 3 |" in marked


def test_a_cached_search_is_not_run_again(tmp_path):
    job = _driving.Job("cifar10", _peers.TPE, 12, 0)
    first = _driving.run_all([job], processes=1, cache=tmp_path)[job]
    (file,) = tmp_path.iterdir()
    cached = json.loads(file.read_text())
    assert cached["truth"] == first.truth.tolist()
    file.write_text(json.dumps({**cached, "truth": [1.0] * 12}))
    reloaded = _driving.run_all([job], processes=1, cache=tmp_path)[job]
    assert reloaded.truth.tolist() == [1.0] * 12

"""A slice of the benchmark of proxies: a proxy that no longer ranks networks fails here.

Without any relation, Spearman's rho of n networks has mean 0 and standard deviation
``1 / sqrt(n - 1)``; one shuffle in a thousand reaches the threshold.
"""

import argparse

import numpy as np
import pytest
from scipy import stats

from benchmarks import proxies_nas_bench_201 as benchmark
from tests.benchmarks.scripted import table_of

CELLS = 30
SETTINGS = {
    "cells_per_stage": 1,
    "size": 16,
    "batch": 16,
    "images": "digits",
    "seed": 0,
    "initialisations": 1,
    "proxies": ["synflow", "jacob_cov", "naswot", "expressivity"],
}
# Proxies whose published rank correlation is far above the threshold at any depth. Gradient
# norms lose theirs in networks this shallow; `docs/proxies.md` has the figures.
RANKING = ("synflow", "jacob_cov", "naswot", "expressivity", "flops")


@pytest.fixture(scope="module")
def cifar10():
    return table_of("cifar10")


@pytest.fixture(scope="module")
def rows(cifar10):
    return benchmark.sampled(cifar10, CELLS, 0)


@pytest.fixture(scope="module")
def saved_scores(rows, tmp_path_factory):
    """The scores, and the file that holds them."""
    path = tmp_path_factory.mktemp("scores") / "pool.npz"
    return benchmark.scored(rows, SETTINGS, path), path


@pytest.fixture(scope="module")
def threshold():
    """The correlation that one in a thousand shuffles reaches."""
    order = np.arange(CELLS)
    shuffled = np.random.default_rng(0).permuted(np.tile(order, (20_000, 1)), axis=1)
    # Spearman's rho of ranks without ties.
    correlations = 1 - 6 * ((shuffled - order) ** 2).sum(axis=1) / (CELLS**3 - CELLS)
    assert correlations[0] == pytest.approx(stats.spearmanr(order, shuffled[0]).statistic)
    return np.quantile(correlations, 0.999)


@pytest.mark.parametrize("proxy", RANKING)
def test_a_proxy_ranks_better_than_chance(proxy, saved_scores, rows, cifar10, threshold):
    columns, _ = saved_scores
    ranks = stats.rankdata(columns[proxy])
    assert stats.spearmanr(ranks, cifar10.truth[rows]).statistic > threshold


def test_the_threshold_agrees_with_theory(threshold):
    """It is above zero, so that the test above can fail."""
    assert threshold == pytest.approx(stats.norm.isf(0.001) / np.sqrt(CELLS - 1), abs=0.05)


def test_the_sample_is_stratified_by_accuracy(rows, cifar10):
    strata = np.sort(stats.rankdata(cifar10.truth, "ordinal")[rows] - 1) * CELLS
    assert (strata // len(cifar10.truth) == np.arange(CELLS)).all()
    assert len(benchmark.sampled(cifar10, 0, 0)) == len(cifar10.truth)
    assert not np.array_equal(rows, benchmark.sampled(cifar10, CELLS, 1))


def test_values_of_a_row_map_back_to_the_row(rows, cifar10):
    for row in rows:
        values = benchmark.values_of(cifar10, int(row))
        names = [parameter.name for parameter in cifar10.parameters]
        assert cifar10.row(dict(zip(names, values.values(), strict=True))) == row


def test_saved_scores_are_reused_and_require_the_same_settings(saved_scores, rows, monkeypatch):
    columns, path = saved_scores
    monkeypatch.setattr(benchmark, "score", None)  # nothing is scored again
    reloaded = benchmark.scored(rows[:10], SETTINGS, path)
    for name, column in columns.items():
        np.testing.assert_array_equal(reloaded[name], column[:10])
    settings, scores = benchmark.load_scores(path)
    assert settings == SETTINGS
    assert set(scores) == {int(row) for row in rows}
    with pytest.raises(SystemExit, match="same settings"):
        benchmark.scored(rows, SETTINGS | {"batch": 8}, path)


def test_multiply_adds_agree_with_counted_flops(rows, cifar10):
    """The difference of two networks, counted by their kernels and feature maps."""
    from keras_nas_plugin.evaluation.flops import count_flops

    hypermodel = benchmark._hypermodel(SETTINGS)
    empty = 0  # the first row: no operation on any edge
    base = count_flops(hypermodel.build_values(benchmark.values_of(cifar10, empty)))
    for row in rows[:3]:
        model = hypermodel.build_values(benchmark.values_of(cifar10, int(row)))
        expected = benchmark.multiply_adds(cifar10, int(row), SETTINGS)
        assert count_flops(model) - base == expected


def test_images_are_distinct_standardised_and_reproducible():
    x, y = benchmark.batch_of(16, 32, 0)
    assert x.shape == (32, 16, 16, 3)
    assert x.std() == pytest.approx(1, rel=1e-5)
    assert set(y) <= set(range(10))
    np.testing.assert_array_equal(x, benchmark.batch_of(16, 32, 0)[0])
    assert len(np.unique(x.reshape(32, -1), axis=0)) == 32


def test_the_report_marks_missed_bars():
    truth = np.arange(40.0)
    columns = {"synflow": truth, "naswot": truth[::-1], "seconds": truth}
    agreement = benchmark.agreement(columns, truth, 0)
    assert agreement["synflow"]["spearman"] == pytest.approx(1)
    bars = {bar["proxy"]: bar["met"] for bar in benchmark.bars(agreement)}
    assert bars == {"synflow": False, "naswot": False}
    results = {
        "settings": SETTINGS,
        "tables": {"cifar10": agreement},
        "bars": benchmark.bars(agreement),
        "seconds_per_cell": 1.0,
    }
    assert benchmark.report(results).count("MISSED") == 2


def test_the_command_line_parses_its_options():
    options = benchmark._parser().parse_args(["--proxies", "snip,zen", "--cells", "7"])
    assert isinstance(options, argparse.Namespace)
    assert options.proxies == ["snip", "zen"]
    assert options.cells_per_stage == 5

"""A slice of the benchmark of proxies: one that no longer ranks networks fails here.

Under no relation at all, Spearman's rho of n networks has mean 0 and standard deviation
``1 / sqrt(n - 1)``; shuffling reaches what is asked for once in a thousand times.
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
    "proxies": ["synflow", "jacob_cov", "naswot", "expressivity", "progressivity", "trainability"],
}
# Those whose published rank correlation is far above the threshold at any depth. Gradients'
# norms lose theirs in networks as shallow as these; `docs/proxies.md` has the figures.
RANKING = ("synflow", "jacob_cov", "naswot", "expressivity", "flops")


@pytest.fixture(scope="module")
def cifar10():
    return table_of("cifar10")


@pytest.fixture(scope="module")
def rows(cifar10):
    return benchmark.sampled(cifar10, CELLS, 0)


@pytest.fixture(scope="module")
def kept(rows, tmp_path_factory):
    """The scores, and the file that they were kept in."""
    path = tmp_path_factory.mktemp("scores") / "pool.npz"
    return benchmark.scored(rows, SETTINGS, path), path


@pytest.fixture(scope="module")
def threshold():
    """What one of a thousand shuffles reaches."""
    rng = np.random.default_rng(0)
    order = np.arange(CELLS)
    found = [stats.spearmanr(order, rng.permutation(order)).statistic for _ in range(20_000)]
    return np.quantile(found, 0.999)


@pytest.mark.parametrize("proxy", RANKING)
def test_a_proxy_ranks_better_than_chance(proxy, kept, rows, cifar10, threshold):
    columns, _ = kept
    ranks = stats.rankdata(columns[proxy])
    assert stats.spearmanr(ranks, cifar10.truth[rows]).statistic > threshold


def test_the_threshold_is_where_theory_has_it(threshold):
    """And is more than none: the test above can fail."""
    assert threshold == pytest.approx(stats.norm.isf(0.001) / np.sqrt(CELLS - 1), abs=0.05)


def test_the_sample_is_stratified_by_accuracy(rows, cifar10):
    strata = np.sort(stats.rankdata(cifar10.truth, "ordinal")[rows] - 1) * CELLS
    assert (strata // len(cifar10.truth) == np.arange(CELLS)).all()
    assert len(benchmark.sampled(cifar10, 0, 0)) == len(cifar10.truth)
    assert not np.array_equal(rows, benchmark.sampled(cifar10, CELLS, 1))


def test_values_are_those_of_the_row(rows, cifar10):
    for row in rows:
        values = benchmark.values_of(cifar10, int(row))
        names = [parameter.name for parameter in cifar10.parameters]
        assert cifar10.row(dict(zip(names, values.values(), strict=True))) == row


def test_a_file_goes_on_where_it_ended(kept, rows, monkeypatch):
    columns, path = kept
    monkeypatch.setattr(benchmark, "score", None)  # nothing is scored again
    again = benchmark.scored(rows[:10], SETTINGS, path)
    for name, column in columns.items():
        np.testing.assert_array_equal(again[name], column[:10])
    settings, scores = benchmark.load_scores(path)
    assert settings == SETTINGS
    assert set(scores) == {int(row) for row in rows}
    with pytest.raises(SystemExit, match="same settings"):
        benchmark.scored(rows, SETTINGS | {"batch": 8}, path)


def test_the_multiply_adds_are_those_that_keras_layers_take(rows, cifar10):
    """The difference of two networks, counted by their kernels and feature maps."""
    from keras_nas_plugin.evaluation.flops import count_flops

    hypermodel = benchmark._hypermodel(SETTINGS)
    empty = 0  # the first row: no operation on any edge
    base = count_flops(hypermodel.build_values(benchmark.values_of(cifar10, empty)))
    for row in rows[:3]:
        model = hypermodel.build_values(benchmark.values_of(cifar10, int(row)))
        expected = benchmark.multiply_adds(cifar10, int(row), SETTINGS)
        assert count_flops(model) - base == expected


def test_images_are_real_and_the_same_for_a_seed():
    x, y = benchmark.batch_of(16, 32, 0)
    assert x.shape == (32, 16, 16, 3)
    assert x.std() == pytest.approx(1, rel=1e-5)
    assert set(y) <= set(range(10))
    np.testing.assert_array_equal(x, benchmark.batch_of(16, 32, 0)[0])
    assert len(np.unique(x.reshape(32, -1), axis=0)) == 32


def test_the_report_names_what_was_missed():
    truth = np.arange(40.0)
    columns = {"synflow": truth, "naswot": truth[::-1], "seconds": truth}
    found = benchmark.agreement(columns, truth, 0)
    assert found["synflow"]["spearman"] == pytest.approx(1)
    bars = {bar["proxy"]: bar["met"] for bar in benchmark.bars(found)}
    assert bars == {"synflow": False, "naswot": False}
    results = {
        "settings": SETTINGS,
        "tables": {"cifar10": found},
        "bars": benchmark.bars(found),
        "seconds_per_cell": 1.0,
    }
    assert benchmark.report(results).count("MISSED") == 2


def test_the_command_line():
    options = benchmark._parser().parse_args(["--proxies", "snip,zen", "--cells", "7"])
    assert isinstance(options, argparse.Namespace)
    assert options.proxies == ["snip", "zen"]
    assert options.cells_per_stage == 5

"""The file of proxy scores, and a slice of the searches that use it."""

import argparse
import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import _driving, _tables, proxy_search
from benchmarks import proxies_nas_bench_201 as networks
from keras_nas_plugin.space.presets import nas_bench_201
from tests.benchmarks.scripted import table_of

ERRORS = 3.0


def test_the_file_has_scores_of_every_cell():
    columns = proxy_search.proxy_columns()
    truth = table_of("cifar10").truth
    assert set(columns) == {*proxy_search.PROXIES, "params", "flops"}
    for name, column in columns.items():
        ranks = stats.rankdata(column)
        # 15,625 unrelated cells reach 0.5 with a negligible probability.
        assert column.shape == truth.shape and stats.spearmanr(ranks, truth).statistic > 0.5, name


def test_the_scores_in_the_file_are_reproducible():
    """Two of its networks are built and scored again."""
    with np.load(proxy_search.FILE) as content:
        settings = json.loads(str(content["settings"]))
        # The first cell with a path from input to output, and one from the middle.
        indices = [int(np.flatnonzero(np.isfinite(content["synflow"]))[0]), 3_000]
        rows = content["rows"][indices]
        expected = {name: content[name][indices] for name in proxy_search.PROXIES}
    assert settings == proxy_search.SETTINGS
    computed = networks.scored(rows, settings, None)
    for name, column in expected.items():
        np.testing.assert_allclose(computed[name], column, rtol=1e-3, err_msg=name)


def test_equal_cells_share_their_scores():
    """Every hundredth cell has the architecture hash of its representative row."""
    table = table_of("cifar10")
    hypermodel = nas_bench_201(inputs=(8, 8, 3), cells_per_stage=1, channels=1)
    with np.load(proxy_search.FILE) as content:
        representatives = content["rows"][content["cells"]]
    assert len(np.unique(representatives)) == 5_650
    for row in range(0, len(table.truth), 100):
        cell_hash, representative_hash = (
            hypermodel.architecture(networks.values_of(table, at)).hash()
            for at in (row, int(representatives[row]))
        )
        assert cell_hash == representative_hash


@pytest.mark.parametrize("name", [proxy_search.RANKER, proxy_search.GRADIENT])
def test_proxy_searches_beat_random_search(name):
    """By three standard errors of the mean of random search."""
    table, evaluations = table_of("cifar100"), 25
    mean, spread = _tables.random_search(table, evaluations)
    runs = [
        _driving.drive(
            proxy_search.search(name, table, evaluations, seed), table, evaluations, seed
        )
        for seed in range(4)
    ]
    scores = [(run.truth[-1] - mean) / spread for run in runs]
    assert np.mean(scores) > ERRORS / np.sqrt(len(scores))


def test_the_command_reports_the_bars(capsys):
    options = argparse.Namespace(
        only=[proxy_search.SHUFFLED, proxy_search.RANDOM], evaluations=50, reps=2
    )
    measured = proxy_search.measured("cifar10", options)
    assert measured[proxy_search.RANDOM]["50"]["count"] == 2
    printed = capsys.readouterr().out
    assert "random search is at 91.2" in printed
    assert f"{proxy_search.SHUFFLED} not below {proxy_search.RANDOM} after 25" in printed

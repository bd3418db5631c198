"""The benchmark of trial overhead on a few trials: that it runs, not how fast."""

import pytest

from benchmarks import trial_overhead
from keras_nas_plugin import oracles


@pytest.mark.parametrize("name", trial_overhead.TIMED)
def test_every_oracle_is_timed(name, tmp_path):
    seconds = trial_overhead._time_oracle(
        getattr(oracles, oracles.STRATEGIES[name]), 3, str(tmp_path)
    )
    assert seconds > 0


def test_the_stock_tuner_and_ours_reach_the_same_scores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the search writes to the working directory
    results = []
    for tuner in (trial_overhead.STOCK, trial_overhead.OURS):
        (tmp_path / tuner).mkdir()
        results.append(trial_overhead._search("mlp", tuner, 3, str(tmp_path / tuner)))
    assert results[0]["scores"] == results[1]["scores"] and len(results[0]["scores"]) == 3


def test_a_single_table_is_printed():
    times = {"100": 1.0, "3000": 2.0}
    shown = trial_overhead._report({"oracle": {"keras_nas random": times}})
    assert shown.splitlines()[-1].split() == ["keras_nas", "random", "1.0", "2.0"]

"""The benchmark of what a trial costs, on a few trials: that it runs, not how fast."""

import pytest

from benchmarks import trial_overhead
from keras_nas_plugin import oracles


@pytest.mark.parametrize("name", trial_overhead.TIMED)
def test_an_oracle_is_timed(name, tmp_path):
    found = trial_overhead._time_oracle(
        getattr(oracles, oracles.STRATEGIES[name]), 3, str(tmp_path)
    )
    assert found > 0


def test_both_kinds_of_search_train_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it changes the folder
    found = []
    for who in (trial_overhead.STOCK, trial_overhead.OURS):
        (tmp_path / who).mkdir()
        found.append(trial_overhead._search("mlp", who, 4, str(tmp_path / who)))
    assert found[0]["scores"] == found[1]["scores"] and len(found[0]["scores"]) == 4


def test_each_table_is_printed_by_itself():
    times = {"100": 1.0, "3000": 2.0}
    shown = trial_overhead._report({"oracle": {"keras_nas random": times}})
    assert shown.splitlines()[-1].split() == ["keras_nas", "random", "1.0", "2.0"]

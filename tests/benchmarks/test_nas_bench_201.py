"""A slice of the benchmark: a strategy that falls to random search's level fails here.

How far random search gets is known exactly (`_tables.random_search`). Each repetition's answer
is set beside it in standard deviations of random search; under its level the mean of ``n`` of
them has a standard error of ``1 / sqrt(n)``, and three of these are asked for.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _driving, _peers, _proposals, _tables
from tests.benchmarks.scripted import table_of

ROOT = Path(__file__).resolve().parents[2]
ERRORS = 3.0
RANDOM = "RandomOracle"
# Queries and repetitions on each table. A new strategy gets the first; the surrogate takes its
# time over a proposal, and is far ahead early; policies learn slowly.
DEFAULT = (100, 5)
SIZES = {"SurrogateOracle": (50, 2), "ReinforceOracle": (200, 6), "PPOOracle": (200, 6)}


def standing(name, evaluations, repetitions):
    """Answers in standard deviations above expected random search, on all three tables."""
    found = []
    for dataset in _tables.NAS_BENCH_201:
        table = table_of(dataset)
        mean, spread = _tables.random_search(table, evaluations)
        for repetition in range(repetitions):
            # Its seed is another one on each table: no answer depends on another.
            _, run = _driving.run_job(_driving.Job(dataset, name, evaluations, repetition))
            found.append((run.truth[-1] - mean) / spread)
    return np.array(found)


def test_every_oracle_that_the_claims_are_about_exists():
    assert _peers.missing() == []


@pytest.mark.parametrize(
    ("name", "title"), [one for one in _peers.ours().items() if RANDOM not in one]
)
def test_a_strategy_is_above_random_search(name, title):
    found = standing(name, *SIZES.get(title, DEFAULT))
    assert found.mean() > ERRORS / np.sqrt(len(found))


@pytest.mark.parametrize(
    ("name", "evaluations"),
    [(_peers.short_name(RANDOM), 10), (_peers.short_name(RANDOM), 60), (_peers.RANDOM, 10)],
)
def test_random_search_is_where_it_is_expected(name, evaluations):
    """Of ours and of KerasTuner's; also the proof that the test above can fail."""
    found = standing(name, evaluations, 8)
    assert abs(found.mean()) < ERRORS / np.sqrt(len(found))


def test_optuna_is_driven_as_well():
    """Its TPE is known to be far ahead of random search after 100 queries."""
    found = standing(_peers.TPE, 100, 3)
    assert found.mean() > ERRORS / np.sqrt(len(found))


def test_a_run_can_be_repeated():
    table = table_of("cifar10")
    for name in ("evolution", _peers.RANDOM, _peers.NSGA2):
        runs = [_driving.drive(_peers.make(name, table, 30, 1), table, 30, 1) for _ in range(2)]
        assert runs[0].truth.tolist() == runs[1].truth.tolist()


def test_proposals_are_timed_with_the_searchs_own_trials():
    """A fast search is not filled up; what fills a slow one reaches it as a trial of its own."""
    table = table_of("cifar10")
    times = _proposals.seconds_per_proposal("evolution", table, (4, 30))
    assert times.keys() == {"4", "30", "own"}
    assert times["own"] == 30 + 15
    search = _peers.make("evolution", table, 60, 0)
    oven, rng = _tables.Oven(table, 0), np.random.default_rng(0)
    for _ in range(40):
        _proposals._step(search, table, oven, rng)
    assert len(search.oracle.end_order) == 40
    assert len(search.oracle.strategy.population) == 12
    own = search.ask()
    parents = [one.values for one in search.oracle.strategy.population]
    assert min(sum(own[edge] != one[edge] for edge in own) for one in parents) == 1


@pytest.mark.slow
def test_the_command_prints_json_and_keeps_its_runs(tmp_path):
    command = [
        *(sys.executable, ROOT / "benchmarks" / "nas_bench_201.py", "--json", "--jobs", "2"),
        *("--tables", "nas,hpo", "--datasets", "cifar10,phoneme", "--cache", tmp_path),
        *("--only", "random,evolution,optuna-tpe,kt-bayesian", "--reps", "2", "--hpo-reps", "2"),
        *("--evaluations", "30", "--hpo-evaluations", "25", "--bayesian-evaluations", "19"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    tables = json.loads(done.stdout)["tables"]
    titles = [row["title"] for row in tables["cifar10"]["rows"]]
    assert titles == ["RandomOracle", "RegularizedEvolutionOracle", "Optuna TPE"] + [
        "KerasTuner Bayesian"
    ]
    assert [row["title"] for row in tables["phoneme"]["rows"]] == titles[:3]
    for row in tables["cifar10"]["rows"][:3]:
        assert row["checkpoints"]["25"]["count"] == 2
    for row in tables["cifar10"]["rows"]:
        assert len(row["curve"]["mean"]) == row["evaluations"]
    assert len(list(tmp_path.glob("*.json"))) == 2 * 4 + 2 * 3


def test_the_command_names_what_it_does_not_know():
    command = [sys.executable, ROOT / "benchmarks" / "nas_bench_201.py", "--only", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "evolution" in done.stderr

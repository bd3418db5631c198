"""A slice of the benchmark: a strategy no better than random search fails here.

The expected result of random search is known exactly (`_tables.random_search`). The answer of
each repetition is measured from there in standard deviations of random search; for a strategy
of that level the mean of ``n`` has a standard error of ``1 / sqrt(n)``, and three are required.
"""

import json

import numpy as np
import pytest

from benchmarks import _driving, _peers, _proposals, _tables
from tests.benchmarks.scripted import table_of
from tests.integration import forkserver

ERRORS = 3.0
RANDOM = "RandomOracle"
# Queries and repetitions on each table. New strategies use the default; the surrogate has slow
# proposals but leads early; policies learn slowly.
DEFAULT = (100, 4)
SIZES = {"SurrogateOracle": (50, 2), "ReinforceOracle": (200, 4), "PPOOracle": (200, 4)}


def standardised_scores(name, evaluations, repetitions):
    """Answers in standard deviations above expected random search, on all three tables."""
    scores = []
    for dataset in _tables.NAS_BENCH_201:
        table = table_of(dataset)
        mean, spread = _tables.random_search(table, evaluations)
        for repetition in range(repetitions):
            # Seeds differ between tables, so that answers are independent.
            _, run = _driving.run_job(_driving.Job(dataset, name, evaluations, repetition))
            scores.append((run.truth[-1] - mean) / spread)
    return np.array(scores)


def test_every_oracle_of_the_claims_exists():
    assert _peers.missing() == []


@pytest.mark.parametrize(
    ("name", "title"), [item for item in _peers.ours().items() if RANDOM not in item]
)
def test_strategies_beat_random_search(name, title):
    scores = standardised_scores(name, *SIZES.get(title, DEFAULT))
    assert scores.mean() > ERRORS / np.sqrt(len(scores))


@pytest.mark.parametrize(
    ("name", "evaluations"),
    [(_peers.short_name(RANDOM), 10), (_peers.short_name(RANDOM), 60), (_peers.RANDOM, 10)],
)
def test_random_search_reaches_its_expected_accuracy(name, evaluations):
    """Ours and KerasTuner's; also shows that the test above can fail."""
    scores = standardised_scores(name, evaluations, 8)
    assert abs(scores.mean()) < ERRORS / np.sqrt(len(scores))


def test_optuna_tpe_beats_random_search():
    """Its TPE is known to be far ahead of random search after 100 queries."""
    scores = standardised_scores(_peers.TPE, 100, 3)
    assert scores.mean() > ERRORS / np.sqrt(len(scores))


def test_runs_are_reproducible():
    table = table_of("cifar10")
    for name in ("evolution", _peers.RANDOM, _peers.NSGA2):
        runs = [_driving.drive(_peers.make(name, table, 30, 1), table, 30, 1) for _ in range(2)]
        assert runs[0].truth.tolist() == runs[1].truth.tolist()


def test_proposal_times_include_trials_of_the_search_itself():
    """A fast search runs all its own trials; a slow one is filled with given trials."""
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
    parents = [member.values for member in search.oracle.strategy.population]
    assert min(sum(own[edge] != parent[edge] for edge in own) for parent in parents) == 1


def run_benchmark(*arguments, cwd):
    """The benchmark as a program."""
    file = str(forkserver.ROOT / "benchmarks" / "nas_bench_201.py")
    return forkserver.fork_server().run(
        forkserver.SCRIPT, cwd=cwd, file=file, arguments=list(arguments)
    )


@pytest.mark.slow
def test_the_command_prints_json_and_caches_its_runs(tmp_path):
    arguments = [
        *("--json", "--jobs", "2"),
        *("--tables", "nas,hpo", "--datasets", "cifar10,phoneme", "--cache", str(tmp_path)),
        *("--only", "random,evolution,optuna-tpe,kt-bayesian", "--reps", "2", "--hpo-reps", "2"),
        *("--evaluations", "30", "--hpo-evaluations", "25", "--bayesian-evaluations", "19"),
    ]
    process = run_benchmark(*arguments, cwd=tmp_path)
    assert process.returncode == 0, process.err[-2000:]
    tables = json.loads(process.out)["tables"]
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


def test_the_command_rejects_unknown_strategies(tmp_path):
    process = run_benchmark("--only", "nonsense", cwd=tmp_path)
    assert process.returncode == 2
    assert "nonsense" in process.err
    assert "evolution" in process.err

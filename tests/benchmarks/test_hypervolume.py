"""Fronts, hypervolumes and searches with two objectives."""

import numpy as np
import pytest

from benchmarks import _driving, _fronts, _peers, _statistics, _tables
from tests.benchmarks.scripted import Scripted, table_of


def problem_of(name="cifar10", cost="parameters"):
    return _fronts.Problem(table_of(name), cost)


@pytest.mark.parametrize("seed", range(8))
def test_hypervolume_of_grid_points_is_the_number_of_dominated_squares(seed):
    """Points on a grid dominate complete squares, which can be counted."""
    rng = np.random.default_rng(seed)
    points, reference = rng.integers(0, 12, size=(1 + 3 * seed, 2)), np.array([10, 9])
    corners = np.stack(np.meshgrid(np.arange(10), np.arange(9), indexing="ij"), axis=-1)
    dominated = (points[:, None, None, :] <= corners).all(axis=-1).any(axis=0)
    measured = _fronts.hypervolume(points.astype(float), reference.astype(float))
    assert measured == dominated.sum()


@pytest.mark.parametrize("seed", range(8))
def test_the_front_holds_the_non_dominated_points(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 8, size=(20, 2)).astype(float)
    expected = {
        tuple(point)
        for point in points
        if not any(
            (competitor <= point).all() and (competitor < point).any() for competitor in points
        )
    }
    front_points = points[_fronts.front(points)]
    assert {tuple(point) for point in front_points} == expected
    assert len(front_points) == len(expected)


@pytest.mark.parametrize("name", _tables.NAS_BENCH_201)
@pytest.mark.parametrize("cost", _fronts.COSTS)
def test_the_full_table_has_a_hypervolume_share_of_one(name, cost):
    problem = problem_of(name, cost)
    assert problem.share(problem.points) == pytest.approx(1.0, abs=1e-12)
    # Every point of the exact front contributes, including its ends.
    for removed in range(len(problem.exact)):
        assert problem.share(np.delete(problem.exact, removed, axis=0)) < 1.0


def test_a_search_is_measured_by_the_hypervolume_of_its_observed_front():
    """The largest cell is worse than the best in both objectives, and is dropped at once."""
    problem = problem_of()
    truth, cost = problem.table.truth, problem.cost
    largest, best = int(np.argmax(cost)), int(np.argmax(truth))
    smallest = int(np.flatnonzero(cost == cost.min())[np.argmax(truth[cost == cost.min()])])
    rows = [largest, best, smallest]
    search = Scripted(problem.table, rows)
    run = _driving.drive_front(search, problem, 3, seed=0)
    fronts = [[largest], [best], [best, smallest]]
    assert run.truth.tolist() == pytest.approx([problem.share(problem.points[f]) for f in fronts])
    assert [metrics["parameters"] for metrics in search.reported] == cost[rows].tolist()
    for row, metrics in zip(rows, search.reported, strict=True):
        assert np.isclose(100 - metrics["error"], problem.table.answers[row]).any()


def test_nsga2_beats_random_search():
    """Paired by repetition; each repetition has its own seed, so that they are independent.

    The benchmark also compares it with Optuna's NSGA-II.
    """
    shares = {"NSGA2Oracle": [], "RandomOracle": []}
    problems = [(name, cost) for name in _tables.NAS_BENCH_201 for cost in _fronts.COSTS]
    for number, (name, cost) in enumerate(problems):
        for repetition in (2 * number, 2 * number + 1):
            for title, repetition_shares in shares.items():
                job = _driving.Job(name, _peers.short_name(title), 100, repetition, cost)
                repetition_shares.append(_driving.run_job(job)[1].truth[-1])
    gain, p = _statistics.paired(*map(np.array, shares.values()))
    assert gain.count == 12  # it is 0.06 with an error of 0.01
    assert p < 0.01

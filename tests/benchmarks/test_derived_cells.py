"""The benchmark of derived cells: its table, and batches without end."""

import itertools

import numpy as np

from benchmarks import derived_cells


def result(method, accuracy, *, stopped=None):
    return {
        "method": method,
        "accuracy": accuracy,
        "empty": 2,
        "stopped": stopped,
        "seconds": 10.0,
    }


def test_the_table_has_the_random_cells_and_each_method():
    results = [
        result("darts", 0.9),
        result("darts", 0.8, stopped="the loss was not finite in epoch 3"),
        result("gdas", 0.95),
    ]
    lines = derived_cells.report([0.7, 0.9], results).splitlines()
    assert lines[2:] == [
        "| 2 random | 0.8000 | 0.7000 to 0.9000 | | | |",
        "| darts | 0.8500 | 0.9000, 0.8000 | 2, 2 | 1 of 2 | 10 |",
        "| gdas | 0.9500 | 0.9500 | 2 | 0 of 1 | 10 |",
    ]


def test_batches_of_the_alphas_have_no_end():
    x, y = np.arange(70.0), np.arange(70)
    endless = derived_cells._endless(x, y, np.random.default_rng(0))
    drawn = list(itertools.islice(endless, 5))
    assert [len(labels) for _, labels, _ in drawn] == [32] * 5
    assert all((rows == labels).all() for rows, labels, _ in drawn)

"""The report and the samples of the benchmark of supernets."""

import numpy as np

from benchmarks import supernet_ranks


def test_the_report_has_each_rank_correlation_beside_that_of_the_parameters():
    truth = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    alone = {
        "accuracy": truth,
        "parameters": [6, 5, 4, 3, 2, 1],
        "milliseconds": 2.0,
        "megabytes": 100.0,
    }
    supernet = {"accuracy": truth, "raw": [0.1] * 6, "milliseconds": 5.0, "megabytes": 250.0}
    text = supernet_ranks.report(alone, {"uniform": supernet})
    assert "6 cells alone: accuracy 0.500 to 0.950, 2.00 ms per step, 100 MiB" in text
    row, parameters = text.splitlines()[-2:]
    assert row.startswith("| supernet, uniform | 1.00 (")
    assert row.endswith("| 0.00 (-0.72 to 0.72) | 5.00 | 2.50 | 250 |")
    assert parameters.startswith("| parameters | -1.00 (")


def test_cells_are_distinct_and_batches_are_full():
    cells = supernet_ranks.cells(6, 0)
    assert len({str(sorted(values.items())) for values in cells}) == 6
    x, y, x_val, y_val = supernet_ranks.digits(100)
    assert (len(x), len(y)) == (100, 100)
    assert len(x_val) == len(y_val) == 1697
    drawn = supernet_ranks.batches(x, y, np.random.default_rng(0))
    assert [len(rows) for rows, _, _ in drawn] == [32] * 3

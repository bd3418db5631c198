"""Helpers shared by the tests of the benchmarks."""

import numpy as np

from benchmarks import _tables


def table_of(name):
    (table,) = _tables.load((name,))
    return table


class Scripted:
    """A search that proposes given rows of a table and records the reported metrics."""

    def __init__(self, table, rows):
        self._table, self._rows, self.reported = table, iter(rows), []

    def ask(self):
        sizes = [len(parameter.values) for parameter in self._table.parameters]
        indices = np.unravel_index(next(self._rows), sizes)
        return {p.name: p.values[i] for p, i in zip(self._table.parameters, indices, strict=True)}

    def tell(self, metrics):
        self.reported.append(metrics)

"""Parts that the tests of the benchmarks share."""

import numpy as np

from benchmarks import _tables


def table_of(name):
    (table,) = _tables.load((name,))
    return table


class Scripted:
    """A search that proposes given rows of a table, and notes what it is told."""

    def __init__(self, table, rows):
        self._table, self._rows, self.told = table, iter(rows), []

    def ask(self):
        sizes = [len(parameter.values) for parameter in self._table.parameters]
        places = np.unravel_index(next(self._rows), sizes)
        return {p.name: p.values[i] for p, i in zip(self._table.parameters, places, strict=True)}

    def tell(self, metrics):
        self.told.append(metrics)

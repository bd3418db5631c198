"""One decision of a search space as a column of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Domain, Integer, Real

#: Code of a value that an unordered column does not know: equal to no other value.
UNKNOWN = -1.0

# Ordered domains with more values than this are coded as if they were continuous.
_LISTED = 1024


class Column:
    """One decision with at least two values, as numbers.

    A code is an index for an unordered domain and a position in [0, 1] for an ordered
    one: the domain's own, at most 1024 of them, or any when there are more values.

    Args:
        name: The decision's name; several columns may have one name.
        domain: The decision's values.
        conditional: Whether the decision may be inactive.
    """

    def __init__(self, name: str, domain: Domain, conditional: bool) -> None:
        self.name = name
        self.domain = domain
        self.conditional = conditional
        self.ordered = domain.ordered
        few = domain.size is not None and (not domain.ordered or domain.size <= _LISTED)
        #: All values in order, or None when they are too many to list.
        self.values = tuple(domain.values()) if few else None
        self._codes = np.arange(len(self.values), dtype=float) if few else np.zeros(0)
        self._even = few
        if few and self.ordered:
            self._codes = np.array([min(max(domain.position(v), 0.0), 1.0) for v in self.values])
            middles = (np.arange(len(self.values)) + 0.5) / len(self.values)
            self._even = bool(np.allclose(self._codes, middles, rtol=0.0, atol=1e-9))
        self._edges = (self._codes[1:] + self._codes[:-1]) / 2.0

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.domain}, conditional={self.conditional})"

    def code(self, value: Any) -> float | None:
        """The number of a value; None where it means nothing to this column.

        A number outside the range of a numeric domain counts as the nearest one inside.
        """
        if self.domain.contains(value):
            if not self.ordered:
                return float(self._index(value))
            return self._canonical(self.domain.position(value))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(self.domain, Integer | Real) and number and math.isfinite(value):
            near = min(max(value, self.domain.low), self.domain.high)
            return self._canonical(self.domain.position(near))
        return None

    def _index(self, value: Any) -> int:
        same = [i for i, other in enumerate(self.values) if other == value]
        return next((i for i in same if type(self.values[i]) is type(value)), same[0])

    def _canonical(self, position: float) -> float:
        if self.values is not None:
            return float(self._codes[self.indices(np.array([position]))[0]])
        return min(max(position, 0.0), 1.0)

    def value(self, code: float) -> Any:
        """The value of a code.

        Raises:
            SearchSpaceError: The code belongs to no value.
        """
        if not 0.0 <= code <= (1.0 if self.ordered else len(self.values) - 1.0):
            raise SearchSpaceError(f"a code of {self} needs to be one of a value; received {code}")
        if self.values is not None:
            return self.values[int(self.indices(np.array([code]))[0])]
        return self.domain.at(min(float(code), math.nextafter(1.0, 0.0)))

    def indices(self, codes: np.ndarray) -> np.ndarray:
        """Index of each code's value among `values`.

        Args:
            codes: Shape ``[n]``, known codes of this column.

        Returns:
            Integers of shape ``[n]``.
        """
        if not self.ordered:
            return codes.astype(np.intp)
        return np.searchsorted(self._edges, codes, side="right")

    def near(self, positions: np.ndarray) -> np.ndarray:
        """Codes of the listed values nearest to positions of an ordered column.

        Args:
            positions: Shape ``[n]``, in [0, 1].

        Returns:
            Codes of shape ``[n]``.
        """
        return self._codes[self.indices(positions)]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Codes of the values at these positions: `Domain.at` for many at once.

        Args:
            positions: Shape ``[n]``, in [0, 1).

        Returns:
            Codes, shape ``[n]``: positions drawn uniformly give values as the domain
            draws them.
        """
        if self.values is None:
            return positions.copy()
        if self._even:
            return self._codes[(positions * len(self.values)).astype(np.intp)]
        drawn = [self.domain.position(self.domain.at(float(one))) for one in positions]
        return self._codes[self.indices(np.array(drawn))]

    def beside(self, codes: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Codes one value up or down in a listed ordered column; inwards at its ends.

        Args:
            codes: Shape ``[n]``, known codes of this column.
            up: Booleans of shape ``[n]``.

        Returns:
            Codes of shape ``[n]``.
        """
        at = self.indices(codes)
        to = at + np.where(up, 1, -1)
        inside = (to >= 0) & (to < len(self.values))
        return self._codes[np.where(inside, to, 2 * at - to)]
